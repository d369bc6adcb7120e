//! Letting go of bytes and parts of own submissions that were settled for long
//! enough.
//!
//! Invariants: the row stays, with id, mac and chain, so that dedup, receipts and
//! opening work as ever; bytes go only when the hub has acknowledged and decided the
//! submission for good and the local system has taken the decision over; such a row
//! is never sent again.

use tokio_postgres::Row;

use crate::{
    domain::{Micros, PartyId},
    exchange::Direction,
    store::{
        Pruned,
        standing::{PartyState, position_of, row_id},
    },
};

use super::{
    super::{
        error::Failure,
        rows::number,
        session::{Session, execute, maybe, rows},
    },
    world::World,
};

/// Rows that are looked at in one transaction: whoever waits for the writer waits
/// behind them.
const PAGE: i64 = 500;

pub(super) const READ: &str = "SELECT pruned_through, settled_through, decided_through, deliveries, delivered, \
     noted_at FROM pruning WHERE journal = $1";
const PUT: &str = "INSERT INTO pruning (journal, pruned_through, settled_through, decided_through, \
         deliveries, delivered, noted_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (journal) DO UPDATE SET pruned_through = excluded.pruned_through, \
         settled_through = excluded.settled_through, \
         decided_through = excluded.decided_through, deliveries = excluded.deliveries, \
         delivered = excluded.delivered, noted_at = excluded.noted_at";
pub(super) const DECIDED: &str =
    "SELECT row FROM decision WHERE row BETWEEN $1 AND $2 ORDER BY row DESC LIMIT 1";
pub(super) const SETTLED: &str = "SELECT s.id, s.stored_at, d.outcome, octet_length(s.event), \
         coalesce(octet_length(s.parts), 0) \
     FROM submission s LEFT JOIN decision d ON d.row = s.id \
     WHERE s.id BETWEEN $1 AND $2 ORDER BY s.id LIMIT $3";
const NOTE: &str = "INSERT INTO gone (row, digest) \
     SELECT id, sha256('\\x01'::bytea || event) FROM submission WHERE id = ANY ($1) \
     ON CONFLICT (row) DO UPDATE SET digest = excluded.digest";
const LET_GO: &str = "UPDATE submission SET event = ''::bytea, parts = NULL, handover_digest = NULL \
     WHERE id = ANY ($1)";

/// What the writer's line prepares.
pub(super) const ALL: [&str; 6] = [READ, PUT, DECIDED, SETTLED, NOTE, LET_GO];

/// How far a journal was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pruning {
    journal: i64,
    pruned_through: u64,
    settled_through: u64,
    decided_through: u64,
    deliveries: i64,
    delivered: u64,
    noted_at: i64,
}

/// Before a run: which submissions of this party are settled by now; its journals.
///
/// The deliveries that brought decisions are not looked for: at each run it is noted
/// what was decided and where the deliveries stood then, and once the local system
/// has taken those over, the decisions are among them. How long ago counts from that
/// note, not from when a submission was stored: one that waited for weeks has to stay
/// for as long after it was decided.
pub(super) async fn note_settled(
    client: &Session,
    world: &World,
    party: &PartyId,
    (before, now): (Micros, Micros),
) -> Result<Vec<i64>, Failure> {
    let Some(state) = world.states.get(party) else {
        return Ok(Vec::new());
    };
    let ended = world.ended_of(party);
    let has_earlier = ended
        .iter()
        .any(|(_, ended)| ended.consumed < ended.delivered.position);
    let journals = world.submission_journals(party);
    for journal in &journals {
        let mut found = pruning(client, *journal).await?;
        let is_taken_over = !has_earlier
            && found.deliveries == state.deliveries
            && found.delivered <= state.consumed;
        let is_settled = is_taken_over && found.noted_at < before.0;
        if is_settled {
            found.settled_through = found.settled_through.max(found.decided_through);
        }
        if is_settled || found.deliveries != state.deliveries {
            let (first, last) = (row_id(*journal, 0), row_id(*journal + 1, 0) - 1);
            let decided = maybe(client, DECIDED, &[&first, &last]).await?;
            let decided = decided.map(|row| row.try_get(0)).transpose()?;
            found.decided_through = decided.map_or(0, position_of);
            found.deliveries = state.deliveries;
            found.delivered = state.delivered;
            found.noted_at = now.0;
        }
        put(client, found).await?;
    }
    Ok(journals)
}

