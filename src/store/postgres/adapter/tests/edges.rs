//! Who may write, what memory says, and that both engines say the same.

use super::*;
use crate::{
    domain::{ComplaintName, EventBody, PartyId, Progress},
    exchange::Direction,
    store::{
        ComplaintRecord, JournalEntry, NewSubmission, Store as _,
        conformance::{TOKEN, at, city, event, filing, own_filing, province, referring},
        postgres::{check, check_adapter, migrate, tests::value},
    },
};

/// Scenario: a second process opens the database of one that runs; the first ends; a
/// third, whose lines are cut, comes back while nobody else is there, and while
/// somebody else is.
/// Guarantee: the second is told who holds it, by the process's number; once the first
/// has ended it comes in at once; a cut line is taken again by its own process; who
/// finds that another one has written meanwhile writes nothing more, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_writes() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let url = cluster.url(&name);
    let first = open(&url).await.unwrap();
    let error = open(&url).await.err().unwrap().to_string();
    let own = format!("process {}", std::process::id());
    assert!(
        error.contains(&own) && error.contains("database of its own"),
        "{error}"
    );
    first.close().await;
    let second = open(&url).await.unwrap();
    second.probe().await.unwrap();

    let cut = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    assert!(value(cluster, &name, &cut).await > 0);
    second.probe().await.unwrap();

    // As if another process had come in while this one's line was away.
    sql(
        cluster,
        &name,
        "UPDATE writer SET holder = 'other', generation = generation + 1",
    )
    .await;
    value(cluster, &name, &cut).await;
    let error = second.probe().await.err().unwrap().to_string();
    assert!(error.contains("another process has written"), "{error}");
    assert!(second.left_behind().await.contains("started anew"));
    second.close().await;
    open(&url).await.unwrap().close().await;
}

/// Scenario: an adapter is given a hub's database, a hub an adapter's, and an adapter
/// an empty one.
/// Guarantee: each is refused by a sentence that says whose it is, and changes nothing
/// there; the empty one needs its schema first.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_other_kind_is_refused() {
    let Some(cluster) = shared() else { return };
    let fresh = async |prefix: &str| {
        let name = format!("{prefix}{}", hex::encode(random_bytes::<8>()));
        sql(cluster, "postgres", &format!("CREATE DATABASE {name}")).await;
        settings(&cluster.url(&name))
    };
    let (hubs, adapters) = (fresh("h").await, fresh("a").await);
    let error = open_with(adapters.clone()).await.err().unwrap().to_string();
    assert!(error.contains("jembatan store migrate"), "{error}");
    migrate(&hubs).await.unwrap();
    migrate_adapter(&adapters).await.unwrap();
    let refused = [
        open_with(hubs.clone()).await.err(),
        migrate_adapter(&hubs).await.err(),
        check_adapter(&hubs).await.err(),
    ];
    for error in refused {
        let error = error.unwrap().to_string();
        assert!(
            error.contains("the store of a hub; an adapter needs"),
            "{error}"
        );
    }
    let refused = [migrate(&adapters).await.err(), check(&adapters).await.err()];
    for error in refused {
        let error = error.unwrap().to_string();
        assert!(
            error.contains("the store of an adapter; a hub needs"),
            "{error}"
        );
    }
    assert!(check(&hubs).await.unwrap().fits() && check_adapter(&adapters).await.unwrap().fits());
    open_with(adapters).await.unwrap().close().await;
}

/// Scenario: a reader follows the writer; it falls behind, goes back to the beginning,
/// and goes on; the store forgets everything in between.
/// Guarantee: at every step memory says what the database says, entries and heads.
#[tokio::test(flavor = "multi_thread")]
async fn memory_says_what_the_database_says() {
    let Some(cluster) = shared() else { return };
    let store = open(&cluster.url(&database(cluster).await)).await.unwrap();
    let read = async |from: u64, most: usize| {
        let party = city();
        let read = store.read(&party, Direction::Submissions, from, most, usize::MAX);
        read.await.unwrap()
    };
    let stored = async |from: u64, most: usize| {
        let (reader, party) = (store.reader().await.unwrap(), city());
        let max = (most, usize::MAX);
        super::super::journal::read(&reader, &party, Direction::Submissions, from, max)
            .await
            .unwrap()
    };
    let mut from = 1;
    for n in 0..40 {
        let new = filing(&city(), &format!("N-{n}"), "isi", None);
        store.submit(vec![new], at(1)).await.unwrap();
        if n % 10 == 9 {
            store.shared.memory.forget_all();
        }
        // It reads on at two of three steps only.
        if n % 3 == 0 {
            continue;
        }
        let entries = read(from, 100).await;
        assert_eq!(entries, stored(from, 100).await, "from {from}");
        assert_eq!(entries.len() as u64, n + 2 - from);
        from = n + 2;
        let heads = store.heads(&city()).await.unwrap();
        store.shared.memory.forget_all();
        assert_eq!(heads, store.heads(&city()).await.unwrap());
    }
    assert_eq!(read(from + 1, 100).await, Vec::new(), "nothing yet");
    assert_eq!(read(1, 7).await, stored(1, 7).await);
    // Bytes limit a page, but one entry always comes.
    let one = store.read(&city(), Direction::Submissions, 1, 100, 1);
    assert_eq!(one.await.unwrap().len(), 1);
    store.close().await;
}

