//! What a batch needs to know, read in one trip without locks (and one more if
//! something of it was here before), and then kept up to date in memory while the
//! batch is decided.
//!
//! Everything that depends on a party's own submissions (what is known, which
//! references are taken) holds for as long as that party's head stands where
//! it was read; what depends on a complaint (what is erased, what repeats it)
//! for as long as its version does. So both are read before what they vouch
//! for, and the commit compares them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::{try_join, try_join4, try_join5};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    domain::{
        Complaint, ComplaintId, Decision, Digest, Event, EventBody, EventId, Micros, Outcome,
        PartKind, PartyId, Reference, SystemName, TrackingId,
    },
    exchange::Place,
    store::{Counts, SessionToken, StoreError},
};

use super::{
    again::Parked,
    damaged, decisions,
    error::Failure,
    rows::{digest, id16, kind_from, number, party},
    session::{QueryError, Session, one, rows},
};

/// Tracking IDs that are looked up for a new complaint: 60 bits that are taken
/// four times in a row do not happen.
pub(super) const TRACKING_ATTEMPTS: u8 = 4;

/// A party's submissions, as they were read and as the batch leaves them.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) journal: i64,
    pub(super) token: Option<SessionToken>,
    pub(super) read_position: u64,
    pub(super) place: Place,
    /// What the batch adds.
    pub(super) counts: Counts,
    /// Parked submissions that the batch settles: they are parked no more.
    pub(super) settled: u64,
    pub(super) is_changed: bool,
}

impl Head {
    /// One more outcome.
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.counts.count(outcome);
        self.is_changed = true;
    }
}

/// A submission that is known by its event.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) event_id: Option<EventId>,
    pub(super) mac: [u8; 16],
    /// Digest of the event's bytes.
    pub(super) content: Digest,
    pub(super) decision: Decision,
    pub(super) parts: Vec<StoredPart>,
}

/// A part of a known submission, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredPart {
    pub(super) kind: PartKind,
    pub(super) sha256: Digest,
    pub(super) erased_by: Option<EventId>,
}

/// A complaint, as it was read and as the batch leaves it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) row: i64,
    /// `None`: filed in this batch.
    pub(super) read_version: Option<i32>,
    pub(super) complaint: Complaint,
    pub(super) is_changed: bool,
}

/// What the history says of one revision.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) row: i64,
    pub(super) event_id: EventId,
    pub(super) author: PartyId,
    pub(super) accepted_at: Micros,
    pub(super) hops: u32,
    pub(super) decision: Decision,
}

/// What a batch is about: the keys of everything that has to be read.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) parties: BTreeSet<PartyId>,
    events: BTreeSet<EventId>,
    complaints: BTreeSet<ComplaintId>,
    /// Complaints whose filing has to be known.
    filings: BTreeSet<ComplaintId>,
    /// Complaints in which something is erased.
    erasing: BTreeSet<ComplaintId>,
    references: BTreeSet<(PartyId, SystemName, Reference, ComplaintId)>,
    /// Complaints to be told to a new reader, by their rows.
    pub(super) rows: Vec<i64>,
}

impl Wanted {
    /// Takes in what deciding this event may look at.
    pub(super) fn add(&mut self, event: &Event) {
        self.events.insert(event.event_id);
        self.complaints.insert(event.complaint_id);
        match &event.body {
            EventBody::Filed { .. } => {
                self.filings.insert(event.complaint_id);
            }
            EventBody::Merged { into } => {
                self.complaints.insert(*into);
            }
            EventBody::PartErased { event_id, .. } => {
                self.events.insert(*event_id);
                self.erasing.insert(event.complaint_id);
                self.filings.insert(event.complaint_id);
            }
            _ => {}
        }
        if let Some(reference) = &event.reference {
            // The origin's own references name what was filed under them.
            let filed = ComplaintId::derive(&event.party, &event.system, reference);
            self.complaints.insert(filed);
            self.references.insert((
                event.party.clone(),
                event.system.clone(),
                reference.clone(),
                event.complaint_id,
            ));
        }
    }
}

/// A reference, by whom and where.
pub(super) type ReferenceKey = (PartyId, SystemName, Reference);