/// Lets go of a page of bytes that were stored before a moment; `false`: nothing is
/// left to look at in this journal.
pub(super) async fn page(
    client: &Session,
    world: &World,
    party: &PartyId,
    (journal, before): (i64, Micros),
) -> Result<(Pruned, bool), Failure> {
    let mut pruned = Pruned::default();
    let Some(state) = world.states.get(party) else {
        return Ok((pruned, false));
    };
    let mut at = pruning(client, journal).await?;
    let (first, last) = (
        row_id(journal, at.pruned_through + 1),
        row_id(journal, last_settled(state, &at)),
    );
    let found = rows(client, SETTLED, &[&first, &last, &PAGE]).await?;
    let mut is_young = false;
    let mut going = Vec::new();
    for row in &found {
        is_young = row.try_get::<_, i64>(1)? >= before.0;
        if is_young {
            break;
        }
        let id: i64 = row.try_get(0)?;
        at.pruned_through = position_of(id);
        let bytes = bytes_of(row)?;
        // Accepted, duplicate, rejected: what is parked may be decided yet.
        let is_final = matches!(row.try_get::<_, Option<i16>>(2)?, Some(1..=3));
        if is_final && bytes > 0 {
            pruned.entries += 1;
            pruned.bytes += bytes;
            going.push(id);
        }
    }
    if !going.is_empty() {
        execute(client, NOTE, &[&going]).await?;
        execute(client, LET_GO, &[&going]).await?;
    }
    put(client, at).await?;
    Ok((pruned, !is_young && found.len() as i64 == PAGE))
}

/// Of an event and its parts; 0: they are gone.
fn bytes_of(row: &Row) -> Result<u64, Failure> {
    let (event, parts): (i32, i32) = (row.try_get(3)?, row.try_get(4)?);
    Ok(match event {
        0 => 0,
        _ => u64::from(event.unsigned_abs()) + u64::from(parts.unsigned_abs()),
    })
}

async fn pruning(client: &Session, journal: i64) -> Result<Pruning, Failure> {
    let found = maybe(client, READ, &[&journal]).await?;
    let Some(row) = found else {
        return Ok(Pruning {
            journal,
            pruned_through: 0,
            settled_through: 0,
            decided_through: 0,
            deliveries: 0,
            delivered: 0,
            noted_at: 0,
        });
    };
    Ok(Pruning {
        journal,
        pruned_through: number(&row, 0)?,
        settled_through: number(&row, 1)?,
        decided_through: number(&row, 2)?,
        deliveries: row.try_get(3)?,
        delivered: number(&row, 4)?,
        noted_at: row.try_get(5)?,
    })
}

async fn put(client: &Session, at: Pruning) -> Result<(), Failure> {
    let values = [
        at.pruned_through as i64,
        at.settled_through as i64,
        at.decided_through as i64,
    ];
    execute(
        client,
        PUT,
        &[
            &at.journal,
            &values[0],
            &values[1],
            &values[2],
            &at.deliveries,
            &(at.delivered as i64),
            &at.noted_at,
        ],
    )
    .await?;
    Ok(())
}

/// The last position that may be let go of: settled, acknowledged, and not beyond a
/// stretch that is still being copied.
fn last_settled(state: &PartyState, at: &Pruning) -> u64 {
    if at.journal != state.submissions {
        return at.settled_through;
    }
    let copied = state.copy.map_or(u64::MAX, |copy| copy.first - 1);
    at.settled_through
        .min(state.acknowledged.position)
        .min(copied)
}

impl World {
    /// The journals of own submissions of a party that is here, the oldest first.
    pub(super) fn submission_journals(&self, party: &PartyId) -> Vec<i64> {
        let of = Direction::Submissions.number();
        let all = (party.clone(), of, 0)..=(party.clone(), of, u64::MAX);
        let found = self.journals.range(all).into_iter();
        found.map(|(_, journal)| journal).collect()
    }
}
