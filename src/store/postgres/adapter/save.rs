//! What a batch writes: each table with one statement, of arrays.

use postgres_types::ToSql;

use crate::store::{StoreError, parts::pack};

use super::{
    super::decisions::{outcome_number, to_json},
    work_items::PER_PARTY,
    world::{History, Parts, View, World},
};

pub(super) const FENCE: &str = "SELECT jembatan_adapter_begin_1($1, $2)";
const STATES: &str = "INSERT INTO party_state (party, epoch, submissions, deliveries, head, head_chain, \
         acknowledged, acknowledged_chain, delivered, delivered_chain, consumed, copy_first, \
         copy_last, copy_chain, aside_journal, aside_from, aside_to, accepted, duplicates, \
         rejected, parked, repeated) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
         $6::bytea[], $7::bigint[], $8::bytea[], $9::bigint[], $10::bytea[], $11::bigint[], \
         $12::bigint[], $13::bigint[], $14::bytea[], $15::bigint[], $16::bigint[], \
         $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], \
         $22::bigint[]) \
     ON CONFLICT (party) DO UPDATE SET epoch = excluded.epoch, \
         submissions = excluded.submissions, deliveries = excluded.deliveries, \
         head = excluded.head, head_chain = excluded.head_chain, \
         acknowledged = excluded.acknowledged, acknowledged_chain = excluded.acknowledged_chain, \
         delivered = excluded.delivered, delivered_chain = excluded.delivered_chain, \
         consumed = excluded.consumed, copy_first = excluded.copy_first, \
         copy_last = excluded.copy_last, copy_chain = excluded.copy_chain, \
         aside_journal = excluded.aside_journal, aside_from = excluded.aside_from, \
         aside_to = excluded.aside_to, accepted = excluded.accepted, \
         duplicates = excluded.duplicates, rejected = excluded.rejected, \
         parked = excluded.parked, repeated = excluded.repeated";
const JOURNALS: &str = "INSERT INTO journal (id, party, direction, epoch) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[])";
const ENDED: &str = "INSERT INTO ended_epoch (party, epoch, submissions, head, head_chain, deliveries, \
         delivered, delivered_chain, consumed) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], \
         $6::bigint[], $7::bigint[], $8::bytea[], $9::bigint[]) \
     ON CONFLICT (party, epoch) DO UPDATE SET submissions = excluded.submissions, \
         head = excluded.head, head_chain = excluded.head_chain, \
         deliveries = excluded.deliveries, delivered = excluded.delivered, \
         delivered_chain = excluded.delivered_chain, consumed = excluded.consumed";
const SUBMISSIONS: &str = "INSERT INTO submission (id, stored_at, event_id, mac, complaint_id, event, \
         handover_digest, chain, effect, parts) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[], \
         $6::bytea[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[]) \
     ON CONFLICT (id) DO UPDATE SET stored_at = excluded.stored_at, \
         event_id = excluded.event_id, mac = excluded.mac, \
         complaint_id = excluded.complaint_id, event = excluded.event, \
         handover_digest = excluded.handover_digest, chain = excluded.chain, \
         effect = excluded.effect, parts = excluded.parts";
const DELIVERIES: &str = "INSERT INTO delivery (id, stored_at, header, event, readable, parts) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::smallint[], \
         $6::bytea[])";
const MARKS: &str = "INSERT INTO mark (id, chain) SELECT * FROM unnest($1::bigint[], $2::bytea[]) \
     ON CONFLICT (id) DO UPDATE SET chain = excluded.chain";
const TOLD: &str = "INSERT INTO told_decision (row, place) SELECT * FROM unnest($1::bigint[], $2::integer[]) \
     ON CONFLICT DO NOTHING";
const KEYS: &str = "INSERT INTO event_key (event_id, row) SELECT * FROM unnest($1::bytea[], $2::bigint[]) \
     ON CONFLICT (event_id) DO UPDATE SET row = excluded.row";
