//! What every engine of a hub decides alike, beside [`crate::domain::decide`]:
//! whether an event's parts are those that it names, what a refusal looks like,
//! by what the same content is known again, and how a complaint's state is kept.
//! Knows no SQL.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{
    domain::{
        Complaint, Decision, Digest, Event, Outcome, PARTS_PER_EVENT, Part, PartState, Rejection,
    },
    store::StoreError,
};

/// HMAC-SHA256 with the store's own key, cut to 16 bytes.
pub(super) fn mac(key: &Hmac<Sha256>, handover_digest: &Digest) -> [u8; 16] {
    let mut mac = key.clone();
    mac.update(handover_digest.as_bytes());
    let bytes = mac.finalize().into_bytes();
    let mut cut = [0; 16];
    cut.copy_from_slice(&bytes[..16]);
    cut
}

/// Most states of complaints fit; more grows.
const STATE_BYTES: usize = 512;

/// A complaint's state, as it is kept.
pub(super) fn state_json(complaint: &Complaint) -> Result<String, StoreError> {
    let unwritten = || StoreError::Corrupt("a complaint's state can't be written".to_owned());
    let mut state = Vec::with_capacity(STATE_BYTES);
    serde_json::to_writer(&mut state, complaint).map_err(|_| unwritten())?;
    String::from_utf8(state).map_err(|_| unwritten())
}

/// The decision that refuses an event; without one, what can't be read or is
/// not its author's.
pub(super) fn refused(event: Option<&Event>, rejection: Rejection) -> Decision {
    Decision {
        outcome: Outcome::Rejected,
        event_id: event.map(|event| event.event_id),
        complaint_id: event.map(|event| event.complaint_id),
        revision: 0,
        status: None,
        handler: None,
        tracking_id: None,
        duplicate_of: 0,
        rejection: Some(rejection),
        answer_missing: false,
    }
}

/// Every part that the event names has come, and is what the event names.
pub(super) fn check_parts(event: &Event, parts: &[Part]) -> Result<(), Rejection> {
    let named = &event.parts;
    if named.len() > PARTS_PER_EVENT {
        let problem = format!("an event has at most {PARTS_PER_EVENT}");
        return Err(Rejection::invalid("parts", &problem));
    }
    for reference in named {
        let came = parts
            .iter()
            .find(|part| part.kind == reference.kind && part.sha256 == reference.sha256);
        let problem = match came.map(|part| &part.state) {
            Some(PartState::Erased(_)) => continue,
            Some(PartState::Present(bytes)) if Digest::of(bytes) == reference.sha256 => continue,
            Some(PartState::Present(_)) => {
                "a part's bytes do not have the SHA-256 that the event names"
            }
            Some(PartState::Withheld) | None => {
                "a part that the event names did not come with it, or is larger than 256 KiB"
            }
        };
        return Err(Rejection::invalid("parts", problem));
    }
    if parts.len() > named.len() {
        let problem = "a part came that the event does not name";
        return Err(Rejection::invalid("parts", problem));
    }
    Ok(())
}
