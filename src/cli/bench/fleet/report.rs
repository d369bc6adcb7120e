//! The figures of a fleet, for people and for machines.

use serde::Serialize;

use crate::cli::bench::report::{Latency, mebi, row};

use super::back::Return;

/// Of an idle party, at most.
const TARGET_KIBI: f64 = 60.0;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) store: &'static str,
    pub(super) processors: usize,
    pub(super) seed: u64,
    pub(super) sizes: Vec<Size>,
}

/// The same rows into the same tables and indexes, without a hub.
#[derive(Debug, Serialize)]
pub(super) struct Ceiling {
    pub(super) events: u64,
    pub(super) per_commit: usize,
    pub(super) per_second: f64,
    pub(super) reached_percent: Reached,
}

/// What hubs reach of a ceiling at full speed, percent.
#[derive(Debug, Serialize)]
pub(super) struct Reached {
    pub(super) one: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replicas: Option<f64>,
}

/// Of one number of parties.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    pub(super) parties: usize,
    /// From the first dial to the last session, when all begin in one moment.
    pub(super) linked_seconds: f64,
    pub(super) idle: Idle,
    pub(super) announced: Return,
    pub(super) paced: Paced,
    pub(super) full_speed: FullSpeed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replicas: Option<Replicas>,
    pub(super) day: Day,
    pub(super) hub_peak_resident_bytes: u64,
    pub(super) outage_seconds: u32,
    pub(super) unannounced: Return,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backfill: Option<Backfill>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ceiling: Option<Ceiling>,
    /// Of an event with its parts, on average.
    pub(super) event_bytes: f64,
}

/// All parties linked, and nothing to do.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    /// The hub's resident memory before the first one came.
    pub(super) hub_without_bytes: u64,
    pub(super) hub_with_bytes: u64,
    /// The difference, by the number of parties.
    pub(super) bytes_per_party: f64,
    /// Of one processor.
    pub(super) hub_cpu_percent: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Paced {
    pub(super) rate: u32,
    pub(super) latency: Latency,
}

#[derive(Debug, Serialize)]
pub(super) struct FullSpeed {
    pub(super) in_flight: u32,
    pub(super) acknowledged_per_second: f64,
    pub(super) latency: Latency,
    pub(super) hub_cpu_micros: f64,
    pub(super) generator_cpu_micros: f64,
}

/// The same with several hubs on one database, the parties spread over them.
#[derive(Debug, Serialize)]
pub(super) struct Replicas {
    pub(super) replicas: u32,
    #[serde(flatten)]
    pub(super) speed: FullSpeed,
}

#[derive(Debug, Serialize)]
pub(super) struct Day {
    pub(super) events: u64,
    pub(super) acknowledged_seconds: f64,
    pub(super) decided_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Backfill {
    pub(super) events: u64,
    pub(super) per_second: f64,
    pub(super) first_tenth_per_second: f64,
    pub(super) last_tenth_per_second: f64,
}

impl Report {
    pub(super) fn print(&self) {
        println!(
            "one hub ({}) and parties with a link each over mutual TLS 1.3 on loopback, traffic by \
             Zipf;\n{} processors for hub, generator and what else runs; seed {}",
            self.store, self.processors, self.seed
        );
        for size in &self.sizes {
            size.print();
        }
    }
}

impl Size {
    fn print(&self) {
        println!(
            "\n{} {}, events of {:.0} bytes",
            self.parties,
            if self.parties == 1 {
                "party"
            } else {
                "parties"
            },
            self.event_bytes
        );
        let full = &self.full_speed;
        row(
            "acknowledged at full speed",
            &format!(
                "{:.0}/s; {} under way: {}",
                full.acknowledged_per_second,
                full.in_flight,
                full.latency.text()
            ),
        );
        row(
            "CPU an event",
            &format!(
                "hub {:.1} µs, generator {:.1} µs",
                full.hub_cpu_micros, full.generator_cpu_micros
            ),
        );
        row(
            &format!("at {}/s", self.paced.rate),
            &self.paced.latency.text(),
        );
        row(
            &format!("a day of {} events at once", self.day.events),
            &format!(
                "{:.1} s until acknowledged, {:.1} s until decided",
                self.day.acknowledged_seconds, self.day.decided_seconds
            ),
        );
        if let Some(Replicas { replicas, speed }) = &self.replicas {
            row(
                &format!("the same over {replicas} replicas"),
                &format!(
                    "{:.0}/s; {:.1} µs of hubs' CPU; {}",
                    speed.acknowledged_per_second,
                    speed.hub_cpu_micros,
                    speed.latency.text()
                ),
            );
        }
        if let Some(ceiling) = &self.ceiling {
            row(
                &format!(
                    "PostgreSQL alone, the same rows, {} a commit",
                    ceiling.per_commit
                ),
                &format!(
                    "{:.0}/s ({} events): the hub at full speed reaches {:.0} %{}",
                    ceiling.per_second,
                    ceiling.events,
                    ceiling.reached_percent.one,
                    match ceiling.reached_percent.replicas {
                        Some(percent) => format!(", all replicas {percent:.0} %"),
                        None => String::new(),
                    }
                ),
            );
        }
        if let Some(backfill) = &self.backfill {
            row(
                &format!("{} events of the past", backfill.events),
                &format!(
                    "{:.0}/s; {:.0}/s in the first tenth, {:.0}/s in the last",
                    backfill.per_second,
                    backfill.first_tenth_per_second,
                    backfill.last_tenth_per_second
                ),
            );
        }
        let idle = &self.idle;
        row(
            &format!("hub's memory of an idle party (aim: {TARGET_KIBI} KiB)"),
            &format!(
                "{:.1} KiB: {} with all, {} with none; most {}",
                idle.bytes_per_party / 1024.0,
                mebi(idle.hub_with_bytes),
                mebi(idle.hub_without_bytes),
                mebi(self.hub_peak_resident_bytes)
            ),
        );
        row(
            "hub's CPU while all are idle",
            &format!("{:.1} % of a processor", idle.hub_cpu_percent),
        );
        row(
            "all linked, begun at once",
            &format!("{:.2} s", self.linked_seconds),
        );
        row(
            "all back after a restart with Drain (aim: 5 s)",
            &self.announced.text(),
        );
        row(
            &format!(
                "all back after {} s without a word (aim: 60 s)",
                self.outage_seconds
            ),
            &self.unannounced.text(),
        );
    }
}

impl Return {
    fn text(&self) -> String {
        format!(
            "{:.2} s after the hub's end, {:.2} s after its start (away for {:.2} s); most in a second: {:.1} %",
            self.all_back_seconds,
            self.all_back_after_start_seconds,
            self.hub_away_seconds,
            100.0 * self.largest_share_of_a_second
        )
    }
}
