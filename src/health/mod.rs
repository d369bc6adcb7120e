//! The sync-health model, health services, metrics.
