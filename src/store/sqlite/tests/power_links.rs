//! The power goes while a link carries: whatever a peer, or a local system, was
//! told is on the disk, also what waits for company before it is committed.

use std::fs;

use super::{
    power::{Dice, HEADER, end, spoil},
    *,
};
use crate::{
    domain::{Complaint, Context, Digest, Event, PartyId, Rejection, Verdict},
    exchange::{Direction, Entry, Place, entry_digest, extend},
    store::{
        ReceiveBatch, Store,
        conformance::{World, at, city, filing, province, received},
    },
};

/// Rounds of the link; the logs are moved into the files after some of them.
const ROUNDS: usize = 6;
/// Cuts at each of the three stores.
const CUTS: usize = 40;
/// Bytes of a page of the file.
const PAGE: usize = 8_192;

/// Parks some, so that there is something to settle.
fn fails_on_some(
    known: Option<&Complaint>,
    event: &Event,
    context: Context<'_>,
) -> Result<Verdict, Rejection> {
    assert!(!event.key.as_str().contains("poison"), "on purpose");
    decide(known, event, context)
}

/// A store's files when an answer was given, and what it says of itself.
struct Moment {
    after: &'static str,
    database: Vec<u8>,
    log: Vec<u8>,
    seen: String,
}

/// What a log holds is being written into the file.
struct Moving {
    before: Vec<u8>,
    after: Vec<u8>,
    log: Vec<u8>,
    seen: String,
}

struct Watched {
    name: &'static str,
    role: NodeRole,
    parties: Vec<PartyId>,
    moments: Vec<Moment>,
    moving: Vec<Moving>,
}

impl Watched {
    fn new(name: &'static str, role: NodeRole, parties: Vec<PartyId>) -> Self {
        Self {
            name,
            role,
            parties,
            moments: Vec::new(),
            moving: Vec::new(),
        }
    }

    fn file(&self, world: &World) -> std::path::PathBuf {
        world.directory.path().join(self.name).join("jembatan.db")
    }

    async fn answered(&mut self, world: &World, store: &dyn Store, after: &'static str) {
        // First the files: looking ends the waiting of what waits for company.
        let file = self.file(world);
        self.moments.push(Moment {
            after,
            database: fs::read(&file).unwrap(),
            log: fs::read(file.with_extension("db-wal")).unwrap(),
            seen: self.look(store).await,
        });
    }

    async fn move_log(&mut self, world: &World, store: &dyn Store) {
        let file = self.file(world);
        let before = fs::read(&file).unwrap();
        let other = rusqlite::Connection::open(&file).unwrap();
        let sql = "PRAGMA wal_checkpoint(FULL)";
        other.query_row(sql, [], |_| Ok(())).unwrap();
        self.moving.push(Moving {
            before,
            after: fs::read(&file).unwrap(),
            log: fs::read(file.with_extension("db-wal")).unwrap(),
            seen: self.look(store).await,
        });
    }

    /// Places, marks, counts and letters; each chain is that of its bytes.
    async fn look(&self, store: &dyn Store) -> String {
        let mut seen = String::new();
        for party in &self.parties {
            let heads = store.heads(party).await.unwrap();
            let counts = store.counts(party).await.unwrap();
            let mut deliveries = heads.deliveries_acknowledged;
            if self.role == NodeRole::Hub {
                let place = store.place_at(party, Direction::Deliveries, heads.deliveries);
                deliveries = place.await.unwrap().unwrap();
            }
            for (direction, head) in [
                (Direction::Submissions, heads.submissions),
                (Direction::Deliveries, deliveries),
            ] {
                if direction == Direction::Submissions && heads.copy_wanted.is_some() {
                    continue;
                }
                let mut place = Place::root(party, direction, heads.epoch);
                for entry in store
                    .read(party, direction, 1, 1_000, usize::MAX)
                    .await
                    .unwrap()
                {
                    place = place.after(&entry_digest(direction, &entry.entry));
                }
                assert_eq!(place, head, "{}: {party} {direction:?}", self.name);
            }
            seen += &format!("{party}: {heads:?} {deliveries:?} {counts:?}\n");
        }
        let letters = store.dead_letters(None, 0, 100).await.unwrap();
        let letters = letters.iter().map(|letter| (letter.epoch, letter.position));
        seen + &format!("letters: {:?}", letters.collect::<Vec<_>>())
    }