/// Scenario: a hundred callers at once; one of them hands over something that panics
/// in this store, another something that the server does not take.
/// Guarantee: those two hear an error; all others are stored, once, without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_write_spoils_no_other() {
    let Some(cluster) = shared() else { return };
    let store = open(&cluster.url(&database(cluster).await)).await.unwrap();
    let good = (0..100).map(|n| {
        let new = filing(&city(), &format!("N-{n}"), "isi", None);
        store.submit(vec![new], at(1))
    });
    let panics = store.write::<()>(|_| panic!("on purpose"));
    let unfit = store.write(|world| {
        // A text that PostgreSQL has no room for.
        let key = (
            city().to_string(),
            "s\0".to_owned(),
            String::new(),
            String::new(),
        );
        world.job().work_items.insert(key, (1, at(1)));
        Ok(())
    });
    let (good, panics, unfit) = tokio::join!(futures_util::future::join_all(good), panics, unfit);
    assert!(panics.unwrap_err().to_string().contains("internal error"));
    assert!(unfit.is_err());
    for receipts in good {
        assert!(!receipts.unwrap().remove(0).unwrap().repeated);
    }
    let heads = store.heads(&city()).await.unwrap();
    assert_eq!(heads.submissions.position, 100);
    let all = store.read(&city(), Direction::Submissions, 1, 1_000, usize::MAX);
    assert_eq!(all.await.unwrap().len(), 100);
    store.close().await;
}

/// For each region a node on either engine, which are told the same.
struct Twins {
    world: World,
    /// Of province and city.
    others: [Arc<dyn AdapterStore>; 2],
    filed: Vec<NewSubmission>,
}

/// A region, and its nodes on PostgreSQL and SQLite.
type Pair<'a> = (
    PartyId,
    &'a Arc<dyn AdapterStore>,
    &'a Arc<dyn AdapterStore>,
);

impl Twins {
    async fn new(nodes: &Nodes) -> Self {
        let world = World::new(nodes).await;
        let others =
            ["twin-one", "twin-two"].map(|name| sqlite_node(&world.directory.path().join(name)));
        let twins = Self {
            world,
            others,
            filed: Vec::new(),
        };
        for (party, one, other) in twins.pairs() {
            let epoch = one.heads(&party).await.unwrap().epoch;
            other.adopt_epoch(&party, epoch, 0).await.unwrap();
        }
        twins
    }

    fn pairs(&self) -> [Pair<'_>; 2] {
        let [province_s, city_s] = &self.others;
        [
            (province(), &self.world.province, province_s),
            (city(), &self.world.city, city_s),
        ]
    }

    async fn submit(&mut self, new: NewSubmission, second: i64) {
        let [of_province, of_city] = self.pairs();
        let (_, one, two) = match new.party == of_city.0 {
            true => of_city,
            false => of_province,
        };
        let one = one.submit(vec![new.clone()], at(second));
        let two = two.submit(vec![new.clone()], at(second));
        assert_eq!(one.await.unwrap(), two.await.unwrap(), "{}", new.event.key);
        let id = new.event.complaint_id;
        if !self
            .filed
            .iter()
            .any(|known| known.event.complaint_id == id)
        {
            self.filed.push(new);
        }
    }

