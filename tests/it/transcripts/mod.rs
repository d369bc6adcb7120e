//! Sessions frame by frame, as test vectors: the real session code at both
//! ends, on real stores.

mod line;
mod scene;

use std::path::Path;

use bytes::Bytes;
use jembatan::{
    domain::{Digest, EventBody, Micros, MinimumVersion, PART_BYTES, PartState},
    exchange::{Direction, Drain, DrainReason, Place, PreviousEpoch},
    runtime::Clock as _,
    store::{Store as _, sqlite::NodeRole},
};
use serde_json::Value;

use self::{
    line::copy_store,
    scene::{BEGINNING, Scene, as_handover, classify, filing, happening, register},
};
use crate::vectors::{party, system};

const DAY: i64 = 86_400_000_000;

/// The transcripts that there are.
pub(crate) const NAMES: [&str; 13] = [
    "normal",
    "repeated-frame",
    "lost-answer",
    "duplicate",
    "conflict",
    "unreadable",
    "stale",
    "gap",
    "wrong-chain",
    "lost-tail",
    "hub-went-back",
    "fork",
    "new-epoch",
];

/// The only decision in these steps that has an outcome of this name.
fn decision<'a>(transcript: &'a Value, outcome: &str) -> &'a Value {
    let steps = transcript["steps"].as_array().unwrap().iter();
    steps
        .filter_map(|step| step["means"].as_array())
        .flatten()
        .filter_map(|means| means["header"]["decisions"]["decisions"].as_array())
        .flatten()
        .find(|decision| decision["outcome"] == outcome)
        .unwrap_or_else(|| panic!("a decision {outcome}"))
}

fn ends(transcript: &Value) -> Vec<&str> {
    let steps = transcript["steps"].as_array().unwrap().iter();
    steps
        .filter_map(|step| step["ends"]["reason"].as_str())
        .collect()
}

/// Scenario: a node meets its hub for the first time with two filings; later
/// another participant's event comes, the local system has consumed, and the
/// hub drains because the session is old.
/// Guarantee: every byte of it stays as it is.
#[tokio::test]
async fn normal() {
    let mut scene = Scene::new().await;
    let first = scene.file("LS-1", "Sudah sebulan.").await;
    scene.file("LS-2", "Dekat sekolah.").await;
    scene.line.run().await;
    scene.line.node.consume(&party(), 1).await.unwrap();
    scene.line.note(
        "node",
        "its local system takes delivery 1 over; the stream is lost",
    );
    classify(&mut scene, &first).await;
    scene.line.minimum_version = Some(MinimumVersion {
        version: "contoh/1.1.0".to_owned(),
        from: Micros(BEGINNING + 90 * DAY),
    });
    scene.line.drain = Some(Drain {
        reason: DrainReason::Age,
        retry_after_ms: 1_000,
    });
    scene.line.run().await;
    let about = "First meeting: the node is in epoch 0, enters the hub's, and opens again. Two filings go up, one delivery with both decisions comes down. In a second session the hub announces a minimum version 90 days ahead, an event of the national desk comes, and the hub drains.";
    let seen = scene.keep("normal", about).await;
    assert_eq!(seen["after"]["hub"]["accepted"], 2);
    assert_eq!(seen["after"]["hub"]["consumed_through"], 1);
    let steps = seen["steps"].as_array().unwrap().iter();
    let announced =
        steps.filter(|step| step["json"]["frame"]["heartbeat"]["minimumVersion"] == "contoh/1.1.0");
    assert_eq!(announced.count(), 1);
}

/// Scenario: the node sends each frame of entries twice.
/// Guarantee: a retransmission is no error, and nothing is doubled.
#[tokio::test]
async fn repeated_frame() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    scene.line.twice = true;
    scene.line.run().await;
    let about = "The same frame of entries comes twice: the second is skipped, once its chain agrees, and is no error.";
    let seen = scene.keep("repeated-frame", about).await;
    assert_eq!(seen["after"]["hub"]["submissions"]["position"], 1);
}