/// What a batch knows.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) directory_version: i64,
    pub(super) heads: BTreeMap<PartyId, Head>,
    pub(super) stored: HashMap<i64, Stored>,
    pub(super) events: HashMap<EventId, i64>,
    pub(super) complaints: HashMap<ComplaintId, Standing>,
    pub(super) numbers: BTreeSet<u64>,
    pub(super) attached: HashMap<ReferenceKey, ComplaintId>,
    pub(super) named: HashMap<(PartyId, SystemName, ComplaintId), Reference>,
    /// Complaints in which something is erased: rows that repeat another one.
    pub(super) repetitions: HashMap<ComplaintId, Vec<i64>>,
    /// Revisions, by the complaint's row: those of this batch, and earlier
    /// ones that somebody has to be told.
    pub(super) history: HashMap<(i64, u32), Revision>,
    /// The submission that this batch settles, if it is parked.
    pub(super) parked: Option<Parked>,
}

pub(super) const DIRECTORY_VERSION: &str = "SELECT directory_version FROM node";

pub(super) const HEADS: &str = "SELECT party, epoch, journal, position, chain, token \
     FROM submission_head WHERE party = ANY ($1)";

pub(super) const STORED: &str = "SELECT id, event_id, mac, decision, sha256('\\x01'::bytea || event) \
     FROM submission WHERE id = ANY ($1)";

pub(super) const EVENTS: &str = "SELECT event_id, row FROM event_key WHERE event_id = ANY ($1)";

pub(super) const PARTS: &str =
    "SELECT row, kind, sha256, erased_by FROM part WHERE row = ANY ($1) ORDER BY row, place";

pub(super) const COMPLAINTS: &str =
    "SELECT id, complaint_id, version, state FROM complaint WHERE complaint_id = ANY ($1)";

pub(super) const COMPLAINTS_BY_ROW: &str =
    "SELECT id, complaint_id, version, state FROM complaint WHERE id = ANY ($1) ORDER BY id";

pub(super) const NUMBERS: &str = "SELECT number FROM complaint WHERE number = ANY ($1)";

pub(super) const REFERENCES: &str = "SELECT r.party, r.system, r.reference, r.complaint_id \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS w(party, system, reference) \
     JOIN reference r ON r.party = w.party AND r.system = w.system AND r.reference = w.reference";

pub(super) const NAMED: &str = "SELECT r.party, r.system, r.reference, r.complaint_id \
     FROM unnest($1::text[], $2::text[], $3::bytea[]) AS w(party, system, complaint_id) \
     JOIN reference r ON r.complaint_id = w.complaint_id AND r.party = w.party \
         AND r.system = w.system";

pub(super) const REPETITIONS: &str = "SELECT c.complaint_id, r.row FROM complaint c JOIN repetition r ON r.complaint = c.id \
     WHERE c.complaint_id = ANY ($1) ORDER BY r.row";

pub(super) const HISTORY: &str = "SELECT h.complaint, h.revision, h.row, s.event_id, j.party, s.stored_at, h.hops, s.decision \
     FROM unnest($1::bigint[], $2::integer[], $3::integer[]) AS w(complaint, first, last) \
     JOIN history h ON h.complaint = w.complaint AND h.revision BETWEEN w.first AND w.last \
     JOIN submission s ON s.id = h.row \
     JOIN journal j ON j.id = h.row >> 36";

/// Prepares what [`World::load`] sends.
pub(super) async fn prepare(client: &Session) -> Result<(), tokio_postgres::Error> {
    for sql in [
        HEADS,
        COMPLAINTS,
        COMPLAINTS_BY_ROW,
        DIRECTORY_VERSION,
        EVENTS,
        STORED,
        PARTS,
        NUMBERS,
        REFERENCES,
        NAMED,
        REPETITIONS,
        HISTORY,
    ] {
        client.prepare_cached(sql).await?;
    }
    Ok(())
}

