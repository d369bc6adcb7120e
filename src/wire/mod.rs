//! Generated code, and the conversions between it and the plain values of the
//! other rooms. The only room that knows both; it does no I/O and decides
//! nothing.

mod body;
mod codec;
mod compose;
mod directory;
mod event;
mod frame;
mod gateway;
mod header;
mod parts;
mod scalar;
mod time;

#[cfg(test)]
mod tests;

pub use codec::LeanCodec;
pub use compose::{Composed, Composing, compose};
pub use directory::{
    category_to_proto, institution_from_proto, institution_to_proto, party_from_proto,
    party_to_proto, rule_to_proto,
};
pub use event::{decode_event, encode_event, event_to_proto};
pub use frame::{
    frame_from_proto, frame_to_proto, journal_from, journal_to, limits_to_proto, place_to,
};
pub use gateway::{
    complaint_name_from, complaint_name_to, handover_from_proto, handover_to_proto, inbox_event,
    is_readable, progress_to_proto, receipt_to_proto, system_of,
};
pub use header::{decision_to_proto, decode_header, encode_header};
pub use parts::{content_part, decode_content, decode_reporter, part_reference, reporter_part};
pub use scalar::{micros, status_to_proto, timestamp};
pub use time::Timestamp;

/// Messages and services generated from `proto/jembatan/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[allow(clippy::unwrap_used, clippy::todo)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/jembatan.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/jembatan.v1.serde.rs"));

    /// The descriptor set of the contract, with source comments.
    pub const DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/jembatan.v1.descriptor.bin"));
}
