//! The power goes: whatever was on its way to the disk beyond the last answer
//! may be there, half there, or garbage.

use std::fs;

use super::*;
use crate::{
    domain::{PartyId, PartyMode},
    exchange::{Direction, Place, entry_digest},
    store::{
        HubStore as _, Store,
        conformance::{at, city, filing, national, registered},
    },
};

/// Answers given; each carries one to three submissions.
const ANSWERS: usize = 30;
/// Bytes of a log's header.
pub(super) const HEADER: usize = 32;
/// Cuts for each role.
const CUTS: u64 = 100;

/// The files when an answer was given, and how many submissions it made.
struct Moment {
    database: Vec<u8>,
    log: Vec<u8>,
    stored: usize,
}

/// A stream of numbers that is the same each time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Where the log ends. Once it has begun anew, frames of its former life stand
/// behind: they carry other salts.
pub(super) fn end(log: &[u8]) -> usize {
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let salts = &log[16..24];
    let frames = log[HEADER..].chunks_exact(24 + page);
    let valid = frames.take_while(|frame| &frame[8..16] == salts).count();
    HEADER + valid * (24 + page)
}

/// The log is lost, empty or garbage from there on; which of it.
pub(super) fn spoil(log: &mut Vec<u8>, from: usize, dice: &mut Dice) -> &'static str {
    match dice.below(3) {
        0 => {
            log.truncate(from);
            "cut"
        }
        1 => {
            log[from..].fill(0);
            "zeros"
        }
        _ => {
            let until = from + dice.below(log.len() + 1 - from);
            log[from..until].iter_mut().for_each(|byte| *byte ^= 0x5a);
            "garbage"
        }
    }
}

fn author(role: NodeRole) -> PartyId {
    match role {
        NodeRole::Adapter => city(),
        NodeRole::Hub => national(),
    }
}

fn reference(n: usize) -> String {
    format!("P-{n}")
}

/// Writes, and keeps the files as they are at each answer. In between the log
/// is checkpointed once, and begins anew.
async fn write(directory: &Path, role: NodeRole) -> Vec<Moment> {
    let store = open(directory, role, decide).unwrap();
    if role == NodeRole::Hub {
        let party = registered(national(), PartyMode::Local);
        store.put_party(party).await.unwrap();
        store.set_national(national()).await.unwrap();
    }
    let path = directory.join("jembatan.db");
    let mut moments = Vec::new();
    let mut stored = 0;
    for answer in 0..ANSWERS {
        if answer == ANSWERS / 2 {
            let other = rusqlite::Connection::open(&path).unwrap();
            let sql = "PRAGMA wal_checkpoint(FULL)";
            other.query_row(sql, [], |_| Ok(())).unwrap();
        }
        let batch: Vec<_> = (0..=answer % 3)
            .map(|n| filing(&author(role), &reference(stored + n), "isi", None))
            .collect();
        stored += batch.len();
        for result in store.submit(batch, at(1)).await.unwrap() {
            result.unwrap();
        }
        moments.push(Moment {
            database: fs::read(&path).unwrap(),
            log: fs::read(path.with_extension("db-wal")).unwrap(),
            stored,
        });
    }
    moments
}

/// Opens what is left; how many submissions are there. Everything that was
/// answered is, and the chain is that of the bytes.
async fn look(directory: &Path, role: NodeRole, answered: usize, what: &str) -> usize {
    let store = open(directory, role, decide).unwrap_or_else(|error| panic!("{what}: {error}"));
    let party = author(role);
    let heads = store.heads(&party).await.unwrap();
    let mut place = Place::root(&party, Direction::Submissions, heads.epoch);
    let page = Store::read(&store, &party, Direction::Submissions, 1, 1_000, usize::MAX);
    for entry in page.await.unwrap() {
        assert!(!entry.entry.parts.is_empty(), "{what}");
        place = place.after(&entry_digest(Direction::Submissions, &entry.entry));
    }
    assert_eq!(place, heads.submissions, "{what}: the chain");
    let there = place.position as usize;
    assert!(there >= answered, "{what}: {there} of {answered} are there");
    let again = (0..there).map(|n| filing(&party, &reference(n), "isi", None));
    for result in store.submit(again.collect(), at(2)).await.unwrap() {
        let receipt = result.unwrap();
        assert!(receipt.repeated, "{what}");
        if role == NodeRole::Hub {
            assert_eq!(receipt.decision.unwrap().revision, 1, "{what}");
        }
    }
    let next = filing(&party, &reference(there), "isi", None);
    let next = store.submit(vec![next], at(3)).await.unwrap().remove(0);
    assert!(!next.unwrap().repeated, "{what}: it goes on");
    store.close().await;
    there
}

async fn cut_anywhere(role: NodeRole) {
    let directory = tempfile::tempdir().unwrap();
    let moments = write(directory.path(), role).await;
    let mut dice = Dice(role as u64 + 7);
    let (mut exact, mut beyond) = (0, 0);
    for cut in 0..CUTS {
        let place = dice.below(moments.len() - 1);
        let (answered, under_way) = (&moments[place], &moments[place + 1]);
        let is_same_log = under_way.log[..HEADER] == answered.log[..HEADER];
        // What stood in the log before it began anew is in the database.
        let safe = if is_same_log { end(&answered.log) } else { 0 };
        let mut log = under_way.log.clone();
        let from = safe + dice.below(log.len() + 1 - safe);
        let how = spoil(&mut log, from, &mut dice);
        let what = format!("{role:?}, cut {cut}: {how} from {from} on, answer {place}");
        let left = directory.path().join(format!("left-{cut}"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("jembatan.db"), &under_way.database).unwrap();
        fs::write(left.join("jembatan.db-wal"), &log).unwrap();
        let there = look(&left, role, answered.stored, &what).await;
        // A transaction is there whole or not at all.
        assert!(
            there == answered.stored || there == under_way.stored,
            "{what}: {there}"
        );
        match there == answered.stored {
            true => exact += 1,
            false => beyond += 1,
        }
    }
    assert!(
        exact > 10 && beyond > 0,
        "{exact} without what was under way, {beyond} with it"
    );
}

/// Scenario: the power goes at a hundred moments of a node's life: the log is
/// cut, zeroed or garbled at any place beyond what the last answer stands on.
/// Guarantee: everything that was answered is there and still a repetition,
/// the chain is that of the bytes, a transaction is there whole or not at all,
/// and the store goes on.
#[tokio::test]
async fn a_node_survives_any_power_cut() {
    cut_anywhere(NodeRole::Adapter).await;
}

/// Scenario: the same at a hub that decides as it stores.
/// Guarantee: the same, with the decisions.
#[tokio::test]
async fn a_hub_survives_any_power_cut() {
    cut_anywhere(NodeRole::Hub).await;
}