/// The rows of a statement, which is not asked if it is about nothing.
async fn found(
    client: &Session,
    sql: &'static str,
    wanted: usize,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, QueryError> {
    match wanted {
        0 => Ok(Vec::new()),
        _ => rows(client, sql, values).await,
    }
}

impl World {
    /// Reads what is wanted.
    pub(super) async fn load(client: &Session, wanted: &Wanted) -> Result<Self, Failure> {
        let mut world = Self::default();
        let names: Vec<&str> = wanted.parties.iter().map(|id| id.as_str()).collect();
        let events = ids(&wanted.events, EventId::as_bytes);
        let complaints = ids(&wanted.complaints, ComplaintId::as_bytes);
        let erasing = ids(&wanted.erasing, ComplaintId::as_bytes);
        let numbers: Vec<i64> = wanted
            .filings
            .iter()
            .flat_map(|id| (0..TRACKING_ATTEMPTS).map(|n| TrackingId::number_of(id, n) as i64))
            .collect();
        let references: Vec<_> = wanted.references.iter().collect();
        let owners: Vec<&str> = references
            .iter()
            .map(|(party, ..)| party.as_str())
            .collect();
        let systems: Vec<&str> = references
            .iter()
            .map(|(_, found, ..)| found.as_str())
            .collect();
        let texts: Vec<&str> = references
            .iter()
            .map(|(_, _, found, _)| found.as_str())
            .collect();
        let named: Vec<&[u8]> = references
            .iter()
            .map(|(.., id)| id.as_bytes().as_slice())
            .collect();
        // One trip: all are sent before the first is answered, and the server
        // answers in this order, since every statement is prepared already.
        let (first, second) = try_join(
            // The directory's version comes first: it vouches for what is not there.
            try_join4(
                one(client, DIRECTORY_VERSION, &[]),
                rows(client, HEADS, &[&names]),
                found(client, COMPLAINTS, complaints.len(), &[&complaints]),
                found(
                    client,
                    COMPLAINTS_BY_ROW,
                    wanted.rows.len(),
                    &[&wanted.rows],
                ),
            ),
            try_join5(
                found(client, EVENTS, events.len(), &[&events]),
                found(client, NUMBERS, numbers.len(), &[&numbers]),
                found(
                    client,
                    REFERENCES,
                    owners.len(),
                    &[&owners, &systems, &texts],
                ),
                found(client, NAMED, owners.len(), &[&owners, &systems, &named]),
                found(client, REPETITIONS, erasing.len(), &[&erasing]),
            ),
        )
        .await?;
        let (version, heads, complaints, by_row) = first;
        let (known, numbers, references, named, repetitions) = second;
        world.directory_version = version.try_get(0)?;
        for row in &heads {
            world.heads.insert(party(row, 0)?, head(row)?);
        }
        for row in &known {
            let id = EventId::from_bytes(id16(row.try_get(0)?)?);
            world.events.insert(id, row.try_get(1)?);
        }
        for row in complaints.iter().chain(&by_row) {
            let standing = standing(row)?;
            world.complaints.insert(standing.complaint.id, standing);
        }
        for row in &numbers {
            world.numbers.insert(number(row, 0)?);
        }
        for row in references.iter().chain(&named) {
            let wrong = |_| damaged("a reference");
            let owner = party(row, 0)?;
            let system = SystemName::parse(row.try_get(1)?).map_err(wrong)?;
            let reference = Reference::parse(row.try_get(2)?).map_err(wrong)?;
            let complaint = ComplaintId::from_bytes(id16(row.try_get(3)?)?);
            world.attach(owner, system, reference, complaint);
        }
        for row in &repetitions {
            let id = ComplaintId::from_bytes(id16(row.try_get(0)?)?);
            world
                .repetitions
                .entry(id)
                .or_default()
                .push(row.try_get(1)?);
        }
        let filed = wanted.filings.iter();
        let filed = filed.filter_map(|id| world.complaints.get(id));
        let whole: Vec<i64> = world
            .events
            .values()
            .copied()
            .chain(filed.map(|standing| standing.row))
            .collect();
        world.load_stored(client, whole).await?;
        Ok(world)
    }

    /// Reads what was sent before: these rows with their parts, and those that
    /// repeat something. Hardly ever is there any.
    async fn load_stored(&mut self, client: &Session, whole: Vec<i64>) -> Result<(), Failure> {
        let mut all = whole.clone();
        all.extend(self.repetitions.values().flatten());
        let (stored, parts) = try_join(
            found(client, STORED, all.len(), &[&all]),
            found(client, PARTS, whole.len(), &[&whole]),
        )
        .await?;
        for row in &stored {
            self.stored.insert(row.try_get(0)?, stored_of(row)?);
        }
        for row in &parts {
            if let Some(stored) = self.stored.get_mut(&row.try_get(0)?) {
                let by: Option<&[u8]> = row.try_get(3)?;
                stored.parts.push(StoredPart {
                    kind: kind_from(row.try_get(1)?)?,
                    sha256: digest(row.try_get(2)?)?,
                    erased_by: by.map(id16).transpose()?.map(EventId::from_bytes),
                });
            }
        }
        Ok(())
    }

    /// A party calls this complaint so from now on.
    pub(super) fn attach(
        &mut self,
        party: PartyId,
        system: SystemName,
        reference: Reference,
        complaint: ComplaintId,
    ) {
        let name = (party.clone(), system.clone(), complaint);
        self.named.insert(name, reference.clone());
        self.attached.insert((party, system, reference), complaint);
    }

    /// The standing of a complaint that was loaded by its row.
    pub(super) fn by_row(&self, row: i64) -> Option<&Standing> {
        self.complaints.values().find(|found| found.row == row)
    }

    /// Reads revisions that somebody has to be told: (row of the complaint,
    /// first, last) each. They never change, so they need no check.
    pub(super) async fn load_history(
        &mut self,
        client: &Session,
        wanted: &[(i64, u32, u32)],
    ) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let complaints: Vec<i64> = wanted.iter().map(|found| found.0).collect();
        let first: Vec<i32> = wanted.iter().map(|found| found.1 as i32).collect();
        let last: Vec<i32> = wanted.iter().map(|found| found.2 as i32).collect();
        let found = rows(client, HISTORY, &[&complaints, &first, &last]).await?;
        for row in &found {
            let key = (row.try_get(0)?, row.try_get::<_, i32>(1)? as u32);
            self.history.insert(key, revision(row, 2)?);
        }
        Ok(())
    }
}