/// Scenario: the hub commits, and the line is cut before it can say so.
/// Guarantee: rule 3: the node learns it by opening, and sends nothing again.
#[tokio::test]
async fn lost_answer() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    scene.line.cut_after = Some(1);
    scene.line.run().await;
    scene.line.run().await;
    let about = "The hub has committed, and its acknowledgement is lost. Rule 3 of opening: A := H, nothing is sent again.";
    let seen = scene.keep("lost-answer", about).await;
    assert_eq!(
        seen["after"]["node"]["acknowledged"],
        seen["after"]["hub"]["submissions"]
    );
}

/// Scenario: the node's disk is lost; its local system hands the same filing
/// over again, and another one.
/// Guarantee: rule 4 after the epoch was entered: the hub answers the first as
/// a duplicate of position 1, with the original result.
#[tokio::test]
async fn duplicate() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    scene.line.run().await;
    scene.use_node("new-disk", 0x4f);
    scene.begin_here().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    scene.file("LS-2", "Dekat sekolah.").await;
    scene.line.run().await;
    let about = "The node's disk was lost and the same filing is handed over again: other bytes (another salt), the same hand-over digest. The hub answers DUPLICATE with the original result.";
    let seen = scene.keep("duplicate", about).await;
    assert_eq!(decision(&seen, "OUTCOME_DUPLICATE")["duplicateOf"], "1");
    assert_eq!(seen["after"]["hub"]["accepted"], 2);
}

/// Scenario: as before, with another text under the same reference.
/// Guarantee: rejected as a conflict that names both digests; nothing is
/// overwritten.
#[tokio::test]
async fn conflict() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    scene.line.run().await;
    scene.use_node("new-disk", 0x4f);
    scene.begin_here().await;
    scene.file("LS-1", "Sudah dua bulan.").await;
    scene.line.run().await;
    let about = "The node's disk was lost and other content is handed over under a reference that the hub knows: rejected as CONFLICT, both digests named.";
    let seen = scene.keep("conflict", about).await;
    let rejection = &decision(&seen, "OUTCOME_REJECTED")["rejection"];
    assert_eq!(rejection["reason"], "REJECTION_REASON_CONFLICT");
    assert_ne!(rejection["storedDigest"], rejection["refusedDigest"]);
}

/// Scenario: an entry that is no event, between two that are.
/// Guarantee: stored, acknowledged, rejected by decision; its neighbours pass.
#[tokio::test]
async fn unreadable() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Sudah sebulan.").await;
    let mut broken = scene.compose(&party(), &filing("LS-2", "Rusak."));
    broken.event_bytes = Bytes::from_static(b"\xff\xff not an event");
    broken.parts.clear();
    scene
        .hand_over(broken, "a broken client writes bytes that are no event")
        .await;
    scene.file("LS-3", "Dekat sekolah.").await;
    scene.line.run().await;
    let about = "An entry that can't be read is stored and acknowledged like any other, and rejected by decision: nothing blocks a journal.";
    let seen = scene.keep("unreadable", about).await;
    let rejection = &decision(&seen, "OUTCOME_REJECTED")["rejection"];
    assert_eq!(rejection["reason"], "REJECTION_REASON_UNREADABLE");
    assert_eq!(seen["after"]["hub"]["accepted"], 2);
}

/// Scenario: the node's handler acts on revision 1, while the national desk
/// has made revision 2.
/// Guarantee: rejected as stale, the present revision named; the other event
/// is delivered before the decision.
#[tokio::test]
async fn stale() {
    let mut scene = Scene::new().await;
    let filed = scene.file("LS-1", "Sudah sebulan.").await;
    scene.line.run().await;
    scene.begin_here().await;
    classify(&mut scene, &filed).await;
    let body = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let mut event = happening(&filed, "K-1", body);
    event.expected_revision = Some(1);
    let item = scene.compose(&party(), &as_handover(system(), "K-1", event));
    scene
        .hand_over(item, "takes an event that expects revision 1")
        .await;
    scene.line.run().await;
    let about = "An event names expected_revision 1, but another party has made revision 2: rejected as STALE_REVISION with the present revision.";
    let seen = scene.keep("stale", about).await;
    let rejection = &decision(&seen, "OUTCOME_REJECTED")["rejection"];
    assert_eq!(rejection["reason"], "REJECTION_REASON_STALE_REVISION");
    assert_eq!(rejection["currentRevision"], 2);
}

