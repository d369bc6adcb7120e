//! The primary is lost, and its standby takes its place.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::replicas::cluster::{Cluster, programs};

use super::{
    Moments, adapters,
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually, party},
    rounds,
    servers::{Frozen, url_of},
};

/// How the primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Killed,
    /// Its machine stands still, takes connections and answers nothing; it
    /// wakes when the standby has long taken its place.
    Frozen,
}

/// Complaints that are accepted so far, over all parties.
pub(super) fn accepted(cluster: &Cluster) -> i64 {
    let text = "SELECT sum(accepted) FROM submission_head";
    cluster.psql("national", text).trim().parse().unwrap()
}

/// Over and over, with fresh servers each time.
async fn promotes(lost: Lost) {
    let Some(programs) = programs() else { return };
    let mut moments = Moments::new();
    for round in 0..rounds(1) {
        println!("round {round}");
        promotes_once(lost, &programs, &mut moments).await;
    }
}

async fn promotes_once(lost: Lost, programs: &Path, moments: &mut Moments) {
    let mut primary = Cluster::start(programs, &[]);
    primary.create("national");
    let mut standby = primary.standby();
    primary.wait_for_standby().await;
    let url = url_of(&[&primary, &standby], "national");
    let store = "synchronous_commit = \"remote_apply\"\nstatement_timeout_seconds = 3";
    let mut nation = Nation::start(&url, store, 3, adapters(6)).await;
    let load = Load::start(&nation, Duration::from_millis(40));
    eventually("traffic flows", async || accepted(&primary) > 100).await;
    tokio::time::sleep(moments.between(0, 500)).await;
    let frozen = match lost {
        Lost::Killed => {
            primary.kill();
            None
        }
        Lost::Frozen => Some(Frozen::new(&primary)),
    };
    tokio::time::sleep(moments.between(0, 1_000)).await;
    let before = accepted(&standby);
    standby.promote();
    let promoted = Instant::now();
    eventually("the first commit at the standby", async || {
        accepted(&standby) > before
    })
    .await;
    let after = promoted.elapsed();
    println!("{lost:?}: the first commit {after:?} after the promotion");
    eventually("traffic flows again", async || {
        accepted(&standby) > before + 100
    })
    .await;
    if frozen.is_some() {
        // It wakes, and believes that it is still the primary.
        drop(frozen);
        let now = accepted(&standby);
        eventually("traffic flows on", async || accepted(&standby) > now + 100).await;
        is_not_used_again(&primary, &mut standby, &mut nation).await;
    }
    let all = load.stop().await;
    count_in_is_count_out(&nation, &standby, &all).await;
    for (number, adapter) in nation.adapters.iter().enumerate() {
        let log = adapter.log();
        let party = party(number);
        assert!(!log.contains("link_mismatch"), "{party}: {log}");
        assert!(!log.contains("link_refused"), "{party}: {log}");
    }
}

/// The new primary is away for a while, and the old one would take writes; then both
/// are there, and a hub starts.
async fn is_not_used_again(old: &Cluster, new: &mut Cluster, nation: &mut Nation) {
    // Nobody follows it any more: it would answer nobody otherwise.
    old.psql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
    old.psql("postgres", "SELECT pg_reload_conf()");
    eventually("the old primary takes writes", async || {
        old.psql("postgres", "SHOW synchronous_standby_names")
            .trim()
            == ""
    })
    .await;
    let there = accepted(old);
    new.stop_at_once();
    for hub in &nation.hubs {
        eventually("the hub says why it does not go back", async || {
            hub.log().contains("another server was promoted since")
        })
        .await;
    }
    new.run();
    let now = accepted(new);
    eventually("traffic flows at the new one", async || {
        accepted(new) > now + 100
    })
    .await;
    nation.hubs[0].kill();
    nation.hubs[0].start_again();
    nation.all_linked().await;
    let at = |server: &Cluster| {
        let sessions = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = 'national' AND pid <> pg_backend_pid()";
        server.psql("national", sessions).trim().to_owned()
    };
    eventually("no session is at the old one", async || at(old) == "0").await;
    let now = accepted(new);
    eventually("traffic flows on", async || accepted(new) > now + 100).await;
    assert_eq!(at(old), "0", "no session is at the old one");
    assert_eq!(accepted(old), there, "nothing is written at the old one");
}

/// Scenario: three hubs whose url names a primary and its synchronous streaming
/// standby, `remote_apply`; six adapters and the national application hand
/// over. The primary is killed in the middle of it, and the standby promoted.
/// Guarantee: the hubs go on at the standby without a restart; count in = count
/// out, chains are equal at both ends, there is no orphan, order is kept per
/// party.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_everything() {
    promotes(Lost::Killed).await;
}

/// Scenario: the same, but the primary's machine stands still: it takes
/// connections and says nothing. It wakes after the standby was promoted, and
/// takes writes as before, also while the new one is away for a moment; later one hub
/// starts and finds both.
/// Guarantee: the same; nobody is served from the old one again, hubs say why, and
/// nothing is written there.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_left() {
    promotes(Lost::Frozen).await;
}
