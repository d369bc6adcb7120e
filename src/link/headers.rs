//! The hub's store writes delivery headers, and does not know the wire: this
//! is what it is given.

use bytes::Bytes;

use crate::{domain::DeliveryRecord, store::HeaderEncoder, wire};

/// Encodes headers as the contract says.
#[derive(Debug, Clone, Copy, Default)]
pub struct WireHeaders;

impl HeaderEncoder for WireHeaders {
    fn encode(&self, record: &DeliveryRecord) -> Bytes {
        wire::encode_header(record)
    }
}
