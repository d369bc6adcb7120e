//! Reads what a batch has named: all of it at once, each kind with one statement.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::try_join;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    domain::{PartyId, Reference, SystemName},
    exchange::Place,
    store::{
        CopyWanted, Counts, StoreError,
        parts::{ALL_READABLE, unpack},
        standing::PartyState,
    },
};

use super::{
    super::{
        decisions::from_json,
        error::Failure,
        rows::{digest, id16, number, party},
        session::{QueryError, Session, one, rows},
    },
    damaged,
    world::{Ended, History, Numbers, Parts, Sub, View, Want, World},
};

macro_rules! state_columns {
    () => {
        "SELECT party, epoch, submissions, deliveries, head, head_chain, acknowledged, \
         acknowledged_chain, delivered, delivered_chain, consumed, copy_first, copy_last, \
         copy_chain, aside_journal, aside_from, aside_to, accepted, duplicates, rejected, \
         parked, repeated FROM party_state"
    };
}
macro_rules! ended_columns {
    () => {
        "SELECT party, epoch, submissions, head, head_chain, deliveries, delivered, \
         delivered_chain, consumed FROM ended_epoch"
    };
}

const STATES: &str = state_columns!();
pub(super) const STATE: &str = concat!(state_columns!(), " WHERE party = ANY ($1)");
const ENDED_ALL: &str = ended_columns!();
pub(super) const ENDED: &str = concat!(ended_columns!(), " WHERE party = ANY ($1)");
const JOURNALS_ALL: &str = "SELECT party, direction, epoch, id FROM journal";
pub(super) const JOURNALS: &str =
    "SELECT party, direction, epoch, id FROM journal WHERE party = ANY ($1)";
const NUMBERS: &str = "SELECT (SELECT coalesce(max(id), 0) FROM journal), \
     (SELECT coalesce(max(id), 0) FROM complaint_view)";

pub(super) const EVENTS: &str = "SELECT w.id, k.row, s.id, s.event_id, s.mac, s.complaint_id, s.effect, s.chain, \
         octet_length(s.event) = 0, d.decision \
     FROM unnest($1::bytea[]) AS w(id) LEFT JOIN event_key k ON k.event_id = w.id \
         LEFT JOIN submission s ON s.id = k.row LEFT JOIN decision d ON d.row = k.row";
pub(super) const VIEWS: &str = "SELECT w.party, w.id, s.id, s.event_id, s.mac, s.complaint_id, s.effect, s.chain, \
         octet_length(s.event) = 0, d.decision, v.id, v.number, v.filed_row, v.origin_party, \
         v.origin_system, v.origin_reference, v.tracking_id, v.status, v.handler, v.revision, \
         v.anonymous, v.confidential, v.answer_missing, v.epoch \
     FROM unnest($1::text[], $2::bytea[]) AS w(party, id) \
         LEFT JOIN complaint_view v ON v.complaint_id = w.id AND v.party = w.party \
         LEFT JOIN submission s ON s.id = v.filed_row LEFT JOIN decision d ON d.row = v.filed_row";
pub(super) const HISTORIES: &str = "SELECT complaint, revision, row, event_id, author, accepted_at, hops, header \
     FROM history WHERE complaint = ANY ($1)";
pub(super) const TOLD_BEFORE: &str =
    "SELECT complaint, event_id, row FROM told_before WHERE complaint = ANY ($1)";
pub(super) const EVENTS_OF: &str = "SELECT complaint, row FROM event_of WHERE complaint = ANY ($1)";
pub(super) const NAMES: &str = "SELECT r.party, r.system, r.reference, r.complaint_id, r.row \
     FROM unnest($1::text[], $2::bytea[]) AS w(party, id) \
         JOIN reference r ON r.complaint_id = w.id AND r.party = w.party";
pub(super) const CALLED: &str = "SELECT r.party, r.system, r.reference, r.complaint_id, r.row \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS w(party, system, reference) \
         JOIN reference r ON r.party = w.party AND r.system = w.system \
             AND r.reference = w.reference";
pub(super) const ROWS: &str = "SELECT w.id, w.id, s.id, s.event_id, s.mac, s.complaint_id, s.effect, s.chain, \
         octet_length(s.event) = 0, d.decision \
     FROM unnest($1::bigint[]) AS w(id) LEFT JOIN submission s ON s.id = w.id \
         LEFT JOIN decision d ON d.row = w.id";
pub(super) const PARTS: &str = "SELECT id, parts, false FROM submission WHERE id = ANY ($1) \
     UNION ALL SELECT id, parts, true FROM delivery WHERE id = ANY ($1)";
