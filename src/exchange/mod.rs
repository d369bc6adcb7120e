//! The protocol without I/O: journal chains, windows, frames, the rules of
//! opening, the session state machine. Time and frames go in, effects come
//! out; the clock, the network and the store are somebody else's.
//!
//! Invariants: nothing here waits, reads a clock or draws a random number;
//! nothing here knows protobuf or SQL.

mod frame;
mod journal;
mod opening;
mod receiver;
mod retry;
mod sender;
mod session;
#[cfg(test)]
mod tests;

pub use frame::{
    Acknowledgement, CopyRequest, Drain, DrainReason, Entries, Entry, Frame, Heartbeat, Open,
    Opened, PreviousEpoch,
};
pub use journal::{
    Direction, Place, delivery_digest, entry_digest, event_digest, extend, next_chain, root_chain,
};
pub use opening::{Adopt, LocalState, Plan, Verdict, hub_alarm, judge, needs_chain_at};
pub use receiver::{Check, Mismatch, Receiver};
pub use retry::{Retry, RetryCause};
pub use sender::{Sender, Violation};
pub use session::{Effect, End, HeartbeatFacts, Input, Session, SessionOptions};
