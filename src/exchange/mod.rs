//! The protocol without I/O: journal chains, windows, frames, the rules of
//! opening, the session state machine. Time and frames go in, effects come
//! out; the clock, the network and the store are somebody else's.
//!
//! Invariants: nothing here waits, reads a clock or draws a random number;
//! nothing here knows protobuf or SQL.

mod frame;
mod journal;

pub use frame::{
    Acknowledgement, CopyRequest, Drain, DrainReason, Entries, Entry, Frame, Heartbeat, Open,
    Opened, PreviousEpoch,
};
pub use journal::{
    Direction, Place, delivery_digest, entry_digest, event_digest, next_chain, root_chain,
};