// As `exchange::event_digest` has it.
pub(super) const DIGESTS: &str = "SELECT s.id, coalesce(g.digest, sha256('\\x01'::bytea || s.event)) \
     FROM submission s LEFT JOIN gone g ON g.row = s.id WHERE s.id = ANY ($1)";
pub(super) const UNREAD: &str = "SELECT row, party FROM unread WHERE row = ANY ($1)";

/// What the writer's line prepares, so that statements leave in their order.
pub(super) const ALL: [&str; 14] = [
    STATE,
    ENDED,
    JOURNALS,
    EVENTS,
    VIEWS,
    HISTORIES,
    TOLD_BEFORE,
    EVENTS_OF,
    NAMES,
    CALLED,
    ROWS,
    PARTS,
    DIGESTS,
    UNREAD,
];

/// Wants by their kind.
#[derive(Default)]
struct Sorted<'a> {
    parties: Vec<&'a str>,
    events: Vec<&'a [u8]>,
    views: (Vec<&'a str>, Vec<&'a [u8]>),
    called: (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>),
    rows: Vec<i64>,
    parts: Vec<i64>,
    digests: Vec<i64>,
    unread: Vec<i64>,
}

impl<'a> Sorted<'a> {
    fn of(wants: &'a BTreeSet<Want>) -> Self {
        let mut sorted = Self::default();
        for want in wants {
            match want {
                Want::Party(party) => sorted.parties.push(party.as_str()),
                Want::Event(id) => sorted.events.push(id),
                Want::View(party, id) => {
                    sorted.views.0.push(party.as_str());
                    sorted.views.1.push(id);
                }
                Want::Called(party, system, reference) => {
                    sorted.called.0.push(party.as_str());
                    sorted.called.1.push(system.as_str());
                    sorted.called.2.push(reference.as_str());
                }
                Want::Row(row) => sorted.rows.push(*row),
                Want::Parts(row) => sorted.parts.push(*row),
                Want::Digest(row) => sorted.digests.push(*row),
                Want::Unread(row) => sorted.unread.push(*row),
            }
        }
        sorted
    }
}

/// Everything about every party: for the one who writes.
pub(super) async fn whole(session: &Session, world: &mut World) -> Result<(), Failure> {
    let (states, ended, journals, numbers) = try_join!(
        rows(session, STATES, &[]),
        rows(session, ENDED_ALL, &[]),
        rows(session, JOURNALS_ALL, &[]),
        one(session, NUMBERS, &[]),
    )?;
    learn_parties(world, (&states, &ended, &journals))?;
    world.is_read(Numbers {
        journal: numbers.try_get(0)?,
        view: numbers.try_get(1)?,
    });
    Ok(())
}

/// Reads what is wanted.
pub(super) async fn load(
    session: &Session,
    world: &mut World,
    wants: &BTreeSet<Want>,
) -> Result<(), Failure> {
    let sorted = Sorted::of(wants);
    let Sorted {
        parties,
        events,
        views,
        called,
        rows: wanted_rows,
        parts,
        digests,
        unread,
    } = &sorted;
    let states = async {
        if parties.is_empty() {
            return Ok((Vec::new(), Vec::new(), Vec::new()));
        }
        try_join!(
            some(session, STATE, false, vec![parties]),
            some(session, ENDED, false, vec![parties]),
            some(session, JOURNALS, false, vec![parties])
        )
    };
    let found = try_join!(
        states,
        some(session, EVENTS, events.is_empty(), vec![events]),
        some(session, VIEWS, views.0.is_empty(), vec![&views.0, &views.1]),
        some(session, NAMES, views.0.is_empty(), vec![&views.0, &views.1]),
        some(
            session,
            CALLED,
            called.0.is_empty(),
            vec![&called.0, &called.1, &called.2]
        ),
        some(session, ROWS, wanted_rows.is_empty(), vec![wanted_rows]),
        some(session, PARTS, parts.is_empty(), vec![parts]),
        some(session, DIGESTS, digests.is_empty(), vec![digests]),
        some(session, UNREAD, unread.is_empty(), vec![unread]),
    )?;
    let (states, events, views, names, called, wanted_rows, parts, digests, unread) = found;
    learn_nothing(world, wants);
    learn_parties(world, (&states.0, &states.1, &states.2))?;
    for row in &events {
        let at: Option<i64> = row.try_get(1)?;
        world.keys.learn(id16(row.try_get(0)?)?, at);
        if let Some(at) = at {
            learn_row(world, at, row)?;
        }
    }
    let mut hanging = Vec::new();
    for row in &views {
        let key = (party(row, 0)?, id16(row.try_get(1)?)?);
        let view = view(row)?;
        if let Some(view) = &view {
            hanging.push(view.id);
            if let Some(filed_row) = view.filed_row {
                learn_row(world, filed_row, row)?;
            }
        }
        world.views.learn(key, view);
    }
    learn_names(world, &names)?;
    for row in &called {
        let (name, to) = name(row)?;
        world.called.learn(name, Some(to));
    }
    for row in &wanted_rows {
        learn_row(world, row.try_get(0)?, row)?;
    }
    for row in &parts {
        let packed: Option<Vec<u8>> = row.try_get(1)?;
        let parts = Parts {
            is_delivery: row.try_get(2)?,
            parts: unpack(packed, ALL_READABLE)?,
            is_erased: false,
        };
        world.parts.learn(row.try_get(0)?, Some(parts));
    }
    for row in &digests {
        let found = digest(row.try_get(1)?)?;
        world.digests.learn(row.try_get(0)?, Some(found));
    }
    for row in &unread {
        world.unread.learn(row.try_get(0)?, Some(party(row, 1)?));
    }
    if !hanging.is_empty() {
        hanging_on(session, world, &hanging).await?;
    }
    Ok(())
}

