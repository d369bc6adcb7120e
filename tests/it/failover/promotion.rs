//! The primary is lost, and its standby takes its place.

use std::time::{Duration, Instant};

use crate::replicas::cluster::{Cluster, programs};

use super::{
    Moments, adapters,
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually, party},
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

async fn promotes(lost: Lost) {
    let Some(programs) = programs() else { return };
    let mut moments = Moments::new();
    let mut primary = Cluster::start(&programs, &[]);
    primary.create("national");
    let standby = primary.standby();
    primary.wait_for_standby().await;
    let url = url_of(&[&primary, &standby], "national");
    let store = "synchronous_commit = \"remote_apply\"\nstatement_timeout_seconds = 3";
    let nation = Nation::start(&url, store, 2, adapters(6)).await;
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

/// Scenario: two hubs whose url names a primary and its synchronous streaming
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
/// takes writes as before.
/// Guarantee: the same; nobody is served from the old one again.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_left() {
    promotes(Lost::Frozen).await;
}
