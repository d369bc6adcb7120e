//! Reading: receipts, complaints and their histories, as one party may see
//! them.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{
    domain::{
        Complaint, ComplaintId, ComplaintName, EventId, Part, PartyId, Reference, SystemName,
        Telling,
    },
    exchange::Entry,
    store::{ComplaintRecord, HistoryRecord, Receipt, StoreError, told::visible},
};

use super::{
    Shared, damaged, decisions, journal,
    rows::{id16, part, readable_bits},
    session::{Session, maybe, rows},
    told::header,
    world::{self, revision},
};

pub(super) const RECEIPT: &str = "SELECT s.decision FROM event_key k JOIN submission s ON s.id = k.row \
     JOIN journal j ON j.id = k.row >> 36 WHERE k.event_id = $1 AND j.party = $2";

/// The receipt of an event of this party.
pub(super) async fn receipt(
    client: &Session,
    party: &PartyId,
    event: &EventId,
) -> Result<Option<Receipt>, StoreError> {
    let id = event.as_bytes().as_slice();
    let Some(row) = maybe(client, RECEIPT, &[&id, &party.as_str()]).await? else {
        return Ok(None);
    };
    let decision = decisions::from_json(row.try_get(0)?)?;
    Ok(Some(Receipt {
        event_id: *event,
        complaint_id: decision
            .complaint_id
            .unwrap_or_else(|| ComplaintId::from_bytes([0; 16])),
        progress: decision.outcome.progress(),
        repeated: false,
        decision: Some(decision),
    }))
}

/// A complaint and its row.
async fn load(client: &Session, id: &ComplaintId) -> Result<Option<(i64, Complaint)>, StoreError> {
    let id = id.as_bytes().as_slice();
    let Some(row) = maybe(client, world::COMPLAINTS, &[&vec![id]]).await? else {
        return Ok(None);
    };
    let complaint = serde_json::from_str(row.try_get(3)?)
        .map_err(|_| damaged("a complaint's state can't be read"))?;
    Ok(Some((row.try_get(0)?, complaint)))
}

/// The complaint that a name means to a local system of a party.
pub(super) async fn find(
    client: &Session,
    shared: &Shared,
    party: &PartyId,
    system: &SystemName,
    name: &ComplaintName,
) -> Result<Option<ComplaintId>, StoreError> {
    let id = match name {
        ComplaintName::Reference(reference) => {
            let filed = ComplaintId::derive(party, system, reference);
            match load(client, &filed).await? {
                Some(_) => Some(filed),
                None => attached(client, party, system, reference).await?,
            }
        }
        ComplaintName::TrackingId(tracking_id) => {
            let number = tracking_id.number() as i64;
            let sql = "SELECT complaint_id FROM complaint WHERE number = $1";
            let row = maybe(client, sql, &[&number]).await?;
            row.map(|row| id16(row.try_get(0)?))
                .transpose()?
                .map(ComplaintId::from_bytes)
        }
        ComplaintName::Id(id) => Some(*id),
    };
    let Some(id) = id else { return Ok(None) };
    let registry = shared.registry.borrow().clone();
    let takes_part = load(client, &id)
        .await?
        .is_some_and(|(_, complaint)| visible(&registry.directory, &complaint, party).is_some());
    Ok(takes_part.then_some(id))
}

/// The complaint to which a party attached this reference.
async fn attached(
    client: &Session,
    party: &PartyId,
    system: &SystemName,
    reference: &Reference,
) -> Result<Option<ComplaintId>, StoreError> {
    let row = maybe(
        client,
        "SELECT complaint_id FROM reference WHERE party = $1 AND system = $2 AND reference = $3",
        &[&party.as_str(), &system.as_str(), &reference.as_str()],
    )
    .await?;
    let id = row.map(|row| id16(row.try_get(0)?)).transpose()?;
    Ok(id.map(ComplaintId::from_bytes))
}

