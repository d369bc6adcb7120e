//! Hand-overs at a node.

use crate::{
    domain::{EventBody, Progress},
    exchange::{Direction, event_digest},
    store::{NewSubmission, SubmitRefusal},
};

use super::world::{Engine, World, at, city, event, filing, province};

/// Scenario: the same hand-over again; by its reference under another key;
/// with other content.
/// Guarantee: the first result is repeated; a conflict names both digests, the one
/// that is stored and the one that came; nothing is stored twice or written over.
pub(super) async fn repeats_and_conflicts(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let node = &world.province;
    let submit = async |new| node.submit(vec![new], at(1)).await.unwrap().remove(0);
    let filed = filing(&province(), "A-1", "isi", None);
    let digest = |new: &NewSubmission| event_digest(&new.event_bytes);
    let first = submit(filed.clone()).await.unwrap();
    assert_eq!((first.progress, first.repeated), (Progress::Stored, false));
    for key in [None, Some("other-key")] {
        let again = submit(filing(&province(), "A-1", "isi", key))
            .await
            .unwrap();
        assert_eq!((again.event_id, again.repeated), (first.event_id, true));
    }
    for key in [None, Some("third-key")] {
        let other = filing(&province(), "A-1", "isi lain", key);
        let digests = (digest(&filed), digest(&other));
        match submit(other).await {
            Err(SubmitRefusal::Conflict { stored, refused }) => {
                assert_eq!((stored, refused), digests);
            }
            other => panic!("{other:?}"),
        }
    }
    let kept = node.read(&province(), Direction::Submissions, 1, 10, usize::MAX);
    assert_eq!(kept.await.unwrap()[0].entry.event, filed.event_bytes);
    let heads = node.heads(&province()).await.unwrap();
    assert_eq!(heads.submissions.position, 1);
}

/// Scenario: the store is opened again after its process has ended.
/// Guarantee: what was answered is there, a repetition is still one, and the
/// instance is the same.
pub(super) async fn survives_reopening(engine: &dyn Engine) {
    let directory = tempfile::tempdir().unwrap();
    let first = engine.node(directory.path());
    let instance = first.instance_id();
    first
        .submit(vec![filing(&city(), "A-1", "isi", None)], at(1))
        .await
        .unwrap();
    first.close().await;
    drop(first);
    let second = engine.node(directory.path());
    assert_eq!(second.instance_id(), instance);
    let again = second
        .submit(vec![filing(&city(), "A-1", "isi", None)], at(2))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert!(again.repeated);
}

/// Scenario: an event about a complaint that was never here, in one batch with
/// a good filing.
/// Guarantee: refused at once, and its neighbour is stored.
pub(super) async fn refuses_what_it_can_know(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let strange = filing(&city(), "never", "x", None);
    let batch = vec![
        event(&province(), &strange, "k-1", EventBody::Closed),
        filing(&province(), "A-1", "isi", None),
    ];
    let results = world.province.submit(batch, at(1)).await.unwrap();
    assert_eq!(results[0], Err(SubmitRefusal::UnknownComplaint));
    assert!(results[1].is_ok());
}

/// Scenario: two hundred callers at once.
/// Guarantee: each is answered, positions have no gap, and pages keep their
/// limits but always hold one entry.
pub(super) async fn many_at_once(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let calls = (0..200).map(|n| {
        let new = filing(&province(), &format!("M-{n}"), "isi", None);
        world.province.submit(vec![new], at(1))
    });
    for outcome in futures_util::future::join_all(calls).await {
        assert!(outcome.unwrap()[0].is_ok());
    }
    let read = async |entries, bytes| {
        world
            .province
            .read(&province(), Direction::Submissions, 1, entries, bytes)
            .await
            .unwrap()
    };
    let all = read(1_000, usize::MAX).await;
    let positions: Vec<u64> = all.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, (1..=200).collect::<Vec<u64>>());
    assert_eq!(read(7, usize::MAX).await.len(), 7);
    assert_eq!(read(1_000, 1).await.len(), 1);
}
