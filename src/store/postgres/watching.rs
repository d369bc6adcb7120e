//! Who waits for a party's journals to move, and what other replicas are told.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::domain::PartyId;

/// What is to be said to other replicas.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) parties: BTreeSet<PartyId>,
    pub(super) is_directory: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.parties.is_empty() && !self.is_directory
    }
}

/// Wakes whoever watches a party, here and, through the listener, elsewhere.
#[derive(Default)]
pub(super) struct Wakers {
    by_party: Mutex<HashMap<PartyId, watch::Sender<u64>>>,
    news: Mutex<News>,
    is_news: Notify,
}

impl Wakers {
    pub(super) fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        let mut by_party = lock(&self.by_party);
        by_party
            .entry(party.clone())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// A commit of this replica touched these parties.
    pub(super) fn changed_here(&self, parties: impl IntoIterator<Item = PartyId>) {
        for party in parties {
            self.wake(&party);
            lock(&self.news).parties.insert(party);
        }
        self.is_news.notify_one();
    }

    /// This replica changed the directory.
    pub(super) fn directory_changed_here(&self) {
        lock(&self.news).is_directory = true;
        self.is_news.notify_one();
    }

    /// Something of this party has moved, here or elsewhere.
    pub(super) fn wake(&self, party: &PartyId) {
        if let Some(waker) = lock(&self.by_party).get(party) {
            waker.send_modify(|counter| *counter += 1);
        }
    }

    /// What there is to say, once there is something; what comes meanwhile is
    /// joined to it.
    pub(super) async fn news(&self) -> News {
        loop {
            let news = std::mem::take(&mut *lock(&self.news));
            if !news.is_empty() {
                return news;
            }
            self.is_news.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
