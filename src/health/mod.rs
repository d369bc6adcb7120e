//! How the synchronisation stands: verdicts for people, numbers for machines.
//!
//! Invariants: reads only; a verdict says since when and what to do; health is
//! red when the store can't write. This room must not change anything.

mod metrics;
mod service;
mod verdict;

use std::sync::Arc;

use crate::{
    domain::{Micros, PartyId},
    link::LinkState,
    runtime::Clock,
    store::{Counts, Heads, HubStore, Store, StoreError},
};

pub use metrics::{health_router, serving};
pub use service::{MayOperate, SyncHealth};
pub use verdict::{Judged, judge};

/// Lists the parties of a node and how their links stand; `None`: the party
/// keeps no link.
pub type Links = Arc<dyn Fn() -> Vec<(PartyId, Option<LinkState>)> + Send + Sync>;

/// What health is read from.
#[derive(Clone)]
pub struct Source {
    /// `hub` or `adapter`.
    pub role: &'static str,
    /// The node's store.
    pub store: Arc<dyn Store>,
    /// The same, at a hub.
    pub hub: Option<Arc<dyn HubStore>>,
    /// Parties and links.
    pub links: Links,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
}

/// One party, read.
pub struct PartyHealth {
    /// Who.
    pub party: PartyId,
    /// Its link.
    pub link: Option<LinkState>,
    /// Its journals.
    pub heads: Heads,
    /// Outcomes.
    pub counts: Counts,
    /// The verdict.
    pub judged: Judged,
}

impl Source {
    /// Reads one party, or all.
    ///
    /// # Errors
    /// The store can't read.
    pub async fn read(&self, only: Option<&PartyId>) -> Result<Vec<PartyHealth>, StoreError> {
        let now = Micros(self.clock.now_micros());
        let mut found = Vec::new();
        for (party, link) in (self.links)() {
            if only.is_some_and(|only| only != &party) {
                continue;
            }
            let heads = self.store.heads(&party).await?;
            let counts = self.store.counts(&party).await?;
            let judged = if self.is_disabled(&party) {
                verdict::disabled(link.as_ref(), &party)
            } else {
                judge(link.as_ref(), &heads, self.hub.is_some(), now)
            };
            found.push(PartyHealth {
                party,
                link,
                heads,
                counts,
                judged,
            });
        }
        Ok(found)
    }

    /// Only the hub knows who is.
    fn is_disabled(&self, party: &PartyId) -> bool {
        let Some(hub) = &self.hub else { return false };
        let registry = hub.registry().borrow().clone();
        let known = registry.directory.parties.get(party);
        known.is_some_and(|party| !party.enabled)
    }
}