const VIEWS: &str = "INSERT INTO complaint_view (id, complaint_id, party, number, filed_row, origin_party, \
         origin_system, origin_reference, tracking_id, status, handler, revision, anonymous, \
         confidential, answer_missing, epoch) \
     SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[], \
         $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], \
         $12::integer[], $13::boolean[], $14::boolean[], $15::boolean[], $16::bigint[]) \
     ON CONFLICT (id) DO UPDATE SET number = excluded.number, filed_row = excluded.filed_row, \
         origin_party = excluded.origin_party, origin_system = excluded.origin_system, \
         origin_reference = excluded.origin_reference, tracking_id = excluded.tracking_id, \
         status = excluded.status, handler = excluded.handler, revision = excluded.revision, \
         anonymous = excluded.anonymous, confidential = excluded.confidential, \
         answer_missing = excluded.answer_missing, epoch = excluded.epoch";
const HISTORIES: &str = "INSERT INTO history (complaint, revision, row, event_id, author, accepted_at, hops, \
         header) \
     SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bytea[], $5::text[], \
         $6::bigint[], $7::integer[], $8::text[]) \
     ON CONFLICT (complaint, revision) DO UPDATE SET row = excluded.row, \
         event_id = excluded.event_id, author = excluded.author, \
         accepted_at = excluded.accepted_at, hops = excluded.hops, header = excluded.header";
const HISTORIES_GONE: &str = "DELETE FROM history h USING unnest($1::bigint[], $2::integer[]) AS w(complaint, revision) \
     WHERE h.complaint = w.complaint AND h.revision = w.revision";
const TOLD_BEFORE: &str = "INSERT INTO told_before (complaint, event_id, row) \
     SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) ON CONFLICT DO NOTHING";
const EVENTS_OF: &str = "INSERT INTO event_of (complaint, row) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING";
const EVENTS_OF_GONE: &str = "DELETE FROM event_of e USING unnest($1::bigint[], $2::bigint[]) AS w(complaint, row) \
     WHERE e.complaint = w.complaint AND e.row = w.row";
const NAMES: &str = "INSERT INTO reference (party, system, reference, complaint_id, row) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[]) \
     ON CONFLICT (party, system, reference) DO UPDATE SET complaint_id = excluded.complaint_id, \
         row = excluded.row";
const NAMES_GONE: &str = "DELETE FROM reference r \
     USING unnest($1::text[], $2::text[], $3::text[]) AS w(party, system, reference) \
     WHERE r.party = w.party AND r.system = w.system AND r.reference = w.reference";
const DECISIONS: &str = "INSERT INTO decision (row, outcome, decision) \
     SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::text[]) \
     ON CONFLICT (row) DO UPDATE SET outcome = excluded.outcome, decision = excluded.decision";
const DECISIONS_GONE: &str = "DELETE FROM decision WHERE row = ANY ($1)";
const SUBMISSION_PARTS: &str = "UPDATE submission s SET parts = w.parts, handover_digest = NULL \
     FROM unnest($1::bigint[], $2::bytea[]) AS w(id, parts) WHERE s.id = w.id";
const DELIVERY_PARTS: &str = "UPDATE delivery d SET parts = w.parts \
     FROM unnest($1::bigint[], $2::bytea[]) AS w(id, parts) WHERE d.id = w.id";
const UNREAD: &str = "INSERT INTO unread (row, party) SELECT * FROM unnest($1::bigint[], $2::text[]) \
     ON CONFLICT DO NOTHING";
const UNREAD_GONE: &str = "DELETE FROM unread WHERE row = ANY ($1)";
const GONE: &str = "INSERT INTO gone (row) SELECT * FROM unnest($1::bigint[]) \
     ON CONFLICT (row) DO UPDATE SET digest = NULL";