/// Scenario: a frame begins one position too far; then one continues another
/// chain; each time the node opens again.
/// Guarantee: nothing is stored, JOURNAL_MISMATCH, and opening heals it.
#[tokio::test]
async fn gap_and_wrong_chain() {
    for (name, about) in [
        (
            "gap",
            "A frame begins beyond head + 1: nothing of it is stored, JOURNAL_MISMATCH, the node opens again.",
        ),
        (
            "wrong-chain",
            "A frame continues another chain: nothing of it is stored, JOURNAL_MISMATCH, the node opens again.",
        ),
    ] {
        let mut scene = Scene::new().await;
        scene.file("LS-1", "Sudah sebulan.").await;
        scene.line.run().await;
        scene.begin_here().await;
        scene.file("LS-2", "Dekat sekolah.").await;
        scene.line.bend = Some(match name {
            "gap" => |entries| entries.first_position += 1,
            _ => |entries| entries.previous_chain = Digest([0xbd; 32]),
        });
        scene.line.run().await;
        let stored = scene.line.hub.heads(&party()).await.unwrap().submissions;
        assert_eq!(stored.position, 1, "nothing of it is stored");
        scene.line.run().await;
        let seen = scene.keep(name, about).await;
        assert_eq!(ends(&seen), ["JOURNAL_MISMATCH"]);
        assert_eq!(seen["after"]["hub"]["submissions"]["position"], 2);
    }
}

/// Scenario: a node is restored from a backup with two of four submissions and
/// takes another one before it meets the hub.
/// Guarantee: rule 4: the hub's four stand, the one goes again as the fifth,
/// and positions 3 and 4 come back as a copy.
#[tokio::test]
async fn lost_tail() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Satu.").await;
    scene.file("LS-2", "Dua.").await;
    scene.line.run().await;
    scene.back_up(NodeRole::Adapter, &["live", "backup"]).await;
    scene.use_node("live", 0x4e);
    scene.file("LS-3", "Tiga.").await;
    scene.file("LS-4", "Empat.").await;
    scene.line.run().await;
    scene.use_node("backup", 0x4e);
    scene.begin_here().await;
    scene.file("LS-5", "Lima.").await;
    scene.line.run().await;
    let about = "The node was restored from a backup (A = N = 2, the hub has 4) and has written another entry 3. Rule 4: it sets that aside, takes the hub's head over, appends it again as 5, and copies 3 and 4.";
    let seen = scene.keep("lost-tail", about).await;
    assert_eq!(seen["after"]["node"]["copy_wanted"], Value::Null);
    assert_eq!(
        seen["after"]["node"]["submissions"],
        seen["after"]["hub"]["submissions"]
    );
    assert_eq!(seen["after"]["hub"]["accepted"], 5);
}

/// Scenario: the hub is restored from a backup that is older than what it had
/// acknowledged.
/// Guarantee: rule 1: both sides stop as HUB_BEHIND, nothing is sent.
#[tokio::test]
async fn hub_went_back() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Satu.").await;
    scene.line.run().await;
    scene.back_up(NodeRole::Hub, &["live", "backup"]).await;
    scene.use_hub("live");
    scene.file("LS-2", "Dua.").await;
    scene.line.run().await;
    scene.use_hub("backup");
    scene.begin_here().await;
    scene.line.run().await;
    let about = "The hub was restored from an older state: it has 1 of 2 submissions that it had acknowledged. Rule 1: both sides stop, nobody sends.";
    let seen = scene.keep("hub-went-back", about).await;
    assert_eq!(ends(&seen), ["HUB_BEHIND"]);
    assert_eq!(seen["before"], seen["after"]);
}

