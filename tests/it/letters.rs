//! Dead letters and what is let go of, at nodes that run.

use std::{
    io::{Read as _, Write as _},
    panic::panic_any,
    path::Path,
    sync::Arc,
};

use jembatan::{
    adapter,
    config::{AdapterConfig, load},
    domain::{
        Complaint, Context, Event, Handover, Item, Micros, NewComplaint, PartyId, Policy,
        Reference, Rejection, SystemName, Verdict, decide,
    },
    link::WireHeaders,
    runtime::{Clock, SystemClock, random_bytes},
    store::{
        AdapterStore as _, NewSubmission, Pruned, Store as _,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    wire::{self, Composing, v1},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Said, at, jembatan, verdict},
    kill::{decisions, items},
    support::{Node, World, complaint, eventually, now, submit},
};

const PROVINCE: &str = "pemda-33";
const CITY: &str = "pemda-33.74";

pub(crate) fn broken(
    _known: Option<&Complaint>,
    _event: &Event,
    _context: Context<'_>,
) -> Result<Verdict, Rejection> {
    panic_any("a bug, on purpose")
}

pub(crate) fn filing(reference: &str) -> NewSubmission {
    let party = PartyId::parse(PROVINCE).unwrap();
    let mut new = NewComplaint::new(Reference::parse(reference).unwrap());
    new.title = "Jalan rusak".to_owned();
    new.body = "isi".to_owned();
    let handover = Handover {
        system: SystemName::parse("default").unwrap(),
        key: None,
        item: Item::Complaint(Box::new(new)),
    };
    let composing = Composing {
        party: &party,
        now: now(),
        time_zone: "Asia/Jakarta",
        complaint_id: None,
    };
    let composed = wire::compose(handover.clone(), composing, || [7; 16]).unwrap();
    NewSubmission {
        party: party.clone(),
        event: composed.event,
        event_bytes: composed.event_bytes,
        parts: composed.parts,
        handover_digest: handover.digest(),
    }
}

/// As a version of the hub would leave it that can't decide these.
pub(crate) async fn park(world: &World, references: &[&str]) {
    let store = SqliteStore::open(Options {
        directory: world.directory.path().join("hub-data"),
        role: NodeRole::Hub,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: [7; 48],
        decide: broken,
    })
    .unwrap();
    let batch = references.iter().map(|name| filing(name)).collect();
    let taken = store.submit(batch, now()).await.unwrap();
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    store.close().await;
}

async fn letters(node: &Node) -> (u64, u64) {
    let found = node.sync(PROVINCE).await.dead_letters.unwrap();
    (found.parked, found.unreadable)
}