/// A reference that a party attached to a complaint.
async fn reference_of(
    client: &Session,
    party: &PartyId,
    id: &ComplaintId,
) -> Result<Option<Reference>, StoreError> {
    let row = maybe(
        client,
        "SELECT reference FROM reference WHERE complaint_id = $1 AND party = $2 \
         ORDER BY system LIMIT 1",
        &[&id.as_bytes().as_slice(), &party.as_str()],
    )
    .await?;
    row.map(|row| Reference::parse(row.try_get(0)?).map_err(|_| damaged("a reference")))
        .transpose()
}

pub(super) const EVENTS: &str = "SELECT id, event FROM submission WHERE id = ANY ($1)";

/// A complaint with its history, as a party may see it.
pub(super) async fn complaint(
    client: &Session,
    shared: &Shared,
    party: &PartyId,
    id: &ComplaintId,
) -> Result<Option<ComplaintRecord>, StoreError> {
    let Some((row, complaint)) = load(client, id).await? else {
        return Ok(None);
    };
    let registry = shared.registry.borrow().clone();
    let Some(telling) = visible(&registry.directory, &complaint, party) else {
        return Ok(None);
    };
    let history = history(client, row, &complaint, &telling).await?;
    let last = history.last().and_then(|step| step.header.clone());
    Ok(Some(ComplaintRecord {
        id: complaint.id,
        tracking_id: Some(complaint.tracking_id.clone()),
        status: last.as_ref().map(|header| header.status),
        handler: last.as_ref().and_then(|header| header.handler.clone()),
        revision: last.as_ref().map_or(0, |header| header.revision),
        anonymous: complaint.anonymous,
        confidential: complaint.confidential,
        answer_missing: last.is_some_and(|header| header.answer_missing),
        own_reference: if &complaint.origin == party {
            Some(complaint.reference.clone())
        } else {
            reference_of(client, party, id).await?
        },
        origin: Some((complaint.origin, complaint.system, complaint.reference)),
        history,
    }))
}

async fn history(
    client: &Session,
    row: i64,
    complaint: &Complaint,
    telling: &Telling,
) -> Result<Vec<HistoryRecord>, StoreError> {
    let (first, last) = (1_i32, telling.through_revision as i32);
    let steps = rows(
        client,
        world::HISTORY,
        &[&vec![row], &vec![first], &vec![last]],
    )
    .await?;
    let mut revisions = Vec::with_capacity(steps.len());
    for step in &steps {
        revisions.push((step.try_get::<_, i32>(1)? as u32, revision(step, 2)?));
    }
    revisions.sort_by_key(|(number, _)| *number);
    let ids: Vec<i64> = revisions.iter().map(|(_, found)| found.row).collect();
    let mut events: HashMap<i64, Bytes> = HashMap::new();
    for found in rows(client, EVENTS, &[&ids]).await? {
        events.insert(found.try_get(0)?, Bytes::copy_from_slice(found.try_get(1)?));
    }
    let readable = readable_bits(&telling.readable_parts);
    let mut parts: HashMap<i64, Vec<Part>> = HashMap::new();
    for found in rows(client, journal::PARTS, &[&ids]).await? {
        let of = parts.entry(found.try_get(0)?).or_default();
        of.push(part(&found, 1, readable)?);
    }
    let mut all = Vec::with_capacity(revisions.len());
    for (number, found) in revisions {
        let header = header(&found, &complaint.tracking_id, telling)?;
        let receipt = (found.author == telling.party).then(|| Receipt {
            event_id: found.event_id,
            complaint_id: complaint.id,
            progress: found.decision.outcome.progress(),
            repeated: false,
            decision: Some(found.decision.clone()),
        });
        all.push(HistoryRecord {
            revision: number,
            entry: Entry {
                header: Bytes::new(),
                event: events
                    .remove(&found.row)
                    .ok_or_else(|| damaged("a revision without its event"))?,
                parts: parts.remove(&found.row).unwrap_or_default(),
                handover_digest: None,
            },
            header: Some(header),
            receipt,
        });
    }
    Ok(all)
}
