//! A complaint, a receipt and a name as one party knows them, by the writer's own
//! rules, over one moment of the database.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    domain::{
        ComplaintId, ComplaintName, EventId, InstitutionCode, Micros, PartyId, Reference, Status,
        SystemName, TrackingId,
    },
    exchange::Entry,
    store::{
        ComplaintRecord, HistoryRecord, Receipt, StoreError,
        kept::{Beside, HeaderRow},
        parts::{ALL_READABLE, unpack},
    },
};

use super::{
    super::{
        error::Failure,
        rows::id16,
        session::{Session, maybe, rows},
    },
    PostgresAdapterStore, damaged, load,
    world::{Step, View, Want, World, of_complaint},
};

/// Times that a rule may name what it lacks: the deepest needs four.
const ROUNDS: u32 = 16;

pub(super) const BY_NUMBER: &str =
    "SELECT complaint_id FROM complaint_view WHERE number = $1 AND party = $2 LIMIT 1";
pub(super) const ENTRIES: &str = "SELECT id, event, parts FROM submission WHERE id = ANY ($1) \
     UNION ALL SELECT id, coalesce(event, ''::bytea), parts FROM delivery WHERE id = ANY ($1)";

/// Everything that is read in between is of one moment.
async fn at_one_moment<T>(
    session: &Session,
    look: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
) -> Result<T, StoreError> {
    session.unsettled();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.within(session.batch_execute(begin)).await?;
    let found = look(session).await.map_err(Failure::into_error)?;
    session.within(session.batch_execute("COMMIT")).await?;
    session.settled();
    Ok(found)
}

/// Follows a rule of the writer's, reading what it names.
async fn followed<T>(
    store: &PostgresAdapterStore,
    session: &Session,
    rule: impl Fn(&mut World) -> Step<T>,
) -> Result<T, Failure> {
    let shared = &store.shared;
    let mut world = World::new(shared.dedup_key.clone(), shared.clock.clone());
    for _ in 0..ROUNDS {
        if let Some(found) = world.run(&rule)? {
            return Ok(found);
        }
        let wants = world.take_wants();
        load::load(session, &mut world, &wants).await?;
    }
    Err(damaged("something that always lacks something").into())
}

/// The receipt of an own event, by its id.
pub(super) async fn receipt(
    store: &PostgresAdapterStore,
    party: &PartyId,
    event: &EventId,
) -> Result<Option<Receipt>, StoreError> {
    let reader = store.reader().await?;
    at_one_moment(&reader, async |session| {
        followed(store, session, |world| world.receipt(party, event)).await
    })
    .await
}

/// The complaint that a name means to a local system of a party.
pub(super) async fn find(
    store: &PostgresAdapterStore,
    party: &PartyId,
    system: &SystemName,
    name: &ComplaintName,
) -> Result<Option<ComplaintId>, StoreError> {
    let reader = store.reader().await?;
    if let ComplaintName::TrackingId(id) = name {
        let values = (id.number() as i64, party.as_str());
        let found = maybe(&reader, BY_NUMBER, &[&values.0, &values.1]).await?;
        let found = found.map(|row| id16(row.try_get(0)?)).transpose()?;
        return Ok(found.map(ComplaintId::from_bytes));
    }
    at_one_moment(&reader, async |session| {
        followed(store, session, |world| world.find(party, system, name)).await
    })
    .await
}

/// A step of a history, without its bytes, which stand in this row.
type Stepped = (i64, HistoryRecord);

/// A complaint with its history.
pub(super) async fn complaint(
    store: &PostgresAdapterStore,
    party: &PartyId,
    id: &ComplaintId,
) -> Result<Option<ComplaintRecord>, StoreError> {
    let reader = store.reader().await?;
    at_one_moment(&reader, async |session| {
        let found = followed(store, session, |world| world.record(party, id)).await?;
        let Some((mut record, steps)) = found else {
            return Ok(None);
        };
        let wanted: Vec<i64> = steps.iter().map(|(row, _)| *row).collect();
        let mut entries = BTreeMap::new();
        for row in rows(session, ENTRIES, &[&wanted]).await? {
            let entry = Entry {
                event: Bytes::from(row.try_get::<_, Vec<u8>>(1)?),
                parts: unpack(row.try_get(2)?, ALL_READABLE)?,
                ..Entry::default()
            };
            entries.insert(row.try_get::<_, i64>(0)?, entry);
        }
        for (row, step) in steps {
            let entry = entries
                .get(&row)
                .cloned()
                .ok_or_else(|| damaged("an event of a complaint"))?;
            record.history.push(HistoryRecord { entry, ..step });
        }
        Ok(Some(record))
    })
    .await
}

