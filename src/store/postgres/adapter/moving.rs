//! What opening a link tells a node to do: take the hub's head over, set own entries
//! aside, enter an epoch, and append again what was set aside.
//!
//! Rows are moved at the server, a page with one statement; their bytes never leave
//! it. Such work has a transaction of its own.

use crate::{
    domain::{Digest, PartyId},
    exchange::{Direction, Place, next_chain},
    store::{
        CopyWanted,
        memory::Fresh,
        standing::{PartyState, position_of, row_id},
    },
};

use super::{
    super::{
        error::Failure,
        rows::digest,
        session::{Session, execute, one, rows},
    },
    world::{Ended, Step, Stop, World},
};

/// Rows that are moved with one statement, and re-appended in one transaction.
const PAGE: i64 = 1_000;

// One whose bytes are gone can't be sent again and stays where it is.
pub(super) const MOVABLE: &str = "SELECT id FROM submission WHERE id BETWEEN $1 AND $2 AND octet_length(event) > 0 \
     ORDER BY id LIMIT $3";
// As `exchange::event_digest` has it.
pub(super) const SET_ASIDE: &str = "SELECT id, sha256('\\x01'::bytea || event) FROM submission \
     WHERE id BETWEEN $1 AND $2 AND octet_length(event) > 0 ORDER BY id LIMIT $3";
const MOVE: &str = "SELECT jembatan_adapter_move_1($1, $2, $3)";
pub(super) const CHAINS: &str = "UPDATE submission s SET chain = w.chain \
     FROM unnest($1::bigint[], $2::bytea[]) AS w(id, chain) WHERE s.id = w.id";
pub(super) const UNSENDABLE: &str =
    "SELECT count(*), min(row), max(row) FROM gone WHERE row BETWEEN $1 AND $2";

/// What the writer's line prepares.
pub(super) const ALL: [&str; 5] = [MOVABLE, SET_ASIDE, MOVE, CHAINS, UNSENDABLE];

/// One of the steps that have a transaction of their own.
type Done<T> = Result<T, Failure>;

/// A step over what is here for sure: the writer knows every party.
fn here<T>(step: Step<T>) -> Done<T> {
    step.map_err(|stop| match stop {
        Stop::Missing => super::damaged("a party that the writer does not know").into(),
        Stop::Failed(error) => error.into(),
    })
}

fn state(world: &mut World, party: &PartyId) -> Done<PartyState> {
    here(world.state(party)).map(|state| state.clone())
}

/// Opening, rules 3 and 4.
pub(super) async fn adopt(
    client: &Session,
    world: &mut World,
    party: &PartyId,
    (keep_through, head): (u64, Place),
) -> Done<()> {
    if head.position <= keep_through {
        let state = here(world.state(party))?;
        if head.position > state.acknowledged.position {
            state.acknowledged = head;
        }
        return Ok(());
    }
    set_aside(client, world, party, keep_through).await?;
    let state = here(world.state(party))?;
    // A stretch that waited to be copied before goes on being wanted.
    let first = state.copy.map_or(keep_through + 1, |copy| copy.first);
    state.copy = Some(CopyWanted {
        first: first.min(keep_through + 1),
        last: head.position,
        end_chain: head.chain,
    });
    state.head = head;
    state.acknowledged = head;
    world.touch(party);
    Ok(())
}

/// Enters an epoch that the hub began.
pub(super) async fn adopt_epoch(
    client: &Session,
    world: &mut World,
    party: &PartyId,
    (epoch, resend_after): (u64, u64),
) -> Done<()> {
    let before = state(world, party)?;
    // A second call, after a cut, must not end the epoch that it began.
    if before.epoch == epoch {
        return Ok(());
    }
    say_what_cannot_be_sent(client, &before, resend_after).await?;
    // Without proof of what the hub holds everything goes again, also what earlier
    // epochs brought: its dedup answers what it has.
    if resend_after == 0 {
        set_all_aside(client, world, party).await?;
    } else {
        set_aside(client, world, party, resend_after).await?;
    }
    let mut state = state(world, party)?;
    if state.epoch != 0 {
        let ended = Ended {
            submissions: state.submissions,
            head: state.head,
            deliveries: state.deliveries,
            delivered: state.delivered_acknowledged,
            consumed: state.consumed.min(state.delivered),
        };
        world.ended.set((party.clone(), state.epoch), ended);
    }
    state.epoch = epoch;
    state.submissions = world.journal(party, Direction::Submissions.number(), epoch);
    state.deliveries = world.journal(party, Direction::Deliveries.number(), epoch);
    state.head = Place::root(party, Direction::Submissions, epoch);
    state.acknowledged = state.head;
    state.delivered = 0;
    state.delivered_acknowledged = Place::root(party, Direction::Deliveries, epoch);
    state.consumed = 0;
    state.copy = None;
    world.states.set(party.clone(), state);
    world.touch(party);
    Ok(())
}

