//! Drives an exchange session over a transport and a store; the same code at
//! both ends.
//!
//! Invariants: nothing is acknowledged before it is on disk; the reader of the
//! line never waits for the writer; every wait is bounded. This room must not
//! know doors, routing, or who may connect.

mod drive;
mod envelope;
mod headers;
mod node;
mod renew;
mod serve;
mod side;
mod state;

pub use drive::LinkEnd;
pub use envelope::Answer;
pub use headers::WireHeaders;
pub use node::{Admitted, NodeLink, admit, open_frame, prepare, run_admitted, run_node, serves};
pub use renew::{RenewError, renew_certificate};
pub use serve::{HubLink, HubSession, OpenRefused, answer, first_frame, hub_session, open_hub};
pub use state::{LinkAlarm, LinkState, Phase};

/// The version of the protocol that this software speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name and version, as peers show it.
pub fn software() -> String {
    format!("jembatan/{}", env!("CARGO_PKG_VERSION"))
}