/// The rows of a statement, if anything is asked of it.
async fn some(
    session: &Session,
    sql: &'static str,
    is_none: bool,
    values: Vec<&(dyn ToSql + Sync)>,
) -> Result<Vec<Row>, QueryError> {
    match is_none {
        true => Ok(Vec::new()),
        false => rows(session, sql, &values).await,
    }
}

/// What hangs on complaints that are here.
async fn hanging_on(session: &Session, world: &mut World, views: &[i64]) -> Result<(), Failure> {
    let views = &views;
    let (histories, told, events) = try_join!(
        some(session, HISTORIES, false, vec![views]),
        some(session, TOLD_BEFORE, false, vec![views]),
        some(session, EVENTS_OF, false, vec![views]),
    )?;
    for row in &histories {
        let key = (row.try_get(0)?, row.try_get::<_, i32>(1)? as u32);
        let history = History {
            row: row.try_get(2)?,
            event_id: id16(row.try_get(3)?)?,
            author: row.try_get(4)?,
            accepted_at: row.try_get(5)?,
            hops: row.try_get::<_, i32>(6)? as u32,
            header: row.try_get(7)?,
        };
        world.histories.learn(key, Some(history));
    }
    for row in &told {
        let key = (row.try_get(0)?, id16(row.try_get(1)?)?);
        world.told_before.learn(key, Some(row.try_get(2)?));
    }
    for row in &events {
        let key = (row.try_get(0)?, row.try_get(1)?);
        world.events_of.learn(key, Some(()));
    }
    Ok(())
}

/// Until something is found, nothing is there.
fn learn_nothing(world: &mut World, wants: &BTreeSet<Want>) {
    for want in wants {
        match want {
            Want::Party(party) => world.states.learn(party.clone(), None),
            Want::Event(id) => world.keys.learn(*id, None),
            Want::View(party, id) => {
                world.views.learn((party.clone(), *id), None);
                world.named.learn((party.clone(), *id), None);
            }
            Want::Called(party, system, reference) => {
                let name = (party.clone(), system.clone(), reference.clone());
                world.called.learn(name, None);
            }
            Want::Row(row) => {
                world.subs.learn(*row, None);
                world.decisions.learn(*row, None);
            }
            Want::Parts(row) => world.parts.learn(*row, None),
            Want::Digest(row) => world.digests.learn(*row, None),
            Want::Unread(row) => world.unread.learn(*row, None),
        }
    }
}

fn learn_parties(
    world: &mut World,
    (states, ended, journals): (&[Row], &[Row], &[Row]),
) -> Result<(), Failure> {
    for row in states {
        let state = state(row)?;
        world.states.learn(state.party.clone(), Some(state));
    }
    for row in ended {
        let key = (party(row, 0)?, number(row, 1)?);
        let ended = Ended {
            submissions: row.try_get(2)?,
            head: place(row, 3)?,
            deliveries: row.try_get(5)?,
            delivered: place(row, 6)?,
            consumed: number(row, 8)?,
        };
        world.ended.learn(key, Some(ended));
    }
    for row in journals {
        let direction: i16 = row.try_get(1)?;
        let key = (party(row, 0)?, direction as u8, number(row, 2)?);
        world.journals.learn(key, Some(row.try_get(3)?));
    }
    Ok(())
}

