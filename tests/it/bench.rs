//! The benchmark runs, and what it says adds up.

use std::{path::Path, process::Command};

use crate::support::eventually;

/// Scenario: a small run of the benchmark, ceilings and a backlog included.
/// Guarantee: it ends well and says each figure that the papers quote, from
/// events that really went through both stores. No figure is judged here.
#[test]
fn a_small_benchmark_says_every_figure() {
    let output = Command::new(env!("CARGO_BIN_EXE_jembatan"))
        .args(["bench", "--json", "--events", "2000", "--seconds", "1"])
        .args(["--rate", "50", "--backlog", "1000"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let positive = [
        "/throughput/stored_per_second",
        "/throughput/acknowledged_per_second",
        "/throughput/decided_per_second",
        "/throughput/hub_cpu_micros",
        "/throughput/adapter_cpu_micros",
        "/one_at_a_time_per_second",
        "/one_at_a_time/p50_ms",
        "/one_at_a_time/p999_ms",
        "/paced/p99_ms",
        "/backlog/drained_per_second",
        "/idle_resident_bytes/hub",
        "/idle_resident_bytes/adapter",
        "/peak_resident_bytes/adapter",
        "/disk_bytes_per_event/hub",
        "/hub_ready_ms",
        "/adapter_ready_ms",
        "/ceilings/tonic_stream/per_second",
        "/ceilings/same_rows/hub/per_second",
        "/ceilings/same_rows/adapter/per_second",
        "/ceilings/sqlite/per_second",
        "/ceilings/round_trip/p50_ms",
        "/ceilings/commit_ms",
    ];
    are_positive(&report, &positive);
    assert_eq!(report["paced"]["samples"], 50);
    let size = report["handover_bytes"].as_f64().unwrap();
    assert!((1_000.0..=1_030.0).contains(&size), "{size}");
}

/// Each of these is there, and more than nothing.
fn are_positive(report: &serde_json::Value, paths: &[&str]) {
    for path in paths {
        let figure = report.pointer(path).and_then(serde_json::Value::as_f64);
        assert!(
            figure.is_some_and(|figure| figure > 0.0),
            "{path}: {report}"
        );
    }
}

/// Short times for whatever a fleet measures.
const SHORT: [&str; 16] = [
    "--seconds",
    "1",
    "--rate",
    "50",
    "--in-flight",
    "32",
    "--day",
    "240",
    "--idle",
    "1",
    "--outage",
    "1",
    "--backfill",
    "300",
    "--seed",
    "3",
];

fn fleet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jembatan"));
    command.args(["bench", "fleet"]).args(arguments);
    command
}

/// Every figure of each size is there, and those that can't be nothing are not.
fn check_fleet(output: &std::process::Output, sizes: &[u64]) -> Vec<serde_json::Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = report["sizes"].as_array().unwrap();
    assert_eq!(found.len(), sizes.len(), "{report}");
    for (size, parties) in found.iter().zip(sizes) {
        assert_eq!(size["parties"], *parties);
        let positive = [
            "/linked_seconds",
            "/idle/hub_without_bytes",
            "/idle/hub_with_bytes",
            "/announced/hub_away_seconds",
            "/announced/all_back_seconds",
            "/announced/all_back_after_start_seconds",
            "/announced/largest_share_of_a_second",
            "/paced/latency/p50_ms",
            "/paced/latency/p99_ms",
            "/paced/latency/p999_ms",
            "/full_speed/acknowledged_per_second",
            "/full_speed/latency/p999_ms",
            "/full_speed/hub_cpu_micros",
            "/full_speed/generator_cpu_micros",
            "/day/acknowledged_seconds",
            "/day/decided_seconds",
            "/hub_peak_resident_bytes",
            "/unannounced/all_back_seconds",
            "/unannounced/largest_share_of_a_second",
            "/backfill/per_second",
            "/backfill/first_tenth_per_second",
            "/backfill/last_tenth_per_second",
            "/event_bytes",
        ];
        are_positive(size, &positive);
        for path in ["/idle/bytes_per_party", "/idle/hub_cpu_percent"] {
            assert!(size.pointer(path).unwrap().is_number(), "{path}: {size}");
        }
        assert_eq!(size["paced"]["latency"]["samples"], 50);
        let away = size["unannounced"]["hub_away_seconds"].as_f64().unwrap();
        assert!(away >= 1.0, "{size}");
        for back in ["announced", "unannounced"] {
            let share = size[back]["largest_share_of_a_second"].as_f64().unwrap();
            assert!(share <= 1.0, "{size}");
        }
    }
    found.clone()
}

/// Scenario: a small fleet, a hub on SQLite that is restarted in order and
/// killed under it, and a few events of the past.
/// Guarantee: it ends well and says each figure that the papers quote, from
/// events that the hub really acknowledged and accepted. No figure is judged
/// here.
#[test]
fn a_small_fleet_says_every_figure() {
    let mut command = fleet(&["--json", "--parties", "1,20"]);
    check_fleet(&command.args(SHORT).output().unwrap(), &[1, 20]);
}

/// Scenario: a small fleet with its hub, and then two, on an empty PostgreSQL;
/// then another fleet on the same database, which is not empty any more.
/// Guarantee: the first says each figure, that of two hubs and that of the
/// database alone too, which had all rows of the run to write; the second does
/// not begin, and says what to do.
#[test]
fn a_fleet_on_postgresql_wants_an_empty_database() {
    let directory = tempfile::tempdir().unwrap();
    let Some((cluster, ..)) = crate::replicas::database(directory.path()) else {
        return;
    };
    let url = cluster.url("national");
    let store = ["--json", "--parties", "5", "--store", &url];
    let mut command = fleet(&store);
    let output = command.args(SHORT).args(["--replicas", "2"]).output();
    let found = check_fleet(&output.unwrap(), &[5]);
    are_positive(
        &found[0],
        &[
            "/replicas/acknowledged_per_second",
            "/ceiling/per_second",
            "/ceiling/reached_percent/one",
            "/ceiling/reached_percent/replicas",
        ],
    );
    assert_eq!(found[0]["replicas"]["replicas"], 2);
    let at_least = 50 + 240 + 300;
    assert!(found[0]["ceiling"]["events"].as_u64().unwrap() > at_least);
    let again = fleet(&store).args(SHORT).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("createdb fleet"), "{said}");
}

/// Scenario: more parties than files may be open.
/// Guarantee: it says so before it begins, with what to do.
#[test]
fn a_fleet_without_files_does_not_begin() {
    let limited = "ulimit -Sn 250; exec \"$0\" bench fleet --parties 100";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_jembatan")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ulimit -n 300"), "{said}");
}

/// Scenario: whoever has started a fleet interrupts it while its hub runs.
/// Guarantee: the hub ends with it, and its directory is gone.
#[tokio::test]
async fn an_interrupted_fleet_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = fleet(&["--parties", "3"])
        .env("TMPDIR", directory.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = running.id().to_string();
    eventually("the hub runs", async || hubs_in(directory.path()) == 1).await;
    let told = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(told.success());
    assert_eq!(running.wait().unwrap().code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(hubs_in(directory.path()), 0);
}

/// Running hubs whose settings are in a directory.
fn hubs_in(directory: &Path) -> usize {
    let directory = directory.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|words| words.contains("\0hub\0") && words.contains(directory))
        .count()
}
