//! Jembatan carries citizen complaints between regional complaint systems and
//! a national hub, and never loses, doubles or strands one.
//!
//! A node is a door for local systems, a store, and an exchange. An adapter
//! is a node with one link up to the hub; the hub is a node that accepts many
//! links and decides. `ARCHITECTURE.md` shows the rooms and who may know whom.

pub mod adapter;
pub mod cli;
pub mod config;
pub mod domain;
pub mod door;
pub mod exchange;
pub mod health;
pub mod hub;
pub mod identity;
pub mod link;
pub mod node;
pub mod runtime;
pub mod store;
pub mod transport;
pub mod wire;