/// A revision of (row, event_id, author, stored_at, hops, decision) from a
/// column on.
pub(super) fn revision(row: &tokio_postgres::Row, column: usize) -> Result<Revision, StoreError> {
    Ok(Revision {
        row: row.try_get(column)?,
        event_id: EventId::from_bytes(id16(row.try_get(column + 1)?)?),
        author: party(row, column + 2)?,
        accepted_at: Micros(row.try_get(column + 3)?),
        hops: row.try_get::<_, i32>(column + 4)? as u32,
        decision: decisions::from_json(row.try_get(column + 5)?)?,
    })
}

fn head(row: &tokio_postgres::Row) -> Result<Head, StoreError> {
    let token: Option<&[u8]> = row.try_get(5)?;
    let position = number(row, 3)?;
    Ok(Head {
        epoch: number(row, 1)?,
        journal: row.try_get(2)?,
        token: token.map(id16).transpose()?.map(SessionToken),
        read_position: position,
        place: Place {
            position,
            chain: digest(row.try_get(4)?)?,
        },
        counts: Counts::default(),
        settled: 0,
        is_changed: false,
    })
}

fn stored_of(row: &tokio_postgres::Row) -> Result<Stored, StoreError> {
    let event_id: Option<&[u8]> = row.try_get(1)?;
    Ok(Stored {
        event_id: event_id.map(id16).transpose()?.map(EventId::from_bytes),
        mac: id16(row.try_get(2)?)?,
        decision: decisions::from_json(row.try_get(3)?)?,
        content: digest(row.try_get(4)?)?,
        parts: Vec::new(),
    })
}

fn standing(row: &tokio_postgres::Row) -> Result<Standing, StoreError> {
    let complaint: Complaint = serde_json::from_str(row.try_get(3)?)
        .map_err(|_| damaged("a complaint's state can't be read"))?;
    Ok(Standing {
        row: row.try_get(0)?,
        read_version: Some(row.try_get(2)?),
        complaint,
        is_changed: false,
    })
}

fn ids<T>(all: &BTreeSet<T>, bytes: impl Fn(&T) -> &[u8; 16]) -> Vec<&[u8]> {
    all.iter().map(|id| bytes(id).as_slice()).collect()
}
