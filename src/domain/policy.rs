//! Numbers that are policy, not physics: configured by the hub's operator and
//! announced to everyone.

use serde::{Deserialize, Serialize};

use super::Micros;

/// Largest encoded event. A constant of v1, never lowered.
pub const EVENT_BYTES: usize = 64 * 1024;
/// Largest part. A constant of v1, never lowered.
pub const PART_BYTES: usize = 256 * 1024;
/// Parts that one event may name. A constant of v1, which knows two kinds.
pub const PARTS_PER_EVENT: usize = 4;

/// Largest message of a link that is read: one entry with all that it may have
/// fits, and so does a page of a background copy. Whoever sends a larger one
/// harms its own link only.
pub const LINK_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Largest message of a link that a node reads from its hub: more than the hub
/// ever reads, so that nothing that one party sent can end another one's link.
pub const HUB_MESSAGE_BYTES: usize = 2 * LINK_MESSAGE_BYTES;

/// What the hub's operator decides about complaints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Forwardings between institutions after which a complaint goes to
    /// national triage with its history.
    pub max_hops: u32,
    /// Events that one complaint may have.
    pub events_per_complaint: u32,
    /// Attachments that one event may have.
    pub attachments_per_event: u32,
    /// Largest attachment, in bytes.
    pub attachment_bytes: u64,
    /// Version of this policy, as the operator counts; empty: not counted.
    pub version: String,
    /// First day on which this version holds, ISO 8601; empty: not told.
    pub effective_on: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_hops: 5,
            events_per_complaint: 1_000,
            attachments_per_event: 5,
            attachment_bytes: 5 * 1024 * 1024,
            version: String::new(),
            effective_on: String::new(),
        }
    }
}

/// The earliest software that a hub will accept from a moment on; announced in
/// heartbeats 90 days ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinimumVersion {
    /// As software names itself.
    pub version: String,
    /// From when on.
    pub from: Micros,
}

/// Limits of links and doors; the hub announces its own in `Opened`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Entries sent and not acknowledged.
    pub window_entries: u32,
    /// Bytes sent and not acknowledged.
    pub window_bytes: u64,
    /// Bytes of a frame, or one entry.
    pub frame_bytes: u32,
    /// Time between heartbeats, milliseconds.
    pub heartbeat_interval_ms: u32,
    /// Silence after which the peer is taken for dead, milliseconds.
    pub dead_after_ms: u32,
    /// Longest wait of a fetch at a door, milliseconds.
    pub fetch_wait_ms: u32,
    /// Events that one complaint may have. No setting of its own: the hub
    /// announces what its [`Policy`] says.
    #[serde(skip)]
    pub events_per_complaint: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_entries: 4_096,
            window_bytes: 4 * 1024 * 1024,
            frame_bytes: 64 * 1024,
            heartbeat_interval_ms: 10_000,
            dead_after_ms: 45_000,
            fetch_wait_ms: 30_000,
            events_per_complaint: Policy::default().events_per_complaint,
        }
    }
}