/// Scenario: hub and node are restored from copies that each went on with a
/// submission of their own at position 2.
/// Guarantee: rule 2: both sides stop as JOURNAL_FORKED, nothing is guessed.
#[tokio::test]
async fn fork() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Satu.").await;
    scene.line.run().await;
    scene.back_up(NodeRole::Hub, &["hub-a", "hub-b"]).await;
    scene
        .back_up(NodeRole::Adapter, &["node-a", "node-b"])
        .await;
    for name in ["a", "b"] {
        scene.use_hub(&format!("hub-{name}"));
        scene.use_node(&format!("node-{name}"), 0x4e);
        scene.file(&format!("LS-2{name}"), "Dua.").await;
        scene.line.run().await;
    }
    scene.line.hub.close().await;
    copy_store(&scene.path("hub-a"), &scene.path("hub-c"));
    scene.use_hub("hub-c");
    scene.begin_here().await;
    scene.line.run().await;
    let about = "Hub and node hold different entries at position 2, which the hub had acknowledged. Rule 2: both sides stop, nothing is guessed.";
    let seen = scene.keep("fork", about).await;
    assert_eq!(ends(&seen), ["JOURNAL_FORKED"]);
    assert_eq!(seen["before"], seen["after"]);
}

/// Scenario: a hub that lost what came after submission 1 was recovered by its
/// operator and has begun a new epoch; the node had two acknowledged and has
/// one more.
/// Guarantee: the node checks where the old epoch ended, enters the new one,
/// and appends 2 and 3 again as 1 and 2.
#[tokio::test]
async fn new_epoch() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Satu.").await;
    scene.line.run().await;
    let old = scene.line.hub.heads(&party()).await.unwrap();
    scene.file("LS-2", "Dua.").await;
    scene.line.run().await;
    scene.line.clock.advance(DAY);
    // Stands for the recovered hub, whose own journals begin at 1 again.
    scene.use_hub("recovered");
    register(&*scene.line.hub).await;
    let deliveries = scene
        .line
        .node
        .place_at(&party(), Direction::Deliveries, 1)
        .await
        .unwrap();
    scene.line.previous_epoch = Some(PreviousEpoch {
        epoch: old.epoch,
        submissions: old.submissions,
        deliveries: deliveries.unwrap_or(Place::root(&party(), Direction::Deliveries, old.epoch)),
    });
    let now = Micros(scene.line.clock.now_micros());
    let third = scene.compose(&party(), &filing("LS-3", "Tiga."));
    scene.line.node.submit(vec![third], now).await.unwrap();
    scene.begin_here().await;
    scene.line.run().await;
    let about = "The hub's operator has begun a new epoch after a restore; Opened names where the old one ended at the hub (submission 1). The node holds the same chain there, enters the new epoch, and appends its later submissions again.";
    let seen = scene.keep("new-epoch", about).await;
    assert_eq!(seen["after"]["hub"]["submissions"]["position"], 2);
    assert_eq!(
        seen["after"]["node"]["submissions"],
        seen["after"]["hub"]["submissions"]
    );
}

/// Scenario: an entry comes with a part beyond 256 KiB, the next is in order.
/// Guarantee: the entry is stored and acknowledged, rejected by decision as
/// invalid, the part is not kept; the next passes.
#[tokio::test]
async fn a_part_that_is_too_large_blocks_nothing() {
    let mut scene = Scene::new().await;
    scene.file("LS-1", "Satu.").await;
    scene.file("LS-2", "Dua.").await;
    scene.line.bend = Some(|entries| {
        let bytes = Bytes::from(vec![0x5a; PART_BYTES + 1]);
        entries.entries[0].parts[0].state = PartState::Present(bytes);
    });
    scene.line.run().await;
    let counts = scene.line.hub.counts(&party()).await.unwrap();
    assert_eq!((counts.accepted, counts.rejected), (1, 1));
    let read = scene
        .line
        .hub
        .read(&party(), Direction::Submissions, 1, 1, usize::MAX);
    assert!(read.await.unwrap()[0].entry.parts.is_empty());
}

/// Scenario: the files beside the list of names.
/// Guarantee: no transcript is left that nothing replays.
#[test]
fn every_transcript_is_replayed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/transcripts");
    let mut found: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut named: Vec<String> = NAMES.iter().map(|name| format!("{name}.json")).collect();
    named.sort();
    assert_eq!(found, named);
}
