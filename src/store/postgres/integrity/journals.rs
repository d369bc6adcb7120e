//! Journals: positions without a gap, chains from the root to every place whose
//! chain is kept, a decision for each submission, told to its author.

use std::collections::BTreeMap;

use crate::{
    domain::{DeliveryRecord, Digest, PartyId},
    exchange::{Direction, Place, delivery_digest, event_digest},
    store::{Counts, StoreError},
};

use super::{
    super::{
        decisions::{self, outcome_number},
        rows::{POSITION_BITS, id16, number, party, position_of, row_id},
        session::{Session, maybe, one, rows},
    },
    Integrity, PartyTotals, ReadHeader,
};

const JOURNALS: &str = "SELECT j.id, j.party, j.direction, j.epoch, \
         coalesce(s.position, d.position, e.head, f.delivered), \
         coalesce(s.chain, e.head_chain, f.delivered_chain), h.position, h.chain \
     FROM journal j \
         LEFT JOIN submission_head s ON s.journal = j.id \
         LEFT JOIN delivery_head d ON d.journal = j.id \
         LEFT JOIN delivery_held h ON h.party = d.party \
         LEFT JOIN ended_epoch e ON e.submissions = j.id \
         LEFT JOIN ended_epoch f ON f.deliveries = j.id \
     ORDER BY j.party, j.epoch, j.direction";

const SUBMISSIONS: &str = "SELECT id, chain, outcome, decision, event_id, event FROM submission \
     WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 1000";

const DELIVERIES: &str = "SELECT d.id, d.header, d.event_row, s.event, m.chain FROM delivery d \
         LEFT JOIN submission s ON s.id = d.event_row LEFT JOIN mark m ON m.id = d.id \
     WHERE d.id > $1 AND d.id <= $2 ORDER BY d.id LIMIT 1000";

const COUNTERS: &str =
    "SELECT accepted, duplicates, rejected, parked FROM submission_head WHERE party = $1";

/// A journal, and where it is said to end.
struct Journal {
    id: i64,
    party: PartyId,
    direction: Direction,
    epoch: u64,
    end: Option<u64>,
    end_chain: Option<Vec<u8>>,
    /// What the node holds of it, and the chain there.
    held: Option<(u64, Vec<u8>)>,
}

impl Journal {
    fn read(row: &tokio_postgres::Row) -> Result<Self, StoreError> {
        let direction = match row.try_get::<_, i16>(2)? {
            1 => Direction::Submissions,
            _ => Direction::Deliveries,
        };
        let held: Option<i64> = row.try_get(6)?;
        let held_chain: Option<Vec<u8>> = row.try_get(7)?;
        Ok(Self {
            id: row.try_get(0)?,
            party: party(row, 1)?,
            direction,
            epoch: number(row, 3)?,
            end: row.try_get::<_, Option<i64>>(4)?.map(|end| end as u64),
            end_chain: row.try_get(5)?,
            held: held.map(|held| held as u64).zip(held_chain),
        })
    }

    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Submissions => "submissions",
            Direction::Deliveries => "deliveries",
        }
    }

    fn at(&self, position: u64) -> String {
        format!("{}/{}/{position}", self.party, self.epoch)
    }

    fn last_row(&self) -> i64 {
        row_id(self.id, (1 << POSITION_BITS) - 1)
    }
}

/// What is known of one party so far.
struct Party {
    totals: PartyTotals,
    /// Positions of its submissions whose decisions its deliveries tell, by epoch.
    told: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Where its journals of submissions end.
    ends: Vec<(u64, u64)>,
}

impl Party {
    fn new(party: PartyId) -> Self {
        Self {
            totals: PartyTotals {
                party,
                epochs: 0,
                submissions: 0,
                deliveries: 0,
                accepted: 0,
                duplicates: 0,
                rejected: 0,
                parked: 0,
            },
            told: BTreeMap::new(),
            ends: Vec::new(),
        }
    }

    fn tell(&mut self, epoch: u64, first: u64, count: u64) {
        let ranges = self.told.entry(epoch).or_default();
        match ranges.last_mut() {
            Some(last) if last.1 + 1 == first => last.1 += count,
            _ => ranges.push((first, first + count - 1)),
        }
    }
}

