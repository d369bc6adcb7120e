//! How the synchronisation stands: verdicts for people, numbers for machines.
//!
//! Invariants: reads only; a verdict says since when and what to do; health is
//! red when the store can't write. This room must not change anything.

mod checks;
mod metrics;
mod service;
mod verdict;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::{Micros, PartyId},
    link::{LinkState, Phase},
    runtime::Clock,
    store::{Counts, Heads, HubStore, Store, StoreError, UnmappedStatus},
};

pub use checks::{CertificateFor, CertificateHealth, Check, Checks, Needs};
pub use metrics::{MayMeasure, health_router};
pub use service::{MayOperate, SyncHealth};
pub use verdict::{Judged, judge};

/// Lists the parties of a node and how their links stand; `None`: the party
/// keeps no link.
pub type Links = Arc<dyn Fn() -> Vec<(PartyId, Option<LinkState>)> + Send + Sync>;

/// The certificates in use.
pub type Certificates = Arc<dyn Fn() -> Vec<CertificateHealth> + Send + Sync>;

/// Counts live sessions.
pub type LiveSessions = Arc<dyn Fn() -> usize + Send + Sync>;
/// Something of the whole node that a person must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// For machines, for example `CRL_EXPIRED`.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub why: String,
}

/// What a node tells about itself beside its links and its store.
#[derive(Clone)]
pub struct Facts {
    /// What a person must look at now.
    pub alarms: Arc<dyn Fn() -> Vec<Alarm> + Send + Sync>,
    /// Callers that TLS refused since the start, by reason.
    pub tls_refused: Arc<dyn Fn() -> BTreeMap<&'static str, u64> + Send + Sync>,
}

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
    /// Certificates of links and doors.
    pub certificates: Certificates,
    /// Live sessions, at a hub.
    pub sessions: Option<LiveSessions>,
    /// Beside them.
    pub facts: Facts,
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
    /// Deliveries that this node could not read and nobody has settled.
    pub unread: u64,
    /// Local statuses that wait for a row in the mapping table.
    pub unmapped: Vec<UnmappedStatus>,
    /// Everything that the hub had for it at this moment is held here.
    pub complete_up_to: Option<Micros>,
    /// The verdict.
    pub judged: Judged,
}

/// Unmapped statuses that are shown of a party, at most.
const UNMAPPED_SHOWN: usize = 100;

/// The moment, by the hub's clock, up to which everything that the hub had for
/// this party is held here; `None`: not known now. At a node that is the time
/// of the hub's last heartbeat, if its head is ours; the hub itself has always
/// everything.
pub fn complete_up_to(
    link: Option<&LinkState>,
    heads: &Heads,
    is_hub: bool,
    now: Micros,
) -> Option<Micros> {
    if is_hub {
        return Some(now);
    }
    let link = link.filter(|link| link.phase == Phase::Connected)?;
    let heartbeat = link.heartbeat.as_ref()?;
    (heartbeat.deliveries_head <= heads.deliveries).then_some(heartbeat.sent_at)
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
            let unmapped = self.store.unmapped(&party, UNMAPPED_SHOWN).await?;
            let is_hub = self.hub.is_some();
            // A hub reads no deliveries.
            let unread = match is_hub {
                true => 0,
                false => self.store.unread(&party).await?,
            };
            let complete_up_to = complete_up_to(link.as_ref(), &heads, is_hub, now);
            let judged = if self.is_disabled(&party) {
                verdict::disabled(link.as_ref(), &party)
            } else {
                let judged = judge(link.as_ref(), &heads, is_hub, now);
                let parked = if is_hub { counts.parked } else { 0 };
                verdict::with_letters(judged, parked, unread)
            };
            found.push(PartyHealth {
                party,
                link,
                heads,
                counts,
                unread,
                unmapped,
                complete_up_to,
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
