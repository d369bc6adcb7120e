//! Recovery with real processes: copies made while a node runs, put back, and
//! what the nodes and the hub make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jembatan::wire::v1;

use crate::{
    cli::{jembatan, verdict},
    kill::{decisions, items},
    support::{Node, World, complaint, eventually, submit},
};

pub(crate) const PARTIES: [&str; 2] = ["pemda-33", "pemda-33.74"];

pub(crate) async fn hand_over(node: &Node, references: impl Iterator<Item = String>, wait_ms: u32) {
    let mut gateway = node.gateway().await;
    for reference in references {
        let answer = gateway.submit(submit(complaint(&reference), wait_ms)).await;
        assert!(answer.is_ok(), "{reference}: {answer:?}");
    }
}

/// Waits until both ends of every journal are equal, and the province has the
/// decision on all that it handed over.
pub(crate) async fn level(world: &World, province: &Node, city: &Node, decided: usize) {
    eventually("everything is decided", || async {
        told(province).await.len() == decided
    })
    .await;
    for journal in [v1::Journal::Submissions, v1::Journal::Deliveries] {
        for (party, node) in PARTIES.into_iter().zip([province, city]) {
            eventually("both ends hold the same journal", || async {
                world.hub.place(party, journal).await == node.place(party, journal).await
            })
            .await;
        }
    }
}

/// Tracking ID of each accepted event that this node's system was ever told of
/// and has not taken over yet; an event told twice fails the test.
pub(crate) async fn told(node: &Node) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    for decision in decisions(node).await {
        assert_eq!(
            decision.outcome,
            v1::Outcome::Accepted as i32,
            "{decision:?}"
        );
        let earlier = found.insert(decision.event_id.to_vec(), decision.tracking_id.clone());
        assert_eq!(earlier, None, "{:?} was told twice", decision.event_id);
    }
    found
}

/// The inbox as a local system reads it: some items at a time, each batch
/// acknowledged, until nothing comes; at most so many. References of filings.
pub(crate) async fn consume(node: &Node, most: usize) -> Vec<String> {
    let mut gateway = node.gateway().await;
    let mut references = Vec::new();
    while references.len() < most {
        let request = v1::FetchInboxRequest {
            limit: (most - references.len()).min(7) as u32,
            ..v1::FetchInboxRequest::default()
        };
        let found = gateway.fetch_inbox(request).await.unwrap().into_inner();
        let Some(last) = found.items.last() else {
            break;
        };
        let through = last.cursor.clone();
        for item in found.items {
            if let Some(v1::inbox_item::Item::Event(event)) = item.item {
                references.push(event.event.unwrap().reference);
            }
        }
        let request = v1::AcknowledgeInboxRequest { through };
        gateway.acknowledge_inbox(request).await.unwrap();
    }
    references
}

/// What `recover` says of the province.
fn of_province(value: &serde_json::Value) -> &serde_json::Value {
    let parties = value["parties"].as_array().unwrap();
    let found = parties.iter().find(|party| party["party"] == PARTIES[0]);
    found.unwrap()
}

pub(crate) fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

pub(crate) fn references(of: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{of}-{n}"))
}

