//! The figures, for people and for machines.

use std::time::Duration;

use serde::Serialize;

use super::millis;

/// One figure each.
#[derive(Debug, Serialize)]
pub(super) struct Cost<T> {
    pub(super) hub: T,
    pub(super) adapter: T,
}

impl<T> Cost<T> {
    pub(super) fn pair((hub, adapter): (T, T)) -> Self {
        Self { hub, adapter }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) events: u64,
    /// On the adapter's disk.
    pub(super) stored_per_second: f64,
    /// On the hub's disk too, and the adapter knows.
    pub(super) acknowledged_per_second: f64,
    /// And every decision is on the adapter's disk.
    pub(super) decided_per_second: f64,
    /// Acknowledged in the first and the last tenth of a long run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_tenth_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_tenth_per_second: Option<f64>,
    pub(super) hub_cpu_micros: f64,
    pub(super) adapter_cpu_micros: f64,
    pub(super) generator_cpu_micros: f64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) samples: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Latency {
    /// Of sorted samples.
    pub(super) fn of(sorted: &[Duration]) -> Self {
        let at = |share: f64| {
            let place =
                ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
            sorted.get(place - 1).map_or(0.0, |found| millis(*found))
        };
        Self {
            samples: sorted.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Backlog {
    pub(super) events: u64,
    pub(super) drained_per_second: f64,
    pub(super) adapter_bytes_before: u64,
    pub(super) adapter_bytes_after: u64,
    pub(super) hub_bytes_after: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Ceiling {
    pub(super) per_second: f64,
    pub(super) cpu_micros: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Ceilings {
    /// A tonic stream over the same mutual TLS, no storage.
    pub(super) tonic_stream: Ceiling,
    /// The rows of each node's store into the same tables and indexes, 256 events a
    /// commit, full sync, without the store's logic.
    pub(super) same_rows: Cost<Ceiling>,
    /// Rows of the same size by themselves, 256 a commit, full sync.
    pub(super) sqlite: Ceiling,
    /// One frame there and back over the same mutual TLS, nothing stored.
    pub(super) round_trip: Latency,
    /// One row by itself in SQLite, full sync.
    pub(super) commit_ms: f64,
}

impl Ceilings {
    /// What one at a time can't go below: from the caller to the node and on
    /// to the hub, a commit at each, and back.
    fn one_at_a_time_ms(&self) -> f64 {
        2.0 * (self.round_trip.p50_ms + self.commit_ms)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) handover_bytes: f64,
    pub(super) streams: u64,
    pub(super) processors: usize,
    pub(super) hub_ready_ms: f64,
    pub(super) adapter_ready_ms: f64,
    pub(super) throughput: Throughput,
    pub(super) one_at_a_time_per_second: f64,
    pub(super) one_at_a_time: Latency,
    pub(super) rate: u32,
    pub(super) paced: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backlog: Option<Backlog>,
    pub(super) idle_resident_bytes: Cost<u64>,
    pub(super) peak_resident_bytes: Cost<u64>,
    pub(super) disk_bytes_per_event: Cost<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ceilings: Option<Ceilings>,
}

impl Report {
    pub(super) fn print(&self) {
        let Throughput {
            events,
            stored_per_second,
            acknowledged_per_second,
            decided_per_second,
            first_tenth_per_second,
            last_tenth_per_second,
            hub_cpu_micros,
            adapter_cpu_micros,
            generator_cpu_micros,
        } = &self.throughput;
        println!(
            "hub and adapter as separate processes, mutual TLS 1.3 on loopback, synchronous=FULL at both ends,\n\
             deduplicated and decided; hand-overs of {:.0} bytes on {} streams; {} processors for everything\n",
            self.handover_bytes, self.streams, self.processors
        );
        println!("throughput, {events} complaints");
        row(
            "stored at the adapter",
            &format!("{stored_per_second:.0}/s"),
        );
        row(
            "acknowledged by the hub, on both disks",
            &format!("{acknowledged_per_second:.0}/s"),
        );
        row(
            "decided, and the decision on the adapter's disk",
            &format!("{decided_per_second:.0}/s"),
        );
        if let (Some(first), Some(last)) = (first_tenth_per_second, last_tenth_per_second) {
            row(
                "acknowledged in the first and the last tenth",
                &format!("{first:.0}/s, {last:.0}/s: {:.0} %", last / first * 100.0),
            );
        }
        row(
            "CPU an event",
            &format!(
                "hub {hub_cpu_micros:.1} µs, adapter {adapter_cpu_micros:.1} µs, both {:.1} µs (generator {generator_cpu_micros:.1} µs)",
                hub_cpu_micros + adapter_cpu_micros
            ),
        );
        println!("latency, from the hand-over to the hub's decision, durable at both ends");
        row(
            "one at a time",
            &format!(
                "{:.0}/s, {}",
                self.one_at_a_time_per_second,
                self.one_at_a_time.text()
            ),
        );
        row(&format!("at {}/s", self.rate), &self.paced.text());
        if let Some(backlog) = &self.backlog {
            println!(
                "backlog, {} complaints piled up while the hub was away",
                backlog.events
            );
            row("drained", &format!("{:.0}/s", backlog.drained_per_second));
            row(
                "resident",
                &format!(
                    "adapter {} before, {} after; hub {} after",
                    mebi(backlog.adapter_bytes_before),
                    mebi(backlog.adapter_bytes_after),
                    mebi(backlog.hub_bytes_after)
                ),
            );
        }
        println!("size");
        row(
            "ready after start",
            &format!(
                "hub {:.0} ms, adapter {:.0} ms",
                self.hub_ready_ms, self.adapter_ready_ms
            ),
        );
        row(
            "resident idle / most",
            &format!(
                "hub {} / {}, adapter {} / {}",
                mebi(self.idle_resident_bytes.hub),
                mebi(self.peak_resident_bytes.hub),
                mebi(self.idle_resident_bytes.adapter),
                mebi(self.peak_resident_bytes.adapter)
            ),
        );
        row(
            "on disk an event",
            &format!(
                "hub {:.0} bytes, adapter {:.0} bytes",
                self.disk_bytes_per_event.hub, self.disk_bytes_per_event.adapter
            ),
        );
        if let Some(ceilings) = &self.ceilings {
            println!("ceilings of the same run");
            row(
                "tonic stream over mutual TLS, no storage",
                &format!(
                    "{:.0}/s, {:.1} µs CPU both ends",
                    ceilings.tonic_stream.per_second, ceilings.tonic_stream.cpu_micros
                ),
            );
            for (node, ceiling) in [
                (
                    "SQLite alone, the hub's rows, 256 events a commit",
                    &ceilings.same_rows.hub,
                ),
                (
                    "SQLite alone, the adapter's rows",
                    &ceilings.same_rows.adapter,
                ),
                (
                    "SQLite alone, one blob of that size and one key",
                    &ceilings.sqlite,
                ),
            ] {
                let Ceiling {
                    per_second,
                    cpu_micros,
                } = ceiling;
                let share = acknowledged_per_second / per_second * 100.0;
                row(
                    node,
                    &format!("{per_second:.0}/s ({share:.0} % of it), {cpu_micros:.1} µs CPU"),
                );
            }
            row(
                "one frame there and back, no storage",
                &ceilings.round_trip.text(),
            );
            row(
                "SQLite alone, one row a commit, full sync",
                &format!("{:.2} ms", ceilings.commit_ms),
            );
            row(
                "so one at a time, twice each",
                &format!(
                    "{:.2} ms, {:.0}/s",
                    ceilings.one_at_a_time_ms(),
                    1e3 / ceilings.one_at_a_time_ms()
                ),
            );
        }
    }
}

impl Latency {
    pub(super) fn text(&self) -> String {
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms ({} samples)",
            self.p50_ms, self.p99_ms, self.p999_ms, self.samples
        )
    }
}

pub(super) fn row(name: &str, figure: &str) {
    println!("  {name:<50} {figure}");
}

pub(super) fn mebi(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
