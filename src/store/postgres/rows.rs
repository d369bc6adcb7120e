//! How plain values stand in rows.

use tokio_postgres::Row;

use crate::{
    domain::{Digest, Part, PartKind, PartState, PartyId},
    store::StoreError,
};

use super::damaged;

pub(super) use crate::store::standing::{POSITION_BITS, position_of, row_id};

/// 16 bytes of a column.
pub(super) fn id16(bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes
        .try_into()
        .map_err(|_| damaged("16 bytes are expected of an id"))
}

/// A digest of a column.
pub(super) fn digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    Digest::from_slice(bytes).ok_or_else(|| damaged("32 bytes are expected of a digest"))
}

/// A party of a column.
pub(super) fn party(row: &Row, column: usize) -> Result<PartyId, StoreError> {
    PartyId::parse(row.try_get(column)?).map_err(|_| damaged("a party's id"))
}

/// A position, or something counted, of a column.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, StoreError> {
    Ok(row.try_get::<_, i64>(column)? as u64)
}

/// The number of a kind of part.
pub(super) fn kind_number(kind: PartKind) -> i16 {
    match kind {
        PartKind::Content => 0,
        PartKind::Reporter => 1,
    }
}

/// The kind of part with this number.
pub(super) fn kind_from(number: i16) -> Result<PartKind, StoreError> {
    match number {
        0 => Ok(PartKind::Content),
        1 => Ok(PartKind::Reporter),
        _ => Err(damaged("a part of an unknown kind")),
    }
}

/// Bits of the kinds that may be read.
pub(super) fn readable_bits(kinds: &[PartKind]) -> i16 {
    kinds
        .iter()
        .fold(0, |bits, kind| bits | (1 << kind_number(*kind)))
}

/// What stands beside an event whose parts anybody may read.
pub(super) const ALL_READABLE: i16 = 3;

/// A part of (kind, sha256, bytes, erased_by) from a column on; one that may
/// not be read comes as withheld.
pub(super) fn part(row: &Row, column: usize, readable: i16) -> Result<Part, StoreError> {
    let kind = kind_from(row.try_get(column)?)?;
    let erased_by: Option<&[u8]> = row.try_get(column + 3)?;
    let is_readable = readable & (1 << kind_number(kind)) != 0;
    let state = match (erased_by, row.try_get::<_, Option<&[u8]>>(column + 2)?) {
        (Some(by), _) => PartState::Erased(crate::domain::EventId::from_bytes(id16(by)?)),
        (None, Some(bytes)) if is_readable => {
            PartState::Present(bytes::Bytes::copy_from_slice(bytes))
        }
        _ => PartState::Withheld,
    };
    Ok(Part {
        kind,
        sha256: digest(row.try_get(column + 1)?)?,
        state,
    })
}