/// Scenario: a hub is copied while twenty complaints of the province are at
/// the city, which has taken five of them over; twenty-five more come, and the
/// city takes twelve further ones over. Then the hub's disk is replaced by the
/// copy: it does not serve, its operator looks (as a text and as JSON), begins a new epoch, starts it;
/// the adapters run on all the time.
/// Guarantee: the look names what is kept, what comes again from where on, and
/// what is lost, and changes nothing; count in = count out: all 45 are at the hub again under the
/// Tracking IDs that they had, each is told to its author once and handed over
/// to the city's system once, and both ends of every journal are equal.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_from_a_copy_loses_nothing_that_an_adapter_holds() {
    let mut world = World::new();
    let (province, city) = (world.adapter(PARTIES[0]), world.adapter(PARTIES[1]));
    hand_over(&province, references("A", 20), 0).await;
    level(&world, &province, &city, 20).await;
    let mut handed_over = consume(&city, 5).await;

    let hub_file = world.directory.path().join("hub.toml");
    let copy = world.directory.path().join("copy.db");
    let backup = ["backup", "--config", path(&hub_file), path(&copy)];
    let made = jembatan(&backup).good();
    assert!(made.out.contains("a copy of the hub"), "{}", made.out);
    let again = jembatan(&backup);
    assert!(
        again.err.contains("nothing is written over"),
        "{}",
        again.err
    );

    hand_over(&province, references("B", 25), 0).await;
    level(&world, &province, &city, 45).await;
    handed_over.extend(consume(&city, 12).await);
    let before = told(&province).await;

    world.hub.kill();
    let restore = ["restore", path(&copy), "--config", path(&hub_file)];
    let refused = jembatan(&restore);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    jembatan(&[&restore[..], &["--force"]].concat()).good();
    let refused = jembatan(&["hub", "--config", path(&hub_file)]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("jembatan recover"), "{}", refused.err);
    let recover = ["recover", "--config", path(&hub_file), "--output", "json"];
    let look = jembatan(&[&recover[..], &["--dry-run"]].concat())
        .good()
        .json();
    assert_eq!(of_province(&look)["submissions"], 20, "{look}");
    assert_eq!(of_province(&look)["comesAgainFrom"], 21, "{look}");
    assert_eq!(look["dryRun"], true, "{look}");
    assert!(look["copiedAt"].is_string(), "{look}");
    let text = [
        "recover",
        "--config",
        path(&hub_file),
        "--output",
        "text",
        "--dry-run",
    ];
    let said = jembatan(&text).good().out;
    for name in ["kept", "comesAgain", "lost"] {
        let facts = match &look[name] {
            serde_json::Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        assert_eq!(facts.len(), if name == "lost" { 2 } else { 1 }, "{look}");
        for fact in facts {
            let fact = fact.as_str().unwrap();
            assert!(said.contains(fact), "{name}: {fact}: {said}");
        }
    }
    for (name, word) in [
        ("kept", "Tracking ID"),
        ("comesAgain", "each adapter"),
        ("lost", "unary"),
        ("lost", "revoked certificates"),
    ] {
        assert!(look[name].to_string().contains(word), "{word}: {look}");
    }
    let province_line = said.lines().find(|line| line.starts_with("pemda-33 "));
    let province_line = province_line.unwrap();
    for words in ["submissions 1-20", "submissions from 21 on"] {
        assert!(province_line.contains(words), "{words}: {said}");
    }
    assert!(said.contains("nothing was changed"), "{said}");
    let done = jembatan(&recover).good().json();
    let ended = |value| of_province(value)["endedEpoch"].clone();
    assert_eq!(ended(&look), ended(&done), "looking changed nothing");
    world.hub.restart();

    eventually("the lost ones are at the hub again", || async {
        let place = world.hub.place(PARTIES[0], v1::Journal::Submissions).await;
        place.position == 25
    })
    .await;
    level(&world, &province, &city, 45).await;
    assert_eq!(told(&province).await, before, "no Tracking ID has changed");
    let distinct: BTreeSet<_> = before.values().collect();
    assert_eq!(distinct.len(), 45, "no Tracking ID is given twice");
    handed_over.extend(consume(&city, usize::MAX).await);
    let all: BTreeSet<_> = references("A", 20).chain(references("B", 25)).collect();
    assert_eq!(handed_over.len(), 45, "each was handed over once");
    assert_eq!(handed_over.into_iter().collect::<BTreeSet<_>>(), all);

    // Life goes on in the new epoch.
    hand_over(&province, references("C", 3), 30_000).await;
    level(&world, &province, &city, 48).await;
    assert_eq!(consume(&city, usize::MAX).await.len(), 3);
}

/// Scenario: the files of a stopped hub are put back by other means, without a
/// mark, after ten more complaints were acknowledged; later its operator begins
/// a new epoch.
/// Guarantee: both sides turn red, the door stays open, nobody resends; after
/// `recover` all of it is back, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_went_back_unmarked_is_recognised_and_recovered() {
    let mut world = World::new();
    let (mut province, mut city) = (world.adapter(PARTIES[0]), world.adapter(PARTIES[1]));
    hand_over(&province, references("A", 10), 0).await;
    level(&world, &province, &city, 10).await;
    world.hub.kill();
    let (data, old) = (
        world.directory.path().join("hub-data"),
        world.directory.path().join("hub-old"),
    );
    copy_files(&data, &old);
    world.hub.restart();
    hand_over(&province, references("B", 10), 0).await;
    level(&world, &province, &city, 20).await;

    world.hub.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy_files(&old, &data);
    world.hub.restart();
    eventually("both sides are red", || async {
        let (node, hub) = (&province, &world.hub);
        [node, hub]
            .iter()
            .all(|end| verdict(end, PARTIES[0]) == "VERDICT_MISMATCH")
    })
    .await;
    assert!(province.log().contains("HUB_BEHIND"));
    hand_over(&province, references("C", 5), 0).await;
    let place = world.hub.place(PARTIES[0], v1::Journal::Submissions).await;
    assert_eq!(place.position, 10, "nobody resends");

    world.hub.kill();
    let hub_file = world.directory.path().join("hub.toml");
    jembatan(&["recover", "--config", path(&hub_file)]).good();
    world.hub.restart();
    // They would come by themselves, but not hurry: nobody else could help.
    province.restart();
    city.restart();
    level(&world, &province, &city, 25).await;
    let filings = items(&city).await;
    assert_eq!(filings.len(), 25, "each is in the city's inbox once");
    assert_eq!(consume(&city, usize::MAX).await.len(), 25);
}

