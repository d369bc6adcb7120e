//! The parts of an event, as one column of its row: kind, state, digest, and
//! then bytes or what erased them.
//!
//! A part without bytes that was not erased is withheld from this node.

use bytes::{Buf as _, Bytes};

use crate::{
    domain::{Digest, EventId, PARTS_PER_EVENT, Part, PartKind, PartState},
    store::StoreError,
};

const WITHHELD: u8 = 0;
const PRESENT: u8 = 1;
const ERASED: u8 = 2;

fn kind_number(kind: PartKind) -> u8 {
    match kind {
        PartKind::Content => 0,
        PartKind::Reporter => 1,
    }
}

/// Bits of the kinds that may be read.
pub(super) fn readable_bits(kinds: &[PartKind]) -> i64 {
    kinds
        .iter()
        .fold(0, |bits, kind| bits | (1 << kind_number(*kind)))
}

/// Parts as a column keeps them; `None`: there are none.
pub(super) fn pack(parts: &[Part]) -> Option<Vec<u8>> {
    let parts = parts.iter().take(PARTS_PER_EVENT);
    let size = parts.clone().map(|part| match &part.state {
        PartState::Present(bytes) => 38 + bytes.len(),
        PartState::Withheld | PartState::Erased(_) => 50,
    });
    let mut packed = Vec::with_capacity(size.sum());
    for part in parts {
        let state = match &part.state {
            PartState::Withheld => WITHHELD,
            PartState::Present(_) => PRESENT,
            PartState::Erased(_) => ERASED,
        };
        packed.extend_from_slice(&[kind_number(part.kind), state]);
        packed.extend_from_slice(part.sha256.as_bytes());
        match &part.state {
            PartState::Withheld => {}
            PartState::Present(bytes) => {
                packed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                packed.extend_from_slice(bytes);
            }
            PartState::Erased(by) => packed.extend_from_slice(by.as_bytes()),
        }
    }
    (!packed.is_empty()).then_some(packed)
}

/// The parts of a column; those that may not be read come as withheld.
pub(super) fn unpack(packed: Option<Vec<u8>>, readable: i64) -> Result<Vec<Part>, StoreError> {
    let mut rest = Bytes::from(packed.unwrap_or_default());
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let part = take(&mut rest)
            .ok_or_else(|| StoreError::Corrupt("the parts of an event".to_owned()))?;
        let is_readable = readable & (1 << kind_number(part.kind)) != 0;
        parts.push(match part.state {
            PartState::Present(_) if !is_readable => Part {
                state: PartState::Withheld,
                ..part
            },
            _ => part,
        });
    }
    Ok(parts)
}

fn take(rest: &mut Bytes) -> Option<Part> {
    let mut split = |len: usize| (rest.len() >= len).then(|| rest.split_to(len));
    let head = split(2)?;
    let kind = match head[0] {
        0 => PartKind::Content,
        1 => PartKind::Reporter,
        _ => return None,
    };
    let sha256 = Digest::from_slice(&split(32)?)?;
    let state = match head[1] {
        WITHHELD => PartState::Withheld,
        PRESENT => {
            let len = split(4)?.get_u32() as usize;
            PartState::Present(split(len)?)
        }
        ERASED => PartState::Erased(EventId::from_bytes(split(16)?[..].try_into().ok()?)),
        _ => return None,
    };
    Some(Part {
        kind,
        sha256,
        state,
    })
}

/// All of them.
pub(super) const ALL_READABLE: i64 = !0;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: PartKind, state: PartState) -> Part {
        Part {
            kind,
            sha256: Digest::of(b"x"),
            state,
        }
    }

    /// Scenario: parts in every state are packed, unpacked whole, and unpacked
    /// by one who may only read the content.
    /// Guarantee: they come back as they were, but the unreadable as withheld;
    /// a cut column is named as damaged.
    #[test]
    fn parts_come_back_as_they_were() {
        let parts = [
            part(
                PartKind::Content,
                PartState::Present(Bytes::from_static(b"\0text")),
            ),
            part(PartKind::Reporter, PartState::Present(Bytes::new())),
            part(PartKind::Content, PartState::Withheld),
            part(
                PartKind::Reporter,
                PartState::Erased(EventId::from_bytes([7; 16])),
            ),
        ];
        let packed = pack(&parts).unwrap();
        assert_eq!(unpack(Some(packed.clone()), ALL_READABLE).unwrap(), parts);
        let content = unpack(Some(packed.clone()), readable_bits(&[PartKind::Content])).unwrap();
        assert_eq!(content[0], parts[0]);
        assert_eq!(content[1].state, PartState::Withheld);
        assert_eq!(content[3], parts[3]);
        assert_eq!(pack(&[]), None);
        assert_eq!(unpack(None, ALL_READABLE).unwrap(), []);
        for cut in 1..packed.len() {
            let is_end = [39 + 4, 43 + 38, 81 + 34].contains(&cut);
            let outcome = unpack(Some(packed[..cut].to_vec()), ALL_READABLE);
            assert_eq!(outcome.is_ok(), is_end, "cut at {cut}");
        }
    }
}