fn metrics(node: &Node) -> String {
    let mut stream = std::net::TcpStream::connect(node.http).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

/// Scenario: a hub holds two filings that its version before could not decide;
/// their author's node joins. The operator looks, has one decided again and gives
/// the other up, with a note; then names one that is not there.
/// Guarantee: until then both ends count two, the hub's verdict and list want a
/// person; looking changes nothing. Then the author hears a second decision for
/// each, accepted and rejected with the note, and whoever handles the first gets
/// it, once; nothing is left, and the log has the note.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_settles_what_it_had_parked() {
    let mut world = World::new();
    assert!(world.hub.stop());
    park(&world, &["L-1", "L-2"]).await;
    world.hub.start_again();
    let (province, city) = (world.adapter(PROVINCE), world.adapter(CITY));
    eventually("the author hears that they are parked", || async {
        letters(&province).await == (2, 0)
    })
    .await;
    let hub = &world.hub;
    eventually("the hub's operator has to look", || async {
        verdict(hub, PROVINCE) == "VERDICT_ATTENTION"
    })
    .await;
    let why = hub.sync(PROVINCE).await.explanation;
    assert!(why.contains("PARKED"), "{why}");
    let shown = at(hub, &["status"]).good().out;
    assert!(shown.contains("! pemda-33: 2 parked"), "{shown}");
    assert_eq!(verdict(&province, PROVINCE), "VERDICT_HEALTHY");
    let gauge = "jembatan_dead_letters{party=\"pemda-33\",kind=\"parked\"}";
    assert!(metrics(hub).contains(&format!("{gauge} 2")));
    let file = world.directory.path().join("hub.toml");
    let list = ["dead-letters", "list", "--config", path(&file)];
    let only = ["--kind", "parked", "--output", "json"];
    assert_eq!(
        jembatan(&[&list[..], &only].concat()).good().lines().len(),
        2
    );

    let retry = ["dead-letters", "retry", "--output", "json"];
    let look = at(hub, &[&retry[..], &["--all", "--dry-run"]].concat());
    let look = look.good().lines();
    assert_eq!(look.len(), 2, "{look:?}");
    assert_eq!(letters(hub).await, (2, 0), "looking changes nothing");
    let which = look[0]["eventId"].as_str().unwrap();
    let done = at(hub, &[&retry[..], &[which]].concat()).good().lines();
    assert_eq!(done[0]["settled"], true, "{done:?}");
    assert_eq!(done[0]["decision"]["outcome"], "OUTCOME_ACCEPTED");
    let drop = ["dead-letters", "drop", "pemda-33/2", "--output", "json"];
    assert_ne!(at(hub, &drop).code, 0, "a note is needed");
    let noted = [&drop[..], &["--note", "Uji coba."]].concat();
    let done = at(hub, &noted).good().lines();
    assert_eq!(done[0]["decision"]["outcome"], "OUTCOME_REJECTED");
    let again = at(hub, &noted);
    assert_eq!(again.code, 1);
    assert!(
        again.err.contains("pemda-33/2 is not among"),
        "{}",
        again.err
    );

    eventually("the author hears of both", || async {
        decisions(&province).await.len() == 4
    })
    .await;
    let told = decisions(&province).await;
    let outcomes: Vec<&str> = told
        .iter()
        .map(|found| found.outcome().as_str_name())
        .collect();
    assert_eq!(
        outcomes,
        [
            "OUTCOME_PARKED",
            "OUTCOME_PARKED",
            "OUTCOME_ACCEPTED",
            "OUTCOME_REJECTED"
        ]
    );
    let why = told[3].rejection.clone().unwrap();
    assert!(why.text_id.contains("Uji coba."), "{why:?}");
    for (reference, said) in [("L-1", "accepted"), ("L-2", "Uji coba.")] {
        let shown = at(&province, &["complaint", "show", reference]).good().out;
        assert!(shown.contains(said), "{shown}");
    }
    eventually("nothing is left at either end", || async {
        (letters(&province).await, letters(hub).await) == ((0, 0), (0, 0))
    })
    .await;
    assert_eq!(verdict(hub, PROVINCE), "VERDICT_HEALTHY");
    assert!(metrics(hub).contains(&format!("{gauge} 0")));
    eventually("it stands in the log", async || {
        hub.log().contains("dead_letter_settled") && hub.log().contains("Uji coba.")
    })
    .await;
    let national = world.hub.sync("nasional").await;
    assert_eq!(national.deliveries.unwrap().head.unwrap().position, 1);
    assert!(items(&city).await.is_empty(), "it went to triage");
}