const BACK: &str = "DELETE FROM gone WHERE row = ANY ($1)";
const ANEW: &str = "UPDATE pruning p SET pruned_through = least(p.pruned_through, w.position), \
         settled_through = least(p.settled_through, w.position), \
         decided_through = least(p.decided_through, w.position) \
     FROM (SELECT journal, min(position) AS position \
           FROM unnest($1::bigint[], $2::bigint[]) AS n(journal, position) GROUP BY journal) w \
     WHERE p.journal = w.journal";
const WORK: &str = "INSERT INTO work_item (party, system, code, name, count, last_seen) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], \
         $6::bigint[]) \
     ON CONFLICT (party, system, code, name) DO UPDATE SET \
         count = work_item.count + excluded.count, last_seen = excluded.last_seen";
const WORK_TRIMMED: &str = "DELETE FROM work_item i USING ( \
         SELECT w.party, k.system, k.code, k.name FROM (SELECT DISTINCT unnest($1::text[])) AS w(party) \
         CROSS JOIN LATERAL (SELECT system, code, name FROM work_item o WHERE o.party = w.party \
             ORDER BY o.last_seen DESC OFFSET $2) k) d \
     WHERE i.party = d.party AND i.system = d.system AND i.code = d.code AND i.name = d.name";
const WORK_SETTLED: &str = "DELETE FROM work_item i \
     USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w(party, system, code, name) \
     WHERE i.party = w.party AND i.system = w.system AND i.code = w.code AND i.name = w.name";

/// What the writer's line prepares, so that statements leave in their order.
pub(super) const ALL: [&str; 29] = [
    FENCE,
    STATES,
    JOURNALS,
    ENDED,
    SUBMISSIONS,
    DELIVERIES,
    MARKS,
    TOLD,
    KEYS,
    VIEWS,
    HISTORIES,
    HISTORIES_GONE,
    TOLD_BEFORE,
    EVENTS_OF,
    EVENTS_OF_GONE,
    NAMES,
    NAMES_GONE,
    DECISIONS,
    DECISIONS_GONE,
    SUBMISSION_PARTS,
    DELIVERY_PARTS,
    UNREAD,
    UNREAD_GONE,
    GONE,
    BACK,
    ANEW,
    WORK,
    WORK_TRIMMED,
    WORK_SETTLED,
];

/// Columns of one statement.
pub(super) type Columns = Vec<Box<dyn ToSql + Sync + Send>>;

