//! Connections: the mutual-TLS listener, the dialer, why a connection was
//! refused, and the sockets of a node's own doors.
//!
//! Invariants: at the mutual-TLS port nobody comes in without a certificate
//! that verifies against our roots, but visitors who say first that they come
//! to join: they come out as connections of another kind. Each new connection is judged by the newest material; what a peer is
//! told of a refusal is a TLS alert, what our own operator is told is the
//! reason; whoever stalls keeps nobody waiting. This room must not know what
//! travels on a connection.

mod dialer;
mod door;
mod listener;
mod live;
mod network;
mod pending;
mod proxy;
mod refusals;
mod visit;
mod visitor;
mod watched;

#[cfg(test)]
mod tests;

pub use dialer::{DialError, DialOptions, Dialed, dial, dial_over};
pub use door::{DoorListener, DoorStream, dial_door};
pub use listener::{Connection, Listener, ListenerOptions, PeerInfo};
pub use live::LiveConnections;
pub use network::{Io, Network, Port, Stream, Tcp};
pub use proxy::Proxy;
pub use refusals::Refusals;
pub use visit::{Visit, visit};
pub use visitor::{Visitor, VisitorInfo};
pub use watched::LastWords;
