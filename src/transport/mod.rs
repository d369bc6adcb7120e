//! Listener, dialer, limits, and the mapping of errors to gRPC statuses.