/// Statements of a batch, in the order in which the server carries them out.
#[derive(Default)]
pub(super) struct Statements(pub(super) Vec<(&'static str, Columns)>);

macro_rules! columns {
    ($($column:expr),+ $(,)?) => {
        vec![$(Box::new($column) as Box<dyn ToSql + Sync + Send>),+]
    };
}

impl Statements {
    /// What the world's batch changes.
    pub(super) fn of(world: &World) -> Result<Self, StoreError> {
        let mut all = Self::default();
        all.parties(world);
        all.journals_rows(world);
        all.complaints(world);
        all.decisions(world)?;
        all.parts(world);
        all.rest(world);
        Ok(all)
    }

    fn add(&mut self, sql: &'static str, is_none: bool, columns: impl FnOnce() -> Columns) {
        if !is_none {
            self.0.push((sql, columns()));
        }
    }

    fn parties(&mut self, world: &World) {
        let (new, _) = world.journals.changes();
        self.add(JOURNALS, new.is_empty(), || {
            columns![
                each(&new, |(_, id)| **id),
                each(&new, |((party, ..), _)| party.to_string()),
                each(&new, |((_, direction, _), _)| i16::from(*direction)),
                each(&new, |((.., epoch), _)| *epoch as i64),
            ]
        });
        let (ended, _) = world.ended.changes();
        self.add(ENDED, ended.is_empty(), || {
            columns![
                each(&ended, |((party, _), _)| party.to_string()),
                each(&ended, |((_, epoch), _)| *epoch as i64),
                each(&ended, |(_, ended)| ended.submissions),
                each(&ended, |(_, ended)| ended.head.position as i64),
                each(&ended, |(_, ended)| ended.head.chain.as_bytes().to_vec()),
                each(&ended, |(_, ended)| ended.deliveries),
                each(&ended, |(_, ended)| ended.delivered.position as i64),
                each(&ended, |(_, ended)| ended
                    .delivered
                    .chain
                    .as_bytes()
                    .to_vec()),
                each(&ended, |(_, ended)| ended.consumed as i64),
            ]
        });
        let (states, _) = world.states.changes();
        let states: Vec<_> = states.into_iter().map(|(_, state)| state).collect();
        self.add(STATES, states.is_empty(), || {
            columns![
                each(&states, |state| state.party.to_string()),
                each(&states, |state| state.epoch as i64),
                each(&states, |state| state.submissions),
                each(&states, |state| state.deliveries),
                each(&states, |state| state.head.position as i64),
                each(&states, |state| state.head.chain.as_bytes().to_vec()),
                each(&states, |state| state.acknowledged.position as i64),
                each(&states, |state| state
                    .acknowledged
                    .chain
                    .as_bytes()
                    .to_vec()),
                each(&states, |state| state.delivered as i64),
                each(&states, |state| state
                    .delivered_acknowledged
                    .chain
                    .as_bytes()
                    .to_vec()),
                each(&states, |state| state.consumed as i64),
                each(&states, |state| state.copy.map(|copy| copy.first as i64)),
                each(&states, |state| state.copy.map(|copy| copy.last as i64)),
                each(&states, |state| state
                    .copy
                    .map(|copy| copy.end_chain.as_bytes().to_vec())),
                each(&states, |state| state.aside_journal),
                each(&states, |state| state.aside_from as i64),
                each(&states, |state| state.aside_to as i64),
                each(&states, |state| state.counts.accepted as i64),
                each(&states, |state| state.counts.duplicates as i64),
                each(&states, |state| state.counts.rejected as i64),
                each(&states, |state| state.counts.parked as i64),
                each(&states, |state| state.counts.repeated_handovers as i64),
            ]
        });
    }

    /// Rows of journals, with their parts as the batch has left them.
    fn journals_rows(&mut self, world: &World) {
        let new: Vec<_> = world
            .out
            .submissions
            .iter()
            .filter_map(|(row, new)| Some((*row, new, world.subs.get(row)?)))
            .collect();
        let parts = |row: &i64| world.parts.get(row);
        self.add(SUBMISSIONS, new.is_empty(), || {
            columns![
                each(&new, |(row, ..)| *row),
                each(&new, |(_, new, _)| new.stored_at.0),
                each(&new, |(.., sub)| sub.event_id.map(|id| id.to_vec())),
                each(&new, |(.., sub)| sub.mac.map(|mac| mac.to_vec())),
                each(&new, |(.., sub)| sub.complaint_id.map(|id| id.to_vec())),
                each(&new, |(_, new, _)| new.event.to_vec()),
                each(&new, |(row, new, _)| {
                    let is_erased = parts(row).is_some_and(|parts| parts.is_erased);
                    let kept = new.handover_digest.filter(|_| !is_erased);
                    kept.map(|digest| digest.as_bytes().to_vec())
                }),
                each(&new, |(.., sub)| sub.chain.as_bytes().to_vec()),
                each(&new, |(.., sub)| sub.effect.clone()),
                each(&new, |(row, ..)| parts(row)
                    .and_then(|parts| pack(&parts.parts))),
            ]
        });
        let new = &world.out.deliveries;
        self.add(DELIVERIES, new.is_empty(), || {
            columns![
                each(new, |new| new.row),
                each(new, |new| new.stored_at.0),
                each(new, |new| new.header.to_vec()),
                each(new, |new| (!new.event.is_empty())
                    .then(|| new.event.to_vec())),
                each(new, |new| new.readable),
                each(new, |new| parts(&new.row)
                    .and_then(|parts| pack(&parts.parts))),
            ]
        });
        // One delivery after another may end at the same place.
        let marks: std::collections::BTreeMap<_, _> = world.out.marks.iter().copied().collect();
        let marks: Vec<_> = marks.into_iter().collect();
        self.add(MARKS, marks.is_empty(), || {
            columns![
                each(&marks, |(row, _)| *row),
                each(&marks, |(_, chain)| chain.as_bytes().to_vec()),
            ]
        });
        let told = &world.out.told;
        self.add(TOLD, told.is_empty(), || {
            columns![
                each(told, |(row, _)| *row),
                each(told, |(_, place)| *place as i32),
            ]
        });
    }

    fn complaints(&mut self, world: &World) {
        let (keys, _) = world.keys.changes();
        self.add(KEYS, keys.is_empty(), || {
            columns![
                each(&keys, |(id, _)| id.to_vec()),
                each(&keys, |(_, row)| **row),
            ]
        });
        let (views, _) = world.views.changes();
        let text = |of: fn(&View) -> &Option<String>| each(&views, |(_, view)| of(view).clone());
        self.add(VIEWS, views.is_empty(), || {
            columns![
                each(&views, |(_, view)| view.id),
                each(&views, |((_, id), _)| id.to_vec()),
                each(&views, |((party, _), _)| party.to_string()),
                each(&views, |(_, view)| view.number),
                each(&views, |(_, view)| view.filed_row),
                text(|view| &view.origin_party),
                text(|view| &view.origin_system),
                text(|view| &view.origin_reference),
                text(|view| &view.tracking_id),
                text(|view| &view.status),
                text(|view| &view.handler),
                each(&views, |(_, view)| view.revision as i32),
                each(&views, |(_, view)| view.anonymous),
                each(&views, |(_, view)| view.confidential),
                each(&views, |(_, view)| view.answer_missing),
                each(&views, |(_, view)| view.epoch as i64),
            ]
        });
        let (put, gone) = world.histories.changes();
        self.add(HISTORIES_GONE, gone.is_empty(), || {
            columns![
                each(&gone, |(view, _)| *view),
                each(&gone, |(_, revision)| *revision as i32),
            ]
        });
        self.histories(&put);
        let (put, _) = world.told_before.changes();
        self.add(TOLD_BEFORE, put.is_empty(), || {
            columns![
                each(&put, |((view, _), _)| *view),
                each(&put, |((_, id), _)| id.to_vec()),
                each(&put, |(_, row)| **row),
            ]
        });
        let (put, gone) = world.events_of.changes();
        self.add(EVENTS_OF_GONE, gone.is_empty(), || {
            columns![each(&gone, |(view, _)| *view), each(&gone, |(_, row)| *row)]
        });
        self.add(EVENTS_OF, put.is_empty(), || {
            columns![
                each(&put, |((view, _), _)| *view),
                each(&put, |((_, row), _)| *row),
            ]
        });
        let (put, gone) = world.called.changes();
        self.add(NAMES_GONE, gone.is_empty(), || {
            columns![
                each(&gone, |(party, ..)| party.to_string()),
                each(&gone, |(_, system, _)| system.to_string()),
                each(&gone, |(.., reference)| reference.to_string()),
            ]
        });
        self.add(NAMES, put.is_empty(), || {
            columns![
                each(&put, |((party, ..), _)| party.to_string()),
                each(&put, |((_, system, _), _)| system.to_string()),
                each(&put, |((.., reference), _)| reference.to_string()),
                each(&put, |(_, (complaint, _))| complaint.to_vec()),
                each(&put, |(_, (_, row))| *row),
            ]
        });
    }

    fn histories(&mut self, put: &[(&(i64, u32), &History)]) {
        self.add(HISTORIES, put.is_empty(), || {
            columns![
                each(put, |((view, _), _)| *view),
                each(put, |((_, revision), _)| *revision as i32),
                each(put, |(_, history)| history.row),
                each(put, |(_, history)| history.event_id.to_vec()),
                each(put, |(_, history)| history.author.clone()),
                each(put, |(_, history)| history.accepted_at),
                each(put, |(_, history)| history.hops as i32),
                each(put, |(_, history)| history.header.clone()),
            ]
        });
    }

    fn decisions(&mut self, world: &World) -> Result<(), StoreError> {
        let (put, gone) = world.decisions.changes();
        let gone: Vec<i64> = gone.into_iter().copied().collect();
        self.add(DECISIONS_GONE, gone.is_empty(), || columns![gone]);
        let json = put.iter().map(|(_, decision)| to_json(decision));
        let json: Vec<String> = json.collect::<Result<_, _>>()?;
        self.add(DECISIONS, put.is_empty(), || {
            columns![
                each(&put, |(row, _)| **row),
                each(&put, |(_, decision)| outcome_number(decision.outcome)),
                json,
            ]
        });
        Ok(())
    }

    /// Parts of rows that were there before.
    fn parts(&mut self, world: &World) {
        let (changed, _) = world.parts.changes();
        let is_old = |(_, parts): &(&i64, &Parts)| parts.is_erased;
        let new: std::collections::BTreeSet<i64> =
            world.out.deliveries.iter().map(|new| new.row).collect();
        let old = changed.into_iter().filter(is_old);
        let old =
            old.filter(|(row, _)| !new.contains(row) && !world.out.submissions.contains_key(row));
        let (deliveries, submissions): (Vec<_>, Vec<_>) =
            old.partition(|(_, parts)| parts.is_delivery);
        for (sql, rows) in [
            (SUBMISSION_PARTS, submissions),
            (DELIVERY_PARTS, deliveries),
        ] {
            self.add(sql, rows.is_empty(), || {
                columns![
                    each(&rows, |(row, _)| **row),
                    each(&rows, |(_, parts)| pack(&parts.parts)),
                ]
            });
        }
    }

    fn rest(&mut self, world: &World) {
        let (put, gone) = world.unread.changes();
        self.add(UNREAD, put.is_empty(), || {
            columns![
                each(&put, |(row, _)| **row),
                each(&put, |(_, party)| party.to_string()),
            ]
        });
        let gone: Vec<i64> = gone.into_iter().copied().collect();
        self.add(UNREAD_GONE, gone.is_empty(), || columns![gone]);
        let out = &world.out;
        self.add(BACK, out.back.is_empty(), || columns![out.back.clone()]);
        let mut never_back = out.gone.clone();
        never_back.sort_unstable();
        never_back.dedup();
        self.add(GONE, never_back.is_empty(), || columns![never_back]);
        self.add(ANEW, out.anew.is_empty(), || {
            columns![
                each(&out.anew, |(journal, _)| *journal),
                each(&out.anew, |(_, position)| *position as i64),
            ]
        });
        let settled = &out.settled_work;
        let items: Vec<_> = out.work_items.iter().collect();
        self.add(WORK, items.is_empty(), || {
            columns![
                each(&items, |((party, ..), _)| party.clone()),
                each(&items, |((_, system, ..), _)| system.clone()),
                each(&items, |((_, _, code, _), _)| code.clone()),
                each(&items, |((.., name), _)| name.clone()),
                each(&items, |(_, (count, _))| *count),
                each(&items, |(_, (_, last_seen))| last_seen.0),
            ]
        });
        self.add(WORK_TRIMMED, items.is_empty(), || {
            columns![each(&items, |((party, ..), _)| party.clone()), PER_PARTY,]
        });
        self.add(WORK_SETTLED, settled.is_empty(), || {
            columns![
                each(settled, |(party, ..)| party.clone()),
                each(settled, |(_, system, ..)| system.clone()),
                each(settled, |(_, _, code, _)| code.clone()),
                each(settled, |(.., name)| name.clone()),
            ]
        });
    }
}

/// A value of each row.
fn each<R, T>(rows: &[R], of: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