    async fn left(&self, place: &Path, database: &[u8], log: &[u8]) -> String {
        fs::create_dir(place).unwrap();
        fs::write(place.join("jembatan.db"), database).unwrap();
        fs::write(place.join("jembatan.db-wal"), log).unwrap();
        let store = open(place, self.role, decide).unwrap();
        let seen = self.look(&store).await;
        store.close().await;
        seen
    }

    /// What stands there once a link has opened again.
    async fn linked(&self, place: &Path) -> String {
        let store = open(place, self.role, decide).unwrap();
        for party in &self.parties {
            let head = store.heads(party).await.unwrap().submissions;
            let told = store.acknowledge(party, Direction::Submissions, head);
            told.await.unwrap();
        }
        let seen = self.look(&store).await;
        store.close().await;
        seen
    }
}

async fn entries(
    store: &dyn Store,
    party: &PartyId,
    direction: Direction,
    after: u64,
) -> Vec<Entry> {
    let read = store.read(party, direction, after + 1, 1_000, usize::MAX);
    read.await.unwrap().into_iter().map(|e| e.entry).collect()
}

/// Hub, province and city, in this order; a moment after each answer.
async fn life(world: &World) -> [Watched; 3] {
    let mut hub = Watched::new("hub", NodeRole::Hub, vec![province(), city()]);
    let mut one = Watched::new("province", NodeRole::Adapter, vec![province()]);
    let mut two = Watched::new("city", NodeRole::Adapter, vec![city()]);
    let up = Direction::Submissions;
    let down = Direction::Deliveries;
    for round in 0..ROUNDS {
        let names = ["A", "B", "poison"].map(|name| format!("{name}-{round}"));
        let batch = names.map(|name| filing(&province(), &name, "isi", None));
        world.province.submit(batch.to_vec(), at(1)).await.unwrap();
        one.answered(world, &*world.province, "submit").await;

        let expected = world.hub.heads(&province()).await.unwrap().submissions;
        let new = entries(&*world.province, &province(), up, expected.position).await;
        let batch = world.batch(expected, new);
        let place = world.hub.accept(&province(), batch).await.unwrap();
        hub.answered(world, &*world.hub, "accept").await;
        let told = world.province.acknowledge(&province(), up, place);
        told.await.unwrap();
        one.answered(world, &*world.province, "acknowledge").await;

        for (party, node, watched) in [
            (province(), &world.province, &mut one),
            (city(), &world.city, &mut two),
        ] {
            let expected = node.heads(&party).await.unwrap().deliveries_acknowledged;
            let new = entries(&*world.hub, &party, down, expected.position).await;
            let head = extend(expected, down, &new);
            let batch = ReceiveBatch {
                expected,
                entries: new.into_iter().map(received).collect(),
                head,
                now: at(200),
            };
            node.receive(&party, batch).await.unwrap();
            watched.answered(world, &**node, "receive").await;
            world.hub.acknowledge(&party, down, head).await.unwrap();
            hub.answered(world, &*world.hub, "acknowledge").await;
            node.consume(&party, head.position).await.unwrap();
            watched.answered(world, &**node, "consume").await;
            world.hub.consume(&party, head.position).await.unwrap();
            hub.answered(world, &*world.hub, "consume").await;
        }
        let letter = world.hub.dead_letters(None, 0, 1).await.unwrap().remove(0);
        let place = (letter.epoch, letter.position);
        let no = Rejection::dropped("uji coba");
        let settled = world.hub.drop_parked(&province(), place, no, at(300));
        assert!(settled.await.unwrap().is_some());
        hub.answered(world, &*world.hub, "drop_parked").await;
        if round % 2 == 1 {
            hub.move_log(world, &*world.hub).await;
            one.move_log(world, &*world.province).await;
            two.move_log(world, &*world.city).await;
        }
    }
    // The hub is right: two of the city's own go behind what it says.
    let batch = ["C", "D", "E"].map(|name| filing(&city(), name, "isi", None));
    world.city.submit(batch.to_vec(), at(2)).await.unwrap();
    two.answered(world, &*world.city, "submit").await;
    let head = Place {
        position: 4,
        chain: Digest([9; 32]),
    };
    let heads = world.city.adopt(&city(), 1, head).await.unwrap();
    assert!(heads.copy_wanted.is_some());
    two.answered(world, &*world.city, "adopt").await;
    // An epoch begins, and the last two go again.
    let heads = world.province.heads(&province()).await.unwrap();
    let kept = heads.submissions.position - 2;
    let begun = world
        .province
        .adopt_epoch(&province(), heads.epoch + 1, kept);
    assert_eq!(begun.await.unwrap().submissions.position, 2);
    one.answered(world, &*world.province, "adopt_epoch").await;
    [hub, one, two]
}

