//! Hubs that are stopped in good order and started again, one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jembatan::wire::v1::{self, sync_health_service_client::SyncHealthServiceClient};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::replicas::cluster::{Cluster, programs};

use super::{
    adapters,
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually, is_up, lazy, party},
    rounds,
    servers::url_of,
};

/// Longest time without a link: a hub that stops asks for a second, which is
/// spread by half, and then the next one is dialled.
const A_MOMENT: Duration = Duration::from_secs(4);

/// Looks at every adapter all the time; says the longest time that each was
/// seen without a link.
async fn watch(nation: &Nation, stop: CancellationToken) -> JoinSet<(String, Duration)> {
    let mut all = JoinSet::new();
    let stop = Arc::new(stop);
    for (number, adapter) in nation.adapters.iter().enumerate() {
        let mut health = SyncHealthServiceClient::new(lazy(adapter.grpc));
        let (party, stop) = (party(number), stop.clone());
        all.spawn(async move {
            let (mut longest, mut since) = (Duration::ZERO, None);
            while !stop.is_cancelled() {
                let request = v1::GetSyncStatusRequest {
                    party: party.clone(),
                };
                let answer = health.get_sync_status(request).await.unwrap();
                let is_linked = is_up(answer.into_inner().parties[0].verdict);
                if is_linked {
                    since = None;
                } else {
                    let since = since.get_or_insert_with(Instant::now);
                    longest = longest.max(since.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (party, longest)
        });
    }
    all
}

/// Scenario: three hubs under load are stopped (SIGTERM) and started again, one
/// after the other, as for a new release.
/// Guarantee: each ends in good order; no adapter is without a link for more
/// than a moment; count in = count out, chains are equal at both ends and at
/// every hub, there is no orphan, order is kept per party; afterwards the
/// adapters are spread over the hubs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_leaves_nobody_alone() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let url = url_of(&[&cluster], "national");
    let mut nation = Nation::start(&url, "", 3, adapters(9)).await;
    let load = Load::start(&nation, Duration::from_millis(60));
    let home = nation.spread().await;
    let stop = CancellationToken::new();
    let watched = watch(&nation, stop.clone()).await;
    for _ in 0..rounds(1) {
        for hub in 0..nation.hubs.len() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            println!("before hub {hub}: {:?}", nation.spread().await);
            assert!(nation.hubs[hub].stop(), "{}", nation.hubs[hub].log());
            tokio::time::sleep(Duration::from_secs(3)).await;
            nation.hubs[hub].start_again();
            nation.all_linked().await;
        }
    }
    println!("after all: {:?}", nation.spread().await);
    eventually("every adapter is at its own hub again", async || {
        nation.spread().await == home
    })
    .await;
    stop.cancel();
    for (party, longest) in watched.join_all().await {
        println!("{party} was without a link for {longest:?}");
        assert!(longest < A_MOMENT, "{party}: {longest:?}");
    }
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
    for hub in &mut nation.hubs {
        assert!(hub.stop(), "{}", hub.log());
    }
}
