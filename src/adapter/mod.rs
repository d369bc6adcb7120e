//! The node of a region: one link for each of its parties, its doors, its
//! supervision.
//!
//! Invariants: the door stays open whatever the line does; a link comes back
//! for ever; after new certificates the new session is opened first. Must not
//! know the hub.

mod certificates;
mod end;
mod hubs;
mod party;
mod prune;
mod renewal;
mod run;
mod store;

pub use hubs::Hubs;
pub use party::PartyLink;
pub use run::{AdapterAddresses, AdapterError, party_files, run};
