//! What can go wrong in a store.

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Can't write or read now (disk full, read-only, I/O error). Nothing was
    /// stored; safe to retry.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another session of this party took over.
    #[error("another session of this party took over")]
    Fenced,
    /// The journal does not stand where the caller thinks.
    #[error("the journal does not stand where the caller thinks: {0}")]
    Mismatch(String),
    /// What was to be stored is not valid.
    #[error("{0}")]
    Invalid(String),
    /// What is on disk contradicts itself; a person has to look.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}
