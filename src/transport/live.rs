//! The connections that are open, by the certificate that was verified when
//! they began: whoever loses his right is cut, whatever he is doing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::identity::PeerIdentity;

/// Every open connection of a listener.
#[derive(Debug, Clone, Default)]
pub struct LiveConnections {
    open: Arc<Mutex<HashMap<u64, Open>>>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Open {
    identity: Arc<PeerIdentity>,
    cut: CancellationToken,
}

/// Takes its connection out of the list when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    connections: LiveConnections,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.number);
    }
}

impl LiveConnections {
    pub(super) fn add(
        &self,
        identity: Arc<PeerIdentity>,
    ) -> (Entry, WaitForCancellationFutureOwned) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = CancellationToken::new();
        let is_cut = cut.clone().cancelled_owned();
        self.lock().insert(number, Open { identity, cut });
        let entry = Entry {
            connections: self.clone(),
            number,
        };
        (entry, is_cut)
    }

    /// Ends the connections of every identity for which `is_out` holds; says
    /// how many that were.
    pub fn cut(&self, is_out: impl Fn(&PeerIdentity) -> bool) -> usize {
        let open = self.lock();
        let out = open.values().filter(|found| is_out(&found.identity));
        out.map(|found| found.cut.cancel()).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