    /// Deliveries come to both, from where they stand.
    async fn carry_down(&self) {
        for (party, one, two) in self.pairs() {
            let heads = two.heads(&party).await.unwrap();
            let expected = heads.deliveries_acknowledged;
            let from = expected.position + 1;
            let hub = &self.world.hub;
            let read = hub.read(&party, Direction::Deliveries, from, 1_000, usize::MAX);
            let entries: Vec<_> = read.await.unwrap().into_iter().map(|e| e.entry).collect();
            let batch = crate::store::ReceiveBatch {
                expected,
                head: crate::exchange::extend(expected, Direction::Deliveries, &entries),
                entries: entries.into_iter().map(conformance::received).collect(),
                now: at(200),
            };
            let place = two.receive(&party, batch.clone()).await.unwrap();
            assert_eq!(one.receive(&party, batch).await.unwrap(), place);
            hub.acknowledge(&party, Direction::Deliveries, place)
                .await
                .unwrap();
        }
    }

    /// Submissions go up, from the first; both are acknowledged.
    async fn carry_up(&self) {
        for (party, one, two) in self.pairs() {
            self.world.carry_up(&party, one).await;
            let place = self.world.hub.heads(&party).await.unwrap().submissions;
            two.acknowledge(&party, Direction::Submissions, place)
                .await
                .unwrap();
        }
    }

    /// Both know the same, of everything.
    async fn same(&self, when: &str) {
        for pair in self.pairs() {
            self.same_of(pair, when).await;
        }
    }

    async fn same_of(&self, (party, one, two): Pair<'_>, when: &str) {
        let heads = (
            one.heads(&party).await.unwrap(),
            two.heads(&party).await.unwrap(),
        );
        assert_eq!(heads.0, heads.1, "{when}: heads of {party}");
        let counts = (
            one.counts(&party).await.unwrap(),
            two.counts(&party).await.unwrap(),
        );
        assert_eq!(counts.0, counts.1, "{when}: counts of {party}");
        for direction in [Direction::Submissions, Direction::Deliveries] {
            let all = async |node: &Arc<dyn AdapterStore>| -> Vec<JournalEntry> {
                let read = node.read(&party, direction, 1, 1_000, usize::MAX);
                read.await.unwrap()
            };
            assert_eq!(all(one).await, all(two).await, "{when}: {direction:?}");
            for position in 0..=heads.0.submissions.position.max(heads.0.deliveries) + 1 {
                let places = (
                    one.place_at(&party, direction, position).await.unwrap(),
                    two.place_at(&party, direction, position).await.unwrap(),
                );
                assert_eq!(places.0, places.1, "{when}: {direction:?} {position}");
            }
        }
        let earlier = async |node: &Arc<dyn AdapterStore>| {
            let mut all = Vec::new();
            for left in node.earlier_inboxes(&party).await.unwrap() {
                let from = (left.epoch, left.consumed_through + 1);
                let read = node.read_earlier(&party, from, (1_000, usize::MAX));
                all.push((left, read.await.unwrap()));
            }
            all
        };
        assert_eq!(earlier(one).await, earlier(two).await, "{when}: earlier");
        for filed in &self.filed {
            let (id, event) = (filed.event.complaint_id, filed.event.event_id);
            let system = &filed.event.system;
            let name = ComplaintName::Reference(filed.event.reference.clone().unwrap());
            let known = async |node: &Arc<dyn AdapterStore>| -> Option<ComplaintRecord> {
                node.complaint(&party, &id).await.unwrap()
            };
            let record = known(one).await;
            assert_eq!(record, known(two).await, "{when}: {}", filed.event.key);
            let mut names = vec![name, ComplaintName::Id(id)];
            let tracking_id = record.and_then(|record| record.tracking_id);
            names.extend(tracking_id.map(ComplaintName::TrackingId));
            for name in names {
                let found = (
                    one.find(&party, system, &name).await.unwrap(),
                    two.find(&party, system, &name).await.unwrap(),
                );
                assert_eq!(found.0, found.1, "{when}: {name:?}");
            }
            let told = async |node: &Arc<dyn AdapterStore>| {
                node.receipt(&party, &event, &id).await.unwrap()
            };
            assert_eq!(
                told(one).await,
                told(two).await,
                "{when}: {}",
                filed.event.key
            );
        }
    }
}

fn sqlite_node(directory: &Path) -> Arc<dyn AdapterStore> {
    let node = SqliteStore::open(sqlite::Options {
        directory: directory.to_owned(),
        role: NodeRole::Adapter,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide: crate::domain::decide,
    });
    Arc::new(node.unwrap())
}