/// Scenario: at a hub something is parked at position 1, its operator begins a new
/// epoch, and something is parked at position 1 again; the operator settles
/// `pemda-33/1`, then one of the names that the refusal gives together with one that
/// is not there. A node has two deliveries at position 1 that it could not read, and
/// its operator gives up `pemda-33/1`.
/// Guarantee: a place that may mean two letters is refused at both, with both names,
/// and nothing is settled; so `show`. With the epoch exactly one is settled, and what
/// is not there is said: exit code 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_may_mean_two_is_refused() {
    let mut world = World::new();
    let file = world.directory.path().join("hub.toml");
    let config = ["--config", path(&file)];
    assert!(world.hub.stop());
    park(&world, &["L-1"]).await;
    jembatan(&[&["recover"], &config[..]].concat()).good();
    park(&world, &["L-2"]).await;
    world.hub.start_again();
    let hub = &world.hub;
    let list = [&["dead-letters", "list", "--output", "json"], &config[..]].concat();
    let mut names: Vec<String> = jembatan(&list)
        .good()
        .lines()
        .iter()
        .map(|letter| letter["which"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");

    let refused = |run: &Said| {
        assert_eq!(run.code, 1, "{}", run.err);
        assert!(
            names.iter().all(|name| run.err.contains(name)),
            "{}",
            run.err
        );
    };
    let drop = [
        "dead-letters",
        "drop",
        "--note",
        "Uji coba.",
        "--output",
        "json",
    ];
    refused(&at(hub, &[&drop[..], &["pemda-33/1"]].concat()));
    refused(&at(
        hub,
        &[&drop[..], &["pemda-33/1", "--dry-run"]].concat(),
    ));
    refused(&at(hub, &["dead-letters", "retry", "pemda-33/1"]));
    refused(&jembatan(
        &[&["dead-letters", "show", "pemda-33/1"], &config[..]].concat(),
    ));
    assert_eq!(
        jembatan(&list).good().lines().len(),
        2,
        "nothing is settled"
    );
    let name = names.remove(0);
    let one = at(hub, &[&drop[..], &[&name, "pemda-33/99"]].concat());
    assert_eq!(one.code, 3, "{}", one.err);
    assert!(one.err.contains("pemda-33/99"), "{}", one.err);
    assert_eq!(one.lines().len(), 1);
    let left = jembatan(&[&list[..], &["--kind", "parked"]].concat())
        .good()
        .lines();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["which"], names[0].as_str());
    let shown = jembatan(&[&["dead-letters", "show", &names[0]], &config[..]].concat());
    assert_eq!(shown.good().lines()[0]["which"], names[0].as_str());
    let last = at(hub, &[&drop[..], &["pemda-33/1"]].concat())
        .good()
        .lines();
    assert_eq!(last[0]["settled"], true, "one is left, so it is meant");

    let mut province = world.adapter(PROVINCE);
    eventually("both decisions are there", || async {
        decisions(&province).await.len() >= 2
    })
    .await;
    assert!(province.stop());
    let store = world.directory.path().join("pemda-33-data/jembatan.db");
    let database = rusqlite::Connection::open(store).unwrap();
    database
        .execute_batch(
            "INSERT INTO journal (id, party, direction, epoch) VALUES (77, 'pemda-33', 2, 5); \
             INSERT INTO delivery (id, stored_at, header) SELECT (77 << 36) | 1, 5, x'ff'; \
             INSERT INTO unread SELECT id, 'pemda-33' FROM delivery WHERE id & 0xfffffffff = 1;",
        )
        .unwrap();
    std::mem::drop(database);
    province.start_again();
    assert_eq!(letters(&province).await.1, 2);
    let twice = at(&province, &[&drop[..], &["pemda-33/1"]].concat());
    assert_eq!(twice.code, 1, "{}", twice.err);
    assert!(twice.err.contains("pemda-33/5/1"), "{}", twice.err);
    assert_eq!(letters(&province).await.1, 2, "nothing is settled");
    at(&province, &[&drop[..], &["pemda-33/5/1"]].concat()).good();
    assert_eq!(letters(&province).await.1, 1);
}

/// Scenario: a node whose version could not read the delivery with the decision
/// on a filing is updated (its store is made to look like that); a node that has
/// nothing to settle, and a door at which nobody listens, are asked as well.
/// Guarantee: list, status and verdict say that a person must look, and that this
/// version can read it; after `retry` the filing is accepted and the node
/// healthy; the others say plainly what is the matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_what_it_could_not_read_before() {
    let world = World::new();
    let mut province = world.adapter(PROVINCE);
    let asked = submit(complaint("U-1"), 30_000);
    province.gateway().await.submit(asked).await.unwrap();
    assert!(province.stop());
    let file = world.directory.path().join("pemda-33-data/jembatan.db");
    let database = rusqlite::Connection::open(file).unwrap();
    database
        .execute_batch(
            "DELETE FROM decision; INSERT INTO unread SELECT id, 'pemda-33' FROM delivery; \
             UPDATE party_state SET accepted = 0;",
        )
        .unwrap();
    drop(database);
    province.start_again();
    eventually("a person has to look", || async {
        verdict(&province, PROVINCE) == "VERDICT_ATTENTION"
    })
    .await;
    assert_eq!(letters(&province).await, (0, 1));
    let file = world.directory.path().join("pemda-33.toml");
    let list = ["dead-letters", "list", "--config", path(&file)];
    let shown = jembatan(&list).good().out;
    assert!(shown.contains("unreadable"), "{shown}");
    assert!(shown.contains("this version can read it"), "{shown}");
    let retry = ["dead-letters", "retry", "--all"];
    let done = at(&province, &retry).good().out;
    assert!(done.contains("read; a local system"), "{done}");
    let asked = submit(complaint("U-1"), 0);
    let told = province.gateway().await.submit(asked).await.unwrap();
    let told = told.into_inner().receipt.unwrap();
    assert_eq!(told.progress, v1::Progress::Accepted as i32);
    assert_eq!(letters(&province).await, (0, 0));
    assert_eq!(verdict(&province, PROVINCE), "VERDICT_HEALTHY");
    let nothing = at(&province, &retry).good().out;
    assert!(nothing.contains("nothing is to be settled"), "{nothing}");
    assert!(province.stop());
    let alone = at(&province, &retry);
    let words = ["by the node itself", "is it running"];
    assert!(
        words.iter().all(|word| alone.err.contains(word)),
        "{}",
        alone.err
    );
}