impl World {
    /// A complaint as a party knows it, and the steps of its history: delivered
    /// revisions and own events; what is not decided comes last.
    fn record(
        &mut self,
        party: &PartyId,
        id: &ComplaintId,
    ) -> Step<Option<(ComplaintRecord, Vec<Stepped>)>> {
        self.need([Want::Party(party.clone()), of_complaint(party, id)])?;
        let view = self.view_of(party, id)?.cloned();
        let (Some(view), true) = (view, self.states.get(party).is_some()) else {
            return Ok(None);
        };
        let origin = origin(&view)?;
        let own_reference = match &origin {
            Some((origin, _, reference)) if origin == party => Some(reference.clone()),
            _ => self.reference_of(party, None, id)?,
        };
        let steps = self.steps(party, id, view.id)?;
        let record = ComplaintRecord {
            id: *id,
            tracking_id: view
                .tracking_id
                .map(|text| TrackingId::parse(&text))
                .transpose()
                .map_err(|_| damaged("a Tracking ID"))?,
            origin,
            status: view.status.and_then(|code| Status::from_code(&code)),
            handler: view
                .handler
                .map(|code| InstitutionCode::parse(&code))
                .transpose()
                .map_err(|_| damaged("an institution's code"))?,
            revision: view.revision,
            anonymous: view.anonymous,
            confidential: view.confidential,
            answer_missing: view.answer_missing,
            own_reference,
            history: Vec::new(),
        };
        Ok(Some((record, steps)))
    }

    fn steps(&mut self, party: &PartyId, id: &ComplaintId, view: i64) -> Step<Vec<Stepped>> {
        let mut steps = Vec::new();
        for (revision, found) in self.history_of(view) {
            let header = HeaderRow::from_json(&found.header)?.header(Beside {
                event_id: EventId::from_bytes(found.event_id),
                complaint_id: *id,
                revision,
                author: PartyId::parse(&found.author).map_err(|_| damaged("an author"))?,
                accepted_at: Micros(found.accepted_at),
                hops: found.hops,
            });
            let step = HistoryRecord {
                revision,
                entry: Entry::default(),
                header: Some(header),
                receipt: None,
            };
            steps.push((found.row, step));
        }
        let rows = self.rows_about(party, id)?;
        self.need(rows.iter().map(|row| Want::Row(*row)))?;
        let mut own = Vec::new();
        for row in rows {
            if let Some(sub) = self.sub(row)? {
                own.push((sub.is_gone, row, sub.event_id));
            }
        }
        // After a re-append, or when it was handed over again, the same event may
        // stand twice: the first whose bytes are here counts.
        own.sort_by_key(|(is_gone, row, _)| (*is_gone, *row));
        let mut seen = Vec::new();
        for (_, row, event) in own {
            if !self.is_of(party, row) || seen.contains(&event) {
                continue;
            }
            seen.push(event);
            let receipt = self.receipt_of(party, row)?;
            let decision = receipt.as_ref().and_then(|found| found.decision.as_ref());
            let step = HistoryRecord {
                revision: decision.map_or(0, |decision| decision.revision),
                entry: Entry::default(),
                header: None,
                receipt,
            };
            steps.push((row, step));
        }
        steps.sort_by_key(|(_, step)| match step.revision {
            0 => u32::MAX,
            revision => revision,
        });
        Ok(steps)
    }
}

fn origin(view: &View) -> Result<Option<(PartyId, SystemName, Reference)>, StoreError> {
    let (Some(party), Some(system), Some(reference)) = (
        &view.origin_party,
        &view.origin_system,
        &view.origin_reference,
    ) else {
        return Ok(None);
    };
    let parsed = (
        PartyId::parse(party),
        SystemName::parse(system),
        Reference::parse(reference),
    );
    match parsed {
        (Ok(party), Ok(system), Ok(reference)) => Ok(Some((party, system, reference))),
        _ => Err(damaged("a complaint's origin")),
    }
}