/// Scenario: the power goes at a hub and two adapters after any answer of a link:
/// entries taken and received, acknowledged, consumed, a letter settled, a head
/// and an epoch adopted; the log is cut, zeroed or garbled at any place beyond
/// what that answer stands on.
/// Guarantee: places, chains, marks, counts and letters are those of the answer,
/// or those of the next one, whole, at the latest when a link opens again: nobody
/// was told what the disk does not hold.
#[tokio::test]
async fn a_link_survives_any_power_cut() {
    let world = World::deciding(&Sqlite, fails_on_some).await;
    for watched in life(&world).await {
        let mut dice = Dice(watched.moments.len() as u64);
        let (mut exact, mut beyond) = (0, 0);
        for cut in 0..CUTS {
            // Each is cut once at least at its end, which is not drawn often.
            let last = watched.moments.len() - 2;
            let place = if cut == 0 { last } else { dice.below(last + 1) };
            let (answered, under_way) = (&watched.moments[place], &watched.moments[place + 1]);
            let is_same_log = under_way.log[..HEADER] == answered.log[..HEADER];
            let safe = if is_same_log { end(&answered.log) } else { 0 };
            let mut log = under_way.log.clone();
            // As far as the next answer stands on; behind it nothing matters.
            let until = end(&log).max(safe);
            let from = match cut % 4 {
                0 => until,
                _ => safe + dice.below(until + 1 - safe),
            };
            let how = spoil(&mut log, from, &mut dice);
            let what = format!(
                "{}, cut {cut}: {how} from {from} on, after {} before {}",
                watched.name, answered.after, under_way.after
            );
            let left = world
                .directory
                .path()
                .join(format!("{}-{cut}", watched.name));
            let mut seen = watched.left(&left, &under_way.database, &log).await;
            if seen == answered.seen {
                exact += 1;
                continue;
            }
            // Set aside and not appended again yet: the next link sees to it.
            if seen != under_way.seen && under_way.after.starts_with("adopt") {
                seen = watched.linked(&left).await;
            }
            assert_eq!(seen, under_way.seen, "{what}; or {}", answered.seen);
            beyond += 1;
        }
        assert!(
            exact > 5 && beyond > 0,
            "{}: {exact} {beyond}",
            watched.name
        );
    }
}

/// Scenario: the power goes while a log is moved into the file: any of the file's
/// pages are new, others old or, at its end, missing or zeros; the log is whole.
/// Guarantee: everything is there, as if the log had not been moved.
#[tokio::test]
async fn a_log_half_moved_into_the_file_loses_nothing() {
    let world = World::deciding(&Sqlite, fails_on_some).await;
    for watched in life(&world).await {
        let mut dice = Dice(5);
        for (number, moving) in watched.moving.iter().enumerate() {
            assert_ne!(moving.before, moving.after, "something was moved");
            for cut in 0..8 {
                let mut file = moving.after.clone();
                let old = moving.before.len();
                for (at, page) in file.chunks_mut(PAGE).enumerate() {
                    if dice.below(2) == 0 {
                        match moving.before.get(at * PAGE..(at + 1) * PAGE) {
                            Some(before) => page.copy_from_slice(before),
                            None => page.fill(0),
                        }
                    }
                }
                let more = file.len().saturating_sub(old) / PAGE;
                file.truncate(old + dice.below(more + 1) * PAGE);
                let name = format!("{}-moving-{number}-{cut}", watched.name);
                let left = world.directory.path().join(&name);
                let seen = watched.left(&left, &file, &moving.log).await;
                assert_eq!(seen, moving.seen, "{name}");
            }
        }
    }
}
