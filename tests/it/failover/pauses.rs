//! Hubs that stand still at any moment, and wake when others have taken their
//! work.

use std::time::{Duration, Instant};

use crate::replicas::cluster::{Cluster, programs};

use super::{
    Moments, adapters, checks::count_in_is_count_out, load::Load, nation::Nation, rounds,
    servers::signal, servers::url_of,
};

/// Keeps every commit waiting for a while, in its middle.
const HOLD: &str = "BEGIN; LOCK TABLE submission_head IN SHARE MODE; SELECT pg_sleep(1.5); COMMIT";
/// Commits that wait so.
const HELD: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE wait_event_type = 'Lock' AND query LIKE '%jembatan_commit%'";

/// Scenario: three hubs under load. In each round one of them is paused
/// (SIGSTOP): at a random moment, or while its commit waits in its middle, which
/// the server then carries out; for longer than its adapters wait for a sign of
/// life, or for a moment only. It wakes (SIGCONT) with frames, answers and a
/// commit in its hands.
/// Guarantee: what was taken over meanwhile is not written again: count in =
/// count out, chains are equal at both ends and at every hub, there is no
/// orphan, order is kept per party; nobody is taken for a second machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_hub_wakes_and_disturbs_nobody() {
    let Some(programs) = programs() else { return };
    let mut moments = Moments::new();
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let url = url_of(&[&cluster], "national");
    let nation = Nation::start(&url, "statement_timeout_seconds = 2", 3, adapters(8)).await;
    let load = Load::start(&nation, Duration::from_millis(30));
    let mut was_held = false;
    for round in 0..rounds(6) {
        tokio::time::sleep(moments.between(100, 800)).await;
        let hub = moments.one_of(nation.hubs.len());
        let pause = match round % 3 {
            // Longer than an answer is waited for.
            0 => moments.between(4_500, 6_000),
            2 => moments.between(1, 500),
            _ => moments.between(3_000, 5_000),
        };
        println!("round {round}: hub {hub} stands still for {pause:?}");
        let pid = nation.hubs[hub].pid();
        std::thread::scope(|scope| {
            if round % 3 == 0 {
                scope.spawn(|| cluster.psql("national", HOLD));
                // All three hubs stand in the middle of a commit, or nearly all.
                let until = Instant::now() + Duration::from_millis(1_200);
                let mut held = false;
                while !held && Instant::now() < until {
                    held = cluster.psql("national", HELD).trim() == "3";
                }
                was_held |= held;
            }
            signal(pid, "STOP");
        });
        tokio::time::sleep(pause).await;
        signal(pid, "CONT");
    }
    let doubts = nation.logs().matches("\"commit_in_doubt\"").count();
    println!("{doubts} commits were in doubt");
    assert!(
        doubts > 0 || !was_held,
        "a commit that was held is read back"
    );
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
    for adapter in &nation.adapters {
        let log = adapter.log();
        assert!(!log.contains("TWO_INSTANCES"), "{log}");
    }
    assert!(!nation.logs().contains("TWO_INSTANCES"));
}
