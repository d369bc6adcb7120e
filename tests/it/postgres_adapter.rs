//! An adapter whose store is a PostgreSQL database: real processes, real TLS.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use jembatan::{runtime::random_unit, wire::v1};

use crate::{
    cli::jembatan,
    failover::servers::{Frozen, url_of},
    kill::{decisions, filings, send},
    replicas::cluster::{self, Cluster, programs},
    support::{Node, World, complaint, eventually, same_at_both_ends},
};

const PARTY: &str = "pemda-33";
const CITY: &str = "pemda-33.74";

fn create(cluster: &Cluster, name: &str) {
    let made = Command::new("createdb")
        .args(["-h", &cluster.directory.display().to_string()])
        .args(["-p", &cluster.port.to_string(), "-U", cluster::USER, name])
        .output();
    assert!(made.unwrap().status.success());
}

/// An adapter's settings with its store in this database.
fn on_database(url: &str, text: &str) -> String {
    let table = format!("[store]\nurl = \"{url}\"\n");
    text.replacen("[hub]", &format!("{table}[hub]"), 1)
}

/// Settings of an adapter of this party, on a database that has its schema.
fn settings(world: &World, cluster: &Cluster, party: &str) -> PathBuf {
    settings_at(world, cluster, party, |name| cluster.url(name))
}

/// The same, with a url of its own for the database, and what is to stand behind it.
fn settings_at(
    world: &World,
    cluster: &Cluster,
    party: &str,
    url: impl Fn(&str) -> String,
) -> PathBuf {
    let name = format!("of_{}", party.replace(['-', '.'], "_"));
    create(cluster, &name);
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let file = world.adapter_file(party, "", local);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, on_database(&url(&name), &text)).unwrap();
    jembatan(&["store", "migrate", "--config", said(&file)]).good();
    file
}

fn said(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Scenario: commands on an adapter's file whose store is a database: before it has its
/// schema, with it, and one that is a hub's; then the adapter runs, and is started once
/// more beside itself.
/// Guarantee: each says what it finds and what to do; nothing falls back to the
/// directory; the second adapter is told of the first, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_says_what_its_database_needs() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    let world = World::new();
    create(&cluster, "own");
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let path = world.adapter_file(PARTY, "", local);
    let text = on_database(
        &cluster.url("own"),
        &std::fs::read_to_string(&path).unwrap(),
    );
    std::fs::write(&path, &text).unwrap();
    let file = said(&path);
    jembatan(&["config", "check", "adapter", file]).good();
    let checked = jembatan(&["store", "check", "--config", file]);
    assert_eq!(checked.code, 1);
    assert!(checked.err.contains("store migrate"), "{}", checked.err);
    let started = jembatan(&["adapter", "--config", file]);
    assert!(started.err.contains("store migrate"), "{}", started.err);
    let migrated = ["store", "migrate", "--config", file, "--output", "json"];
    assert_eq!(jembatan(&migrated).good().json()["fits"], true);
    jembatan(&["store", "check", "--config", file]).good();
    let deep = jembatan(&["store", "check", "--deep", "--config", file]);
    assert!(deep.err.contains("a hub's record"), "{}", deep.err);
    let copy = world.directory.path().join("copy.db");
    let refused = jembatan(&["backup", "--config", file, said(&copy)]);
    assert!(refused.err.contains("pg_dump"), "{}", refused.err);
    let refused = jembatan(&["restore", said(&copy), "--config", file]);
    assert!(
        refused.err.contains("its link takes back"),
        "{}",
        refused.err
    );
    let refused = jembatan(&["recover", "--config", file]);
    assert!(
        refused.err.contains("only the hub's operator"),
        "{}",
        refused.err
    );
    let list = jembatan(&["dead-letters", "list", "--config", file]).good();
    assert!(
        list.out.contains("nothing of this was refused"),
        "{}",
        list.out
    );

    create(&cluster, "national");
    let hub = world.directory.path().join("other-hub.toml");
    let table = format!("[store]\nurl = \"{}\"\n", cluster.url("national"));
    std::fs::write(&hub, table).unwrap();
    jembatan(&["store", "migrate", "--config", said(&hub)]).good();
    let wrong = world.directory.path().join("wrong.toml");
    std::fs::write(&wrong, text.replace("/own?", "/national?")).unwrap();
    for command in ["check", "migrate"] {
        let refused = jembatan(&["store", command, "--config", said(&wrong)]);
        assert!(
            refused.err.contains("the store of a hub"),
            "{}",
            refused.err
        );
    }

    let mut node = Node::start("adapter", &path);
    let second = jembatan(&["adapter", "--config", file]);
    assert_ne!(second.code, 0);
    let first = format!("process {}", node.pid());
    assert!(second.err.contains(&first), "{}", second.err);
    assert!(!world.directory.path().join("pemda-33-data").exists());
    assert!(node.stop());
}

