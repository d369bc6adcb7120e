//! Hubs and their PostgreSQL, killed in turn.

use std::time::Duration;

use crate::replicas::cluster::{Cluster, programs};

use super::{
    Moments, adapters, checks::count_in_is_count_out, load::Load, nation::Nation, rounds,
    servers::url_of,
};

/// Scenario: three hubs, adapters that know all of them, and load at every
/// door. In each round one hub is killed (SIGKILL) and comes back, then all in
/// turn, then PostgreSQL is shut down at once, and killed, and comes back.
/// Guarantee: count in = count out, chains are equal at both ends and at every
/// hub, there is no orphan, order is kept per party; no hub ends because its
/// database is away.
#[tokio::test(flavor = "multi_thread")]
async fn hubs_and_their_server_are_killed_in_turn() {
    let Some(programs) = programs() else { return };
    let mut moments = Moments::new();
    let mut cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let url = url_of(&[&cluster], "national");
    let mut nation = Nation::start(&url, "", 3, adapters(8)).await;
    let load = Load::start(&nation, Duration::from_millis(30));
    for _ in 0..rounds(1) {
        let one = moments.one_of(nation.hubs.len());
        let all = 0..nation.hubs.len();
        for hub in std::iter::once(one).chain(all) {
            tokio::time::sleep(moments.between(200, 1_000)).await;
            nation.hubs[hub].kill();
            tokio::time::sleep(moments.between(0, 500)).await;
            nation.hubs[hub].start_again();
        }
        tokio::time::sleep(moments.between(200, 1_000)).await;
        cluster.stop_at_once();
        tokio::time::sleep(moments.between(0, 2_000)).await;
        cluster.run();
        tokio::time::sleep(moments.between(500, 2_000)).await;
        cluster.kill();
        tokio::time::sleep(moments.between(0, 500)).await;
        cluster.run();
        tokio::time::sleep(moments.between(500, 1_000)).await;
    }
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
    for hub in &mut nation.hubs {
        assert!(hub.is_running(), "no hub ends because its database is away");
    }
}
