//! The national node: accepting links, sessions, routing, waking deliveries.
//!
//! Invariants: a party is what its certificate says and what the registry
//! allows, at every moment of a session; what the hub acknowledges is on its
//! disk. Must not know the adapter.

mod behind;
mod enrolment;
mod enrolment_service;
mod exchange;
mod lifetime;
mod minimum;
mod patience;
mod peers;
mod run;
mod sessions;
mod store;
#[cfg(test)]
mod testing;

pub use behind::Behind;
pub use exchange::{Board, Exchange, status_of};
pub use peers::{ByCertificate, Refused, is_out, resolve};
pub use run::{HubAddresses, HubError, ca_files, link_server, own_files, run};
pub use sessions::{
    Begun, Contest, FENCED_MICROS, SessionFacts, SessionGuard, Sessions, TWO_INSTANCES, TooEarly,
    forbidden,
};