/// The same operations on both engines, drawn by a small generator; what a step does
/// depends on its number alone, so a failure is repeated by its seed.
async fn same_life(cluster: &'static Cluster, seed: u64) {
    let nodes = Nodes::on(cluster);
    let mut twins = Twins::new(&nodes).await;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        // xorshift64: any sequence will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (mut epochs, mut named) = (0, 0);
    for step in 0..60 {
        let when = format!("seed {seed}, step {step}");
        let second = step + 1;
        match draw(12) {
            0 | 1 => {
                named += 1;
                let name = format!("A-{named}");
                let new = match draw(4) {
                    0 => filing(&province(), &name, "isi", None),
                    1 => filing(&province(), &name, "isi", Some(&format!("k-{named}"))),
                    2 => own_filing(&city(), &name),
                    _ => own_filing(&province(), &name),
                };
                twins.submit(new, second).await;
            }
            2 if !twins.filed.is_empty() => {
                // Once more, or the same reference with another text.
                let known = &twins.filed[draw(twins.filed.len() as u64) as usize];
                let reference = known.event.reference.clone().unwrap();
                let new = match draw(2) {
                    0 => known.clone(),
                    _ => filing(&known.party, reference.as_str(), "isi lain", None),
                };
                twins.submit(new, second).await;
            }
            3..=5 if !twins.filed.is_empty() => {
                let known = twins.filed[draw(twins.filed.len() as u64) as usize].clone();
                let author = [province(), city()][draw(2) as usize].clone();
                let key = format!("e-{step}");
                let started = EventBody::HandlingStarted {
                    unit: "DPU".to_owned(),
                };
                let new = match draw(5) {
                    0 => event(&author, &known, &key, started),
                    1 => referring(&author, &known, &key, started, &format!("R-{}", draw(4))),
                    2 => {
                        let changed = EventBody::VisibilityChanged {
                            anonymous: Some(true),
                            confidential: None,
                        };
                        event(&author, &known, &key, changed)
                    }
                    _ => {
                        let erased = EventBody::PartErased {
                            event_id: known.event.event_id,
                            sha256: known.parts[0].sha256,
                        };
                        event(&author, &known, &key, erased)
                    }
                };
                twins.submit(new, second).await;
            }
            6 | 7 => twins.carry_up().await,
            8 => twins.carry_down().await,
            9 => {
                let less = draw(2);
                for (party, one, two) in twins.pairs() {
                    let through = two.heads(&party).await.unwrap().deliveries;
                    let through = through.saturating_sub(less);
                    let consumed = one.consume(&party, through).await.unwrap();
                    assert_eq!(consumed, two.consume(&party, through).await.unwrap());
                    for left in two.earlier_inboxes(&party).await.unwrap() {
                        let some = left.head - less.min(left.head);
                        let consumed = one.consume_in(&party, left.epoch, some).await.unwrap();
                        let same = two.consume_in(&party, left.epoch, some).await.unwrap();
                        assert_eq!(consumed, same, "{when}");
                    }
                }
            }
            10 => {
                let (before, now) = (at(1_000 + step * 10), at(1_005 + step * 10));
                for (party, one, two) in twins.pairs() {
                    let pruned = one.prune(&party, before, now).await.unwrap();
                    assert_eq!(
                        pruned,
                        two.prune(&party, before, now).await.unwrap(),
                        "{when}"
                    );
                }
            }
            _ if epochs < 3 => {
                epochs += 1;
                next_epoch(&mut twins, &nodes, epochs, draw(3)).await;
            }
            _ => {}
        }
        twins.same(&when).await;
    }
    twins.world.province.close().await;
    twins.world.city.close().await;
    assert!(named > 0);
}

