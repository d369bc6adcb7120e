//! What a listener refused: counted by reason, the last one kept.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::identity::Refusal;

/// Refused connections since the start. Reasons are a closed list of our own,
/// so a stranger can't make it grow.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Refusals {
    /// How many, by reason.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().clone()
    }

    /// Notes one and tells our own operator; the caller gets a TLS alert.
    pub(super) fn note(&self, remote: SocketAddr, refusal: &Refusal) {
        let Refusal { reason, why } = refusal;
        tracing::warn!(event = "tls_refused", %remote, reason, why);
        *self.lock().entry(reason).or_default() += 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