/// Every journal of every party.
pub(super) async fn check(
    session: &Session,
    read_header: ReadHeader,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    let mut current: Option<Party> = None;
    for row in rows(session, JOURNALS, &[]).await? {
        let journal = Journal::read(&row)?;
        if current
            .as_ref()
            .is_some_and(|before| before.totals.party != journal.party)
            && let Some(before) = current.take()
        {
            finish(session, before, found).await?;
        }
        let party = current.get_or_insert_with(|| Party::new(journal.party.clone()));
        let Some(end) = journal.end else {
            let why = format!("a journal of {} that nobody ends", journal.name());
            found.find("journal", journal.at(0), why);
            continue;
        };
        match journal.direction {
            Direction::Submissions => {
                party.totals.epochs += 1;
                party.ends.push((journal.epoch, end));
                submissions(session, &journal, party, found).await?;
            }
            Direction::Deliveries => {
                deliveries(session, &journal, read_header, party, found).await?;
            }
        }
    }
    if let Some(last) = current {
        finish(session, last, found).await?;
    }
    // Rows that belong to no journal were not met on the way.
    let sums = |count: fn(&PartyTotals) -> u64| found.parties.iter().map(count).sum::<u64>();
    let met = [
        ("submission", sums(|party| party.submissions)),
        ("delivery", sums(|party| party.deliveries)),
    ];
    let all = "SELECT (SELECT count(*) FROM submission), (SELECT count(*) FROM delivery)";
    let all = one(session, all, &[]).await?;
    for (column, (table, met)) in met.into_iter().enumerate() {
        let there = number(&all, column)?;
        if there != met {
            let why = format!("{there} rows, but {met} of them in journals");
            found.find("row_of_no_journal", table, why);
        }
    }
    Ok(())
}

/// Position and chain go on from here; says whether this row is the next one.
fn next_is(journal: &Journal, place: Place, id: i64, found: &mut Integrity) -> bool {
    let position = position_of(id);
    if position == place.position + 1 {
        return true;
    }
    let missing = place.position + 1;
    let why = format!(
        "missing from the {}, through {}",
        journal.name(),
        position - 1
    );
    found.find("gap", journal.at(missing), why);
    false
}

async fn submissions(
    session: &Session,
    journal: &Journal,
    party: &mut Party,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    let mut place = Place::root(&journal.party, journal.direction, journal.epoch);
    let mut last = row_id(journal.id, 0);
    loop {
        let page = rows(session, SUBMISSIONS, &[&last, &journal.last_row()]).await?;
        for row in &page {
            last = row.try_get(0)?;
            let kept = Digest::from_slice(row.try_get(1)?);
            let is_next = next_is(journal, place, last, found);
            let next = place.after(&event_digest(row.try_get(5)?));
            place = Place {
                position: position_of(last),
                // Behind a row that is wrong the next ones are right again.
                chain: kept.unwrap_or(next.chain),
            };
            if is_next && kept != Some(next.chain) {
                let why = "the event's bytes, or the chain here, are not what was stored";
                found.find("chain", journal.at(place.position), why);
            }
            party.totals.submissions += 1;
            decision(journal, row, party, found)?;
        }
        if page.is_empty() {
            break;
        }
    }
    ends(journal, place, found);
    Ok(())
}

/// The decision of one submission.
fn decision(
    journal: &Journal,
    row: &tokio_postgres::Row,
    party: &mut Party,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    let at = journal.at(position_of(row.try_get(0)?));
    let outcome: i16 = row.try_get(2)?;
    let totals = &mut party.totals;
    match outcome {
        1 => totals.accepted += 1,
        2 => totals.duplicates += 1,
        3 => totals.rejected += 1,
        4 => totals.parked += 1,
        _ => {
            let why = format!("an outcome that nobody knows: {outcome}");
            found.find("decision", at.clone(), why);
        }
    }
    let Ok(decided) = decisions::from_json(row.try_get(3)?) else {
        found.find("decision", at, "the decision can't be read");
        return Ok(());
    };
    if outcome_number(decided.outcome) != outcome {
        let why = "the decision says another outcome than its row";
        found.find("decision", at.clone(), why);
    }
    let event_id: Option<&[u8]> = row.try_get(4)?;
    let is_same = match (decided.event_id, event_id) {
        (Some(said), Some(kept)) => id16(kept).is_ok_and(|kept| &kept == said.as_bytes()),
        // What can't be read, or has forged ids, is decided without one.
        (None, _) => true,
        (Some(_), None) => false,
    };
    if !is_same {
        found.find("decision", at, "the decision is about another event");
    }
    Ok(())
}