/// The hub's operator begins an epoch, and all enter it, with proof of what the hub holds
/// (2) or without (1); or all have lost their stores (0). Then they take back what the
/// hub has.
async fn next_epoch(twins: &mut Twins, nodes: &Nodes, number: i64, how: u64) {
    let directory = twins.world.directory.path().to_owned();
    if how == 0 {
        let place = |name: &str| directory.join(format!("new-{number}-{name}"));
        twins.world.province = nodes.node(&place("province"));
        twins.world.city = nodes.node(&place("city"));
        twins.others = ["one", "two"].map(|name| sqlite_node(&place(name)));
    } else {
        let hub = directory.join("hub");
        twins
            .world
            .stop_hub(nodes, &format!("aside-{number}"))
            .await;
        let now = Micros(at(number * 1_000).0 * 2);
        nodes.recover(&hub, now, false);
        twins.world.hub = nodes.hub(&hub, crate::domain::decide);
    }
    for (party, one, two) in twins.pairs() {
        let heads = two.heads(&party).await.unwrap();
        let hub = &twins.world.hub;
        let epoch = hub.open_session(&party, TOKEN).await.unwrap().epoch;
        let received = heads.deliveries_acknowledged.position;
        hub.catch_up(&party, heads.epoch, received).await.unwrap();
        let ended = hub.ended_epoch(&party, heads.epoch).await.unwrap();
        let resend_after = match how {
            1 => 0,
            _ => ended.map_or(0, |ended| ended.submissions.position),
        };
        let mut after = Vec::new();
        for node in [one, two] {
            node.adopt_epoch(&party, epoch, resend_after).await.unwrap();
            let there = hub.heads(&party).await.unwrap().submissions;
            let here = node.heads(&party).await.unwrap().submissions;
            if there.position > 0 && here != there {
                let mut wanted = node.adopt(&party, 0, there).await.unwrap().copy_wanted;
                while let Some(copy) = wanted {
                    wanted = fill(&twins.world, &**node, &party, copy.first).await;
                }
            }
            after.push(node.heads(&party).await.unwrap());
        }
        assert_eq!(after[0], after[1]);
    }
}

/// A few copied submissions come into their gap.
async fn fill(
    world: &World,
    node: &dyn AdapterStore,
    party: &PartyId,
    first: u64,
) -> Option<crate::store::CopyWanted> {
    let read = world
        .hub
        .read(party, Direction::Submissions, first, 3, usize::MAX);
    let entries = read.await.unwrap().into_iter();
    let entries = entries
        .map(|entry| conformance::incoming(entry.entry))
        .collect();
    node.fill_copy(party, first, entries).await.unwrap()
}

/// Scenario: nodes of two regions, on each engine, live through the same sixty drawn steps:
/// hand-overs new and again, events, references, erasures, the line up and down, taking over, pruning, epochs,
/// lost stores and copies; four lives.
/// Guarantee: after every step both say the same of heads, chains, journals, counts,
/// receipts, complaints and what ended epochs have left.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_live_the_same_life() {
    let Some(cluster) = shared() else { return };
    for seed in 2..=5 {
        same_life(cluster, seed).await;
    }
}

/// Scenario: two and a half thousand submissions are set aside at once, by an opening
/// and by an epoch without proof; new ones come while they go again, in pages.
/// Guarantee: all are there once, in their order, the new ones behind them; the chain
/// is that of the entries.
#[tokio::test(flavor = "multi_thread")]
async fn many_go_again_in_their_order() {
    let Some(cluster) = shared() else { return };
    let store = open(&cluster.url(&database(cluster).await)).await.unwrap();
    let party = province();
    store.adopt_epoch(&party, 7, 0).await.unwrap();
    let new = |n: usize| filing(&party, &format!("N-{n:04}"), "isi", None);
    store
        .submit((0..2_500).map(new).collect(), at(1))
        .await
        .unwrap();
    let enter = store.adopt_epoch(&party, 8, 0);
    let later = async {
        tokio::task::yield_now().await;
        store.submit(vec![new(2_500)], at(2)).await.unwrap();
    };
    let (entered, ()) = tokio::join!(enter, later);
    entered.unwrap();
    let mut place = crate::exchange::Place::root(&party, Direction::Submissions, 8);
    let mut events = Vec::new();
    loop {
        let from = place.position + 1;
        let page = store.read(&party, Direction::Submissions, from, 1_000, usize::MAX);
        let page = page.await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            let digest = crate::exchange::event_digest(&entry.entry.event);
            place = place.after(&digest);
            events.push(crate::wire::decode_event(&entry.entry.event).unwrap());
        }
    }
    let names: Vec<String> = events.iter().map(|event| event.key.to_string()).collect();
    let expected: Vec<String> = (0..=2_500).map(|n| format!("N-{n:04}")).collect();
    assert_eq!(names, expected);
    assert_eq!(store.heads(&party).await.unwrap().submissions, place);
    let told = store.receipt(&party, &events[7].event_id, &events[7].complaint_id);
    assert_eq!(told.await.unwrap().unwrap().progress, Progress::Stored);
    let again = store
        .submit(vec![new(1_234)], at(3))
        .await
        .unwrap()
        .remove(0);
    let first = again.unwrap();
    // Another event was made of the same hand-over.
    assert!(first.repeated, "{first:?}");
    store.close().await;
}
