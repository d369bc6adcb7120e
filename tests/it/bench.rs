//! The benchmark runs, and what it says adds up.

use std::process::Command;

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
        "/ceilings/sqlite/per_second",
    ];
    for path in positive {
        let figure = report.pointer(path).and_then(serde_json::Value::as_f64);
        assert!(
            figure.is_some_and(|figure| figure > 0.0),
            "{path}: {report}"
        );
    }
    assert_eq!(report["paced"]["samples"], 50);
    let size = report["handover_bytes"].as_f64().unwrap();
    assert!((1_000.0..=1_030.0).contains(&size), "{size}");
}
