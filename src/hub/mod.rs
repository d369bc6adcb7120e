//! The national node: accepting links, sessions, waking deliveries. Must not know the adapter.