/// Scenario: an adapter is copied while it runs, sends five more, loses its
/// disk, is put back from the copy, and takes eight others while the hub is
/// away, so that it is longer and different; two of them repeat lost ones.
/// Guarantee: count in = count out: what the hub had stands, what is new comes
/// behind it, the repeated ones are known again, journals are equal.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_restored_from_a_copy_that_accepted_more_offline() {
    let mut world = World::new();
    let (mut province, city) = (world.adapter(PARTIES[0]), world.adapter(PARTIES[1]));
    hand_over(&province, references("A", 10), 0).await;
    level(&world, &province, &city, 10).await;
    let file = world.directory.path().join("pemda-33.toml");
    let copies = world.directory.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    jembatan(&["backup", "--config", path(&file), path(&copies)]).good();
    hand_over(&province, references("X", 5), 0).await;
    level(&world, &province, &city, 15).await;

    province.kill();
    world.hub.kill();
    let restore = ["restore", path(&copies), "--config", path(&file), "--force"];
    jembatan(&restore).good();
    province.restart();
    hand_over(&province, references("Y", 6).chain(references("X", 2)), 0).await;
    world.hub.restart();
    eventually("the hub has everything", || async {
        let place = world.hub.place(PARTIES[0], v1::Journal::Submissions).await;
        place.position == 23
    })
    .await;
    for (party, node) in PARTIES.into_iter().zip([&province, &city]) {
        eventually("both ends hold the same journal", || async {
            let journal = v1::Journal::Deliveries;
            world.hub.place(party, journal).await == node.place(party, journal).await
        })
        .await;
    }
    let counts = world.hub.sync(PARTIES[0]).await.counts.unwrap();
    assert_eq!((counts.accepted, counts.duplicates), (21, 2));
    let handed_over = consume(&city, usize::MAX).await;
    let all: BTreeSet<_> = references("A", 10)
        .chain(references("X", 5))
        .chain(references("Y", 6))
        .collect();
    assert_eq!(handed_over.len(), 21);
    assert_eq!(handed_over.into_iter().collect::<BTreeSet<_>>(), all);
}

/// Scenario: of three events one names a complaint's handler that may not close
/// it; lists are asked for at the adapter and at the hub, both running.
/// Guarantee: the refused one is listed at both ends with key, reason and what
/// to do, is found by its event id, and nothing else is listed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_listed_with_what_to_do() {
    let world = World::new();
    let province = world.adapter(PARTIES[0]);
    hand_over(&province, references("D", 2), 30_000).await;
    let close = [
        "complaint",
        "close",
        "D-0",
        "--key",
        "tutup-1",
        "--text",
        "Selesai.",
    ];
    let said = crate::cli::at(&province, &close);
    eventually("it is decided", || async {
        let counts = province.sync(PARTIES[0]).await.counts.unwrap();
        counts.rejected == 1
    })
    .await;
    for file in ["pemda-33.toml", "hub.toml"] {
        let file = world.directory.path().join(file);
        let list = ["dead-letters", "list", "--config", path(&file)];
        let rows = jembatan(&[&list[..], &["--output", "json"]].concat()).good();
        let rows = rows.lines();
        assert_eq!(rows.len(), 1, "{rows:?} {}", said.err);
        assert_eq!(
            (&rows[0]["key"], &rows[0]["outcome"]),
            (&"tutup-1".into(), &"rejected".into())
        );
        assert!(
            rows[0]["explanation"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        let id = rows[0]["eventId"].as_str().unwrap();
        let show = jembatan(&["dead-letters", "show", id, "--config", path(&file)]).good();
        assert_eq!(show.json(), rows[0]);
        assert!(jembatan(&list).good().out.contains("tutup-1"));
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