struct Shifted(i64);

impl Clock for Shifted {
    fn now_micros(&self) -> i64 {
        SystemClock.now_micros() + self.0
    }
}

/// What a run of the node notes today: how long something was decided counts
/// from there.
async fn note_what_is_settled(directory: &Path) {
    let options = Options {
        directory: directory.to_owned(),
        role: NodeRole::Adapter,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    };
    let store = SqliteStore::open(options).unwrap();
    let party = PartyId::parse(PROVINCE).unwrap();
    let today = now();
    let pruned = store.prune(&party, Micros(today.0 + 1), today).await;
    assert_eq!(pruned.unwrap(), Pruned::default(), "noted, and no more");
    store.close().await;
}

/// Scenario: a node's three filings are decided, and its local system has taken
/// the decisions over; it starts again 36 days later by its clock.
/// Guarantee: soon after the start the texts are gone and it is said so; outcome,
/// Tracking ID and the memory of repetitions and conflicts are as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_lets_go_of_what_was_settled_long_ago() {
    const DAYS_36: i64 = 36 * 86_400_000_000;
    let world = World::new();
    let mut province = world.adapter(PROVINCE);
    let mut door = province.gateway().await;
    let mut first = Vec::new();
    for n in 0..3 {
        let asked = submit(complaint(&format!("G-{n}")), 30_000);
        let told = door.submit(asked).await.unwrap().into_inner();
        first.push(told.receipt.unwrap().decision.unwrap().tracking_id);
    }
    let through = items(&province).await.pop().unwrap().cursor;
    let request = v1::AcknowledgeInboxRequest { through };
    door.acknowledge_inbox(request).await.unwrap();
    assert!(province.stop());

    let file = world.directory.path().join("pemda-33.toml");
    let config: AdapterConfig = load(&file).unwrap();
    note_what_is_settled(&config.directory).await;
    let (ready, addresses) = oneshot::channel();
    let stop = CancellationToken::new();
    let node = tokio::spawn(adapter::run(
        config,
        Arc::new(Shifted(DAYS_36)),
        ready,
        stop.clone(),
    ));
    let uri = format!("http://{}", addresses.await.unwrap().grpc);
    let channel = tonic::transport::Channel::from_shared(uri).unwrap();
    let channel = channel.connect().await.unwrap();
    let door = v1::gateway_service_client::GatewayServiceClient::new(channel);
    let view = async |reference: &str| {
        let name = v1::complaint_name::Name::Reference(reference.to_owned());
        let request = v1::GetComplaintRequest {
            complaint: Some(v1::ComplaintName { name: Some(name) }),
            system: String::new(),
        };
        let found = door.clone().get_complaint(request).await.unwrap();
        found.into_inner().complaint.unwrap()
    };
    for (n, tracking_id) in first.iter().enumerate() {
        let reference = format!("G-{n}");
        eventually("its texts are gone", || async {
            view(&reference).await.history[0].not_kept
        })
        .await;
        let found = view(&reference).await;
        assert_eq!((&found.tracking_id, found.revision), (tracking_id, 1));
        let step = &found.history[0];
        let event = step.event.clone().unwrap();
        assert!(event.event.is_none() && event.content.is_none());
        assert_eq!(step.progress, v1::Progress::Accepted as i32);
        let again = submit(complaint(&reference), 0);
        let told = door.clone().submit(again).await.unwrap().into_inner();
        assert!(told.receipt.unwrap().repeated_handover);
        let mut other = complaint(&reference);
        other.body = "isi lain".to_owned();
        let refused = door.clone().submit(submit(other, 0)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    }
    stop.cancel();
    node.await.unwrap().unwrap();
}