async fn deliveries(
    session: &Session,
    journal: &Journal,
    read_header: ReadHeader,
    party: &mut Party,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    let mut place = Place::root(&journal.party, journal.direction, journal.epoch);
    let mut last = row_id(journal.id, 0);
    let held = journal.held.as_ref();
    if let Some((0, chain)) = held {
        compare(journal, place, chain, found);
    }
    loop {
        let page = rows(session, DELIVERIES, &[&last, &journal.last_row()]).await?;
        for row in &page {
            last = row.try_get(0)?;
            next_is(journal, place, last, found);
            let (header, event): (&[u8], Option<&[u8]>) = (row.try_get(1)?, row.try_get(3)?);
            let next = place.after(&delivery_digest(header, event));
            place = Place {
                position: position_of(last),
                chain: next.chain,
            };
            let at = journal.at(place.position);
            if row.try_get::<_, Option<i64>>(2)?.is_some() && event.is_none() {
                let why = "it delivers a submission that is gone";
                found.find("delivery_of_nothing", at.clone(), why);
            }
            match read_header(header) {
                None => found.find("header", at, "the header can't be read"),
                Some(DeliveryRecord::Event(_)) if event.is_none() => {
                    found.find(
                        "header",
                        at,
                        "the header speaks of an event, and there is none",
                    );
                }
                Some(DeliveryRecord::Event(_)) => {}
                Some(DeliveryRecord::Decisions(set)) => {
                    let count = set.decisions.len() as u64;
                    party.tell(set.epoch, set.first_position, count);
                }
            }
            let mark: Option<&[u8]> = row.try_get(4)?;
            let held = held.filter(|(position, _)| *position == place.position);
            for chain in mark.into_iter().chain(held.map(|(_, chain)| &chain[..])) {
                place.chain = compare(journal, place, chain, found);
            }
            party.totals.deliveries += 1;
        }
        if page.is_empty() {
            break;
        }
    }
    ends(journal, place, found);
    Ok(())
}

/// Compares a chain that is kept with the one of the rows; says which one goes on.
fn compare(journal: &Journal, place: Place, kept: &[u8], found: &mut Integrity) -> Digest {
    let kept = Digest::from_slice(kept);
    if kept != Some(place.chain) {
        let why = "headers or events before it are not what was stored, or the chain here";
        found.find("chain", journal.at(place.position), why);
    }
    kept.unwrap_or(place.chain)
}

/// Whether a journal ends where it is said to.
fn ends(journal: &Journal, place: Place, found: &mut Integrity) {
    let end = journal.end.unwrap_or_default();
    if end != place.position {
        let why = format!(
            "the {} end at {}, and are said to end at {end}",
            journal.name(),
            place.position
        );
        found.find("head", journal.at(end), why);
    } else if let Some(chain) = &journal.end_chain
        && Digest::from_slice(chain) != Some(place.chain)
    {
        let why = format!("another chain than the {} have", journal.name());
        found.find("head", journal.at(end), why);
    }
}

/// What concerns all journals of a party.
async fn finish(session: &Session, party: Party, found: &mut Integrity) -> Result<(), StoreError> {
    let Party {
        totals,
        mut told,
        ends,
    } = party;
    for (epoch, end) in ends {
        let mut ranges = told.remove(&epoch).unwrap_or_default();
        ranges.sort_unstable();
        let mut through = 0;
        for (first, last) in ranges {
            if first > through + 1 {
                undecided(&totals.party, epoch, (through + 1, first - 1), found);
            }
            through = through.max(last);
        }
        if through < end {
            undecided(&totals.party, epoch, (through + 1, end), found);
        }
    }
    let name = totals.party.as_str();
    let row = maybe(session, COUNTERS, &[&name]).await?;
    let counted = match &row {
        Some(row) => Counts {
            accepted: number(row, 0)?,
            duplicates: number(row, 1)?,
            rejected: number(row, 2)?,
            parked: number(row, 3)?,
            ..Counts::default()
        },
        None => Counts::default(),
    };
    for (what, counted, there) in [
        ("accepted", counted.accepted, totals.accepted),
        ("duplicates", counted.duplicates, totals.duplicates),
        ("rejected", counted.rejected, totals.rejected),
        ("parked", counted.parked, totals.parked),
    ] {
        if counted != there {
            found.find(
                "count",
                name,
                format!("{what}: {counted} counted, {there} there"),
            );
        }
    }
    found.parties.push(totals);
    Ok(())
}

fn undecided(party: &PartyId, epoch: u64, (from, to): (u64, u64), found: &mut Integrity) {
    let why = format!("its author was never told what was decided, through {to}");
    found.find("untold", format!("{party}/{epoch}/{from}"), why);
}