fn place(row: &Row, column: usize) -> Result<Place, StoreError> {
    Ok(Place {
        position: number(row, column)?,
        chain: digest(row.try_get(column + 1)?)?,
    })
}

/// Where a party's journals stand.
pub(super) fn state(row: &Row) -> Result<PartyState, StoreError> {
    let copy = match (
        row.try_get::<_, Option<i64>>(11)?,
        row.try_get::<_, Option<i64>>(12)?,
        row.try_get::<_, Option<&[u8]>>(13)?,
    ) {
        (Some(first), Some(last), Some(chain)) => Some(CopyWanted {
            first: first as u64,
            last: last as u64,
            end_chain: digest(chain)?,
        }),
        _ => None,
    };
    let delivered = place(row, 8)?;
    Ok(PartyState {
        party: party(row, 0)?,
        epoch: number(row, 1)?,
        submissions: row.try_get(2)?,
        deliveries: row.try_get(3)?,
        head: place(row, 4)?,
        acknowledged: place(row, 6)?,
        delivered: delivered.position,
        delivered_acknowledged: delivered,
        consumed: number(row, 10)?,
        token: None,
        copy,
        aside_journal: row.try_get(14)?,
        aside_from: number(row, 15)?,
        aside_to: number(row, 16)?,
        counts: Counts {
            accepted: number(row, 17)?,
            duplicates: number(row, 18)?,
            rejected: number(row, 19)?,
            parked: number(row, 20)?,
            repeated_handovers: number(row, 21)?,
        },
    })
}

/// A row of own submissions, from the third column on, and what was decided.
fn learn_row(world: &mut World, at: i64, row: &Row) -> Result<(), StoreError> {
    let optional = |column| -> Result<Option<[u8; 16]>, StoreError> {
        row.try_get::<_, Option<&[u8]>>(column)?
            .map(id16)
            .transpose()
    };
    let sub = match row.try_get::<_, Option<i64>>(2)? {
        None => None,
        Some(_) => Some(Sub {
            event_id: optional(3)?,
            mac: optional(4)?,
            complaint_id: optional(5)?,
            effect: row.try_get(6)?,
            chain: digest(row.try_get(7)?)?,
            is_gone: row.try_get(8)?,
        }),
    };
    let decision: Option<&str> = row.try_get(9)?;
    world.subs.learn(at, sub);
    let decision = decision.map(from_json).transpose()?;
    world.decisions.learn(at, decision);
    Ok(())
}

fn view(row: &Row) -> Result<Option<View>, StoreError> {
    let Some(id) = row.try_get::<_, Option<i64>>(10)? else {
        return Ok(None);
    };
    Ok(Some(View {
        id,
        number: row.try_get(11)?,
        filed_row: row.try_get(12)?,
        origin_party: row.try_get(13)?,
        origin_system: row.try_get(14)?,
        origin_reference: row.try_get(15)?,
        tracking_id: row.try_get(16)?,
        status: row.try_get(17)?,
        handler: row.try_get(18)?,
        revision: row.try_get::<_, i32>(19)? as u32,
        anonymous: row.try_get(20)?,
        confidential: row.try_get(21)?,
        answer_missing: row.try_get(22)?,
        epoch: number(row, 23)?,
    }))
}

type Name = ((PartyId, SystemName, Reference), ([u8; 16], i64));

fn name(row: &Row) -> Result<Name, StoreError> {
    let system = SystemName::parse(row.try_get(1)?);
    let reference = Reference::parse(row.try_get(2)?);
    let (Ok(system), Ok(reference)) = (system, reference) else {
        return Err(damaged("a reference"));
    };
    let name = (party(row, 0)?, system, reference);
    Ok((name, (id16(row.try_get(3)?)?, row.try_get(4)?)))
}

fn learn_names(world: &mut World, names: &[Row]) -> Result<(), StoreError> {
    let mut by_complaint: BTreeMap<(PartyId, [u8; 16]), BTreeMap<SystemName, Reference>> =
        BTreeMap::new();
    for row in names {
        let (name, to) = name(row)?;
        let of = by_complaint.entry((name.0.clone(), to.0)).or_default();
        of.insert(name.1.clone(), name.2.clone());
        world.called.learn(name, Some(to));
    }
    for (of, names) in by_complaint {
        world.named.learn(of, Some(names));
    }
    Ok(())
}
