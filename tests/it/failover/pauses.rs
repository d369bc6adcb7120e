//! Hubs that stand still at any moment, and wake when others have taken their
//! work.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::replicas::cluster::{Cluster, programs};

use super::{
    Moments, adapters,
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually},
    rounds,
    servers::{signal, url_of},
};

/// Keeps every commit waiting for a while, in its middle.
const HOLD: &str = "BEGIN; LOCK TABLE submission_head IN SHARE MODE; SELECT pg_sleep(1.5); COMMIT";
/// Commits that wait so.
const HELD: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE wait_event_type = 'Lock' AND query LIKE '%jembatan_commit%'";

/// Times that a moment is waited for in which all hubs commit.
const TRIES: u32 = 5;
/// A pause after which its adapters have heard nothing for too long.
const OUTLASTS: Duration = Duration::from_millis(4_500);
/// Whoever asks it first, that stands still, waits 15 s for TLS, after 2.5 s of
/// silence.
const ASKED_AGAIN: Duration = Duration::from_secs(14);

/// Pauses a process while all three hubs stand in the middle of a commit; whether
/// they did, and when.
fn pause_in_a_commit<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    cluster: &'scope Cluster,
    pid: u32,
) -> (bool, Instant) {
    for _ in 0..TRIES {
        let holding = scope.spawn(move || cluster.psql("national", HOLD));
        let until = Instant::now() + Duration::from_millis(1_200);
        while Instant::now() < until {
            if cluster.psql("national", HELD).trim() == "3" {
                signal(pid, "STOP");
                return (true, Instant::now());
            }
        }
        holding.join().unwrap();
    }
    signal(pid, "STOP");
    (false, Instant::now())
}

/// Scenario: three hubs under load. In each round one of them is paused
/// (SIGSTOP): at a random moment, or while its commit waits in its middle, which
/// the server then carries out; for longer than its adapters wait for a sign of
/// life, or for a moment only. It wakes (SIGCONT) with frames, answers and a
/// commit in its hands.
/// Guarantee: after the longer pauses other hubs have its sessions; what was taken
/// over meanwhile is not written again, a commit that was held is read back: count in =
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
    let (mut was_held, mut taken) = (false, 0);
    for round in 0..rounds(6) {
        tokio::time::sleep(moments.between(100, 800)).await;
        let hub = moments.one_of(nation.hubs.len());
        let pause = match round % 3 {
            // Longer than an answer is waited for.
            0 => moments.between(4_600, 6_000),
            2 => moments.between(1, 500),
            _ => moments.between(3_000, 5_000),
        };
        println!("round {round}: hub {hub} stands still for {pause:?}");
        let pid = nation.hubs[hub].pid();
        let mut since = Instant::now();
        let had = nation.sessions(hub).await;
        if round % 3 == 0 {
            let (held, at) = std::thread::scope(|scope| pause_in_a_commit(scope, &cluster, pid));
            (was_held, since) = (was_held | held, at);
        } else {
            signal(pid, "STOP");
        }
        tokio::time::sleep(pause).await;
        if pause > OUTLASTS {
            let others: Vec<usize> = (0..nation.hubs.len()).filter(|one| *one != hub).collect();
            eventually("another hub has taken its sessions", async || {
                let mut now = BTreeSet::new();
                for other in &others {
                    now.extend(nation.sessions(*other).await);
                }
                had.iter().all(|party| now.contains(party))
            })
            .await;
            taken += had.len();
            println!("its sessions were taken over after {:?}", since.elapsed());
            // Fifty adapters on two processors are no measure of time.
            let is_late = nation.adapters.len() <= 8 && since.elapsed() >= ASKED_AGAIN;
            assert!(!is_late, "the others are asked first");
        }
        signal(pid, "CONT");
    }
    println!("{taken} sessions were taken over");
    assert!(taken > 0, "somebody's session was taken over");
    assert!(was_held, "hubs were paused in the middle of a commit");
    let doubts = nation.logs().matches("\"commit_in_doubt\"").count();
    println!("{doubts} commits were in doubt");
    assert!(doubts > 0, "a commit that was held is read back");
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
    for adapter in &nation.adapters {
        let log = adapter.log();
        assert!(!log.contains("TWO_INSTANCES"), "{log}");
    }
    assert!(!nation.logs().contains("TWO_INSTANCES"));
}