/// Scenario: a hub, and adapters of province and city on one PostgreSQL server. A local
/// system hands complaints over at the province's door while the adapters are killed
/// with SIGKILL and the server is killed as by a power cut and started again, at random
/// moments; what gets no answer is sent again.
/// Guarantee: count in = count out: each complaint is accepted once and its decision
/// comes back once, the city's inbox has each filing once with the content that was
/// handed over, and both ends of every journal are equal.
#[tokio::test(flavor = "multi_thread")]
async fn kills_and_a_killed_server_lose_and_double_nothing() {
    const ROUNDS: u32 = 6;
    const PER_ROUND: u32 = 60;
    let Some(programs) = programs() else { return };
    let mut cluster = Cluster::start(&programs, &[]);
    let world = World::new();
    let mut province = Node::start("adapter", &settings(&world, &cluster, PARTY));
    let mut city = Node::start("adapter", &settings(&world, &cluster, CITY));
    let mut expected = BTreeMap::new();
    for round in 0..ROUNDS {
        let references: Vec<String> = (0..PER_ROUND).map(|n| format!("P-{round}-{n}")).collect();
        let sending = tokio::spawn(send(province.gateway().await, references.clone()));
        let moment = Duration::from_micros((random_unit() * 400_000.0) as u64);
        tokio::time::sleep(moment).await;
        println!("round {round}: at {moment:?}");
        match round % 3 {
            0 => province.restart(),
            1 => tokio::task::block_in_place(|| {
                cluster.kill();
                cluster.run();
            }),
            _ => {
                city.kill();
                province.restart();
                city.start_again();
            }
        }
        let mut unanswered = sending.await.unwrap();
        while !unanswered.is_empty() {
            unanswered = send(province.gateway().await, unanswered).await;
        }
        expected.extend(references.into_iter().map(handed_over));
    }
    count_in_is_count_out(&world, &province, &city, expected).await;
    assert!(province.stop() && city.stop());
}

/// What the city is to read of a complaint that the province hands over.
fn handed_over(reference: String) -> (String, [String; 3]) {
    let filed = complaint(&reference);
    let reporter = filed.reporter.unwrap().name;
    (reference, [filed.title, filed.body, reporter])
}

async fn count_in_is_count_out(
    world: &World,
    province: &Node,
    city: &Node,
    expected: BTreeMap<String, [String; 3]>,
) {
    let total = expected.len() as u64;
    eventually("everything is decided", || async {
        decisions(province).await.len() as u64 >= total
    })
    .await;
    for journal in [v1::Journal::Submissions, v1::Journal::Deliveries] {
        for (party, node) in [(PARTY, province), (CITY, city)] {
            let least = match (party, journal) {
                (PARTY, v1::Journal::Submissions) => total,
                _ => 0,
            };
            same_at_both_ends(&world.hub, node, party, journal, least).await;
        }
    }
    let told = decisions(province).await;
    let is_accepted = |found: &&v1::Decision| found.outcome == v1::Outcome::Accepted as i32;
    assert_eq!(told.iter().filter(is_accepted).count() as u64, total);
    assert_eq!(told.len() as u64, total, "each is decided once");
    eventually("the city has all of it", || async {
        filings(city).await.len() as u64 >= total
    })
    .await;
    assert_eq!(filings(city).await, expected, "each once, word for word");
    let counts = world.hub.sync(PARTY).await.counts.unwrap();
    assert_eq!(
        (counts.accepted, counts.rejected, counts.parked),
        (total, 0, 0)
    );
}

/// Scenario: adapters of province and city whose url names a primary and its synchronous
/// standby, `remote_apply`; a local system hands complaints over. The primary is killed
/// in the middle of it, or stands still, takes connections and says nothing; the standby
/// is promoted; the one that stood still wakes, and more is handed over.
/// Guarantee: the adapters go on at the standby without a restart; count in = count out,
/// each once and word for word, and both ends of every journal are equal.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_what_adapters_have_answered() {
    const PER_ROUND: u32 = 150;
    let Some(programs) = programs() else { return };
    for stands_still in [false, true] {
        let mut primary = Cluster::start(&programs, &[]);
        let standby = primary.standby();
        primary.wait_for_standby().await;
        let world = World::new();
        let url = |name: &str| {
            let url = url_of(&[&primary, &standby], name);
            // What else is to stand there follows the url.
            format!("{url}\"\nstatement_timeout_seconds = 3\nsynchronous_commit = \"remote_apply")
        };
        let file = settings_at(&world, &primary, PARTY, url);
        let mut province = Node::start("adapter", &file);
        let file = settings_at(&world, &primary, CITY, url);
        let mut city = Node::start("adapter", &file);
        let mut expected = BTreeMap::new();
        let mut frozen = None;
        for round in 0..2 {
            let references = (0..PER_ROUND).map(|n| format!("S-{round}-{n}"));
            let references: Vec<String> = references.collect();
            let sending = tokio::spawn(send(province.gateway().await, references.clone()));
            let least = expected.len();
            eventually("some of it is decided", || async {
                decisions(&province).await.len() > least + 10
            })
            .await;
            let moment = Duration::from_micros((random_unit() * 400_000.0) as u64);
            println!("stands still: {stands_still}, round {round}: at {moment:?}");
            tokio::time::sleep(moment).await;
            if round == 0 {
                tokio::task::block_in_place(|| match stands_still {
                    true => frozen = Some(Frozen::new(&primary)),
                    false => primary.kill(),
                });
                standby.promote();
            } else {
                // It wakes, and believes that it is still the primary.
                drop(frozen.take());
            }
            let mut unanswered = sending.await.unwrap();
            while !unanswered.is_empty() {
                unanswered = send(province.gateway().await, unanswered).await;
            }
            expected.extend(references.into_iter().map(handed_over));
        }
        count_in_is_count_out(&world, &province, &city, expected).await;
        for node in [&province, &city] {
            let log = node.log();
            assert!(!log.contains("link_mismatch"), "{log}");
        }
        assert!(province.stop() && city.stop());
    }
}