/// An older hub lacks what this node has let go of: two people have to know.
async fn say_what_cannot_be_sent(
    client: &Session,
    state: &PartyState,
    resend_after: u64,
) -> Done<()> {
    let after = row_id(state.submissions, resend_after + 1);
    let through = row_id(state.submissions, state.head.position);
    let row = one(client, UNSENDABLE, &[&after, &through]).await?;
    let range: (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    if let (Some(first), Some(last)) = range {
        tracing::error!(
            event = "entries_cannot_be_sent_again",
            party = %state.party,
            count = row.try_get::<_, i64>(0)?,
            first = position_of(first),
            last = position_of(last),
            "the hub lacks these and their bytes are not here any more (keep_acknowledged_days): it went back further than they are kept; what it had decided on them still stands here"
        );
    }
    Ok(())
}

/// Moves own submissions after a position out of the journal, in their order; they
/// stay known. What was set aside earlier and waits still is older: it is appended
/// first, so that everything keeps its order.
async fn set_aside(client: &Session, world: &mut World, party: &PartyId, after: u64) -> Done<()> {
    while !reappend(client, world, party).await? {}
    world.job().fresh.push(Fresh::Forget(party.clone()));
    let state = state(world, party)?;
    let head = state.head.position;
    if head <= after {
        return Ok(());
    }
    let aside = world.aside_journal(party);
    let mut from = row_id(state.submissions, after + 1);
    let last = row_id(state.submissions, head);
    loop {
        let page = page(client, from, last).await?;
        let Some(end) = page.last().copied() else {
            break;
        };
        let places = page
            .iter()
            .map(|row| row_id(aside, state.aside_to + position_of(*row) - after));
        moved(client, party, &page, &places.collect::<Vec<_>>()).await?;
        from = end + 1;
    }
    let state = here(world.state(party))?;
    state.aside_journal = aside;
    state.aside_to += head - after;
    Ok(())
}

/// Moves all own submissions of all epochs out of their journals.
async fn set_all_aside(client: &Session, world: &mut World, party: &PartyId) -> Done<()> {
    while !reappend(client, world, party).await? {}
    world.job().fresh.push(Fresh::Forget(party.clone()));
    let mut last = state(world, party)?.aside_to;
    let mut aside = None;
    for journal in world.submission_journals(party) {
        let mut from = row_id(journal, 0);
        let end = row_id(journal + 1, 0) - 1;
        loop {
            let page = page(client, from, end).await?;
            let Some(through) = page.last().copied() else {
                break;
            };
            let aside = *aside.get_or_insert_with(|| world.aside_journal(party));
            let places = (last + 1..)
                .take(page.len())
                .map(|place| row_id(aside, place));
            moved(client, party, &page, &places.collect::<Vec<_>>()).await?;
            last += page.len() as u64;
            from = through + 1;
        }
    }
    if let Some(aside) = aside {
        let state = here(world.state(party))?;
        state.aside_journal = aside;
        state.aside_to = last;
    }
    Ok(())
}

async fn page(client: &Session, from: i64, last: i64) -> Done<Vec<i64>> {
    let found = rows(client, MOVABLE, &[&from, &last, &PAGE]).await?;
    let ids = found.iter().map(|row| row.try_get(0));
    Ok(ids.collect::<Result<_, _>>()?)
}

async fn moved(client: &Session, party: &PartyId, old: &[i64], new: &[i64]) -> Done<()> {
    execute(client, MOVE, &[&party.as_str(), &old, &new]).await?;
    Ok(())
}

/// Appends a page of what was set aside again, in order; `true`: nothing is left.
pub(super) async fn reappend(client: &Session, world: &mut World, party: &PartyId) -> Done<bool> {
    let before = state(world, party)?;
    if before.aside_from > before.aside_to {
        return Ok(true);
    }
    world.job().fresh.push(Fresh::Forget(party.clone()));
    let last = before.aside_to.min(before.aside_from + PAGE as u64 - 1);
    let from = row_id(before.aside_journal, before.aside_from);
    let through = row_id(before.aside_journal, last);
    // Holes: those stretches were to be copied and never were here.
    let found = rows(client, SET_ASIDE, &[&from, &through, &PAGE]).await?;
    let mut head = before.head;
    let (mut old, mut new, mut chains) = (Vec::new(), Vec::new(), Vec::new());
    for row in &found {
        let content: Digest = digest(row.try_get(1)?)?;
        head = Place {
            position: head.position + 1,
            chain: next_chain(&head.chain, &content),
        };
        old.push(row.try_get(0)?);
        new.push(row_id(before.submissions, head.position));
        chains.push(head.chain.as_bytes().to_vec());
    }
    if !old.is_empty() {
        moved(client, party, &old, &new).await?;
        execute(client, CHAINS, &[&new, &chains]).await?;
    }
    let state = here(world.state(party))?;
    state.head = head;
    state.aside_from = last + 1;
    let is_done = state.aside_from > state.aside_to;
    world.touch(party);
    Ok(is_done)
}
