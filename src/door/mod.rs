//! What local systems talk to: the same few use cases beneath gRPC and plain HTTP.
