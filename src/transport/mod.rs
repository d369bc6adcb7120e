//! Connections: the mutual-TLS listener, the dialer, and why a connection was
//! refused.
//!
//! Invariants: nobody comes in without a certificate that verifies against our
//! roots; each new connection is judged by the newest material; what a peer is
//! told of a refusal is a TLS alert, what our own operator is told is the
//! reason. This room must not know what travels on a connection.

mod dialer;
mod listener;

#[cfg(test)]
mod tests;

pub use dialer::{DialError, DialOptions, Dialed, dial, explain};
pub use listener::{Connection, Listener, ListenerOptions, PeerInfo};
