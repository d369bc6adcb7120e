//! Hubs that are stopped in good order and started again, one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jembatan::wire::v1::{self, sync_health_service_client::SyncHealthServiceClient};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    replicas::cluster::{Cluster, programs},
    support::Node,
};

use super::{
    Moments, adapters,
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually, is_up, lazy, party},
    rounds,
    servers::url_of,
};

/// Longest time without a link: a hub that stops asks for a second, which is
/// spread by half, and then the next one is dialled.
const A_MOMENT: Duration = Duration::from_secs(4);

/// Of a second, for looking at one adapter.
const EACH_LOOK: Duration = Duration::from_millis(5);

/// How often a hub that stops has told this adapter so.
fn times_told_to_move(adapter: &Node) -> usize {
    let log = adapter.log();
    let said = log.lines().filter(|line| line.contains("\"link_drained\""));
    said.filter(|line| line.contains("the hub ended the session: Stopping"))
        .count()
}

/// Looks at every adapter all the time; says the longest time that each was
/// seen without a link.
async fn watch(nation: &Nation, stop: CancellationToken) -> JoinSet<(String, Duration)> {
    let mut all = JoinSet::new();
    let stop = Arc::new(stop);
    // Looking must not be most of what the machine does.
    let pause = Duration::from_millis(50).max(EACH_LOOK * nation.adapters.len() as u32);
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
                tokio::time::sleep(pause).await;
            }
            (party, longest)
        });
    }
    all
}

/// Scenario: three hubs under load are stopped (SIGTERM) and started again, one
/// after the other, as for a new release.
/// Guarantee: each ends in good order and tells each of its adapters to move
/// (`Drain`); no adapter is without a link for more
/// than a moment; count in = count out, chains are equal at both ends and at
/// every hub, there is no orphan, order is kept per party; afterwards the
/// adapters are spread over the hubs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_leaves_nobody_alone() {
    let Some(programs) = programs() else { return };
    let mut moments = Moments::new();
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let url = url_of(&[&cluster], "national");
    let mut nation = Nation::start(&url, "", 3, adapters(9)).await;
    let load = Load::start(&nation, Duration::from_millis(60));
    let home = nation.spread().await;
    println!("at home: {home:?}");
    let stop = CancellationToken::new();
    let watched = watch(&nation, stop.clone()).await;
    for _ in 0..rounds(1) {
        for hub in 0..nation.hubs.len() {
            tokio::time::sleep(moments.between(200, 1_000)).await;
            // Nobody is on its way when it is told to move.
            eventually("every adapter is at its own hub", async || {
                nation.spread().await == home
            })
            .await;
            let told = |name: &String| times_told_to_move(nation.adapter_of(name));
            let before: Vec<usize> = home[hub].iter().map(told).collect();
            assert!(nation.hubs[hub].stop(), "{}", nation.hubs[hub].log());
            for (name, before) in home[hub].iter().zip(before) {
                eventually("it was told to move", async || {
                    times_told_to_move(nation.adapter_of(name)) > before
                })
                .await;
            }
            tokio::time::sleep(moments.between(1_000, 4_000)).await;
            nation.hubs[hub].start_again();
            nation.all_linked().await;
        }
    }
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
