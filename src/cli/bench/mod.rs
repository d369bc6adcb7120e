//! `jembatan bench`: what the exchange does on this machine, with a hub and an
//! adapter as separate processes over mutual TLS, both fully durable.

mod ceilings;
mod fleet;
mod load;
mod report;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
    time::Instant,
};

use clap::{Args, Subcommand};

use super::{
    Done,
    lab::{self, LabDirectory, Node},
};
use load::{Pace, Templates};
use report::{Backlog, Ceilings, Cost, Latency, Report, Throughput};

/// The party that sends.
const PARTY: &str = "pemda-33.74";
/// Complaints from which on a run says how fast it began and ended.
const LONG_RUN: u64 = 1_000_000;

/// Measures end to end: from the hand-over at the adapter's door to the hub's
/// durable acknowledgement, `synchronous=FULL` at both ends, deduplicated,
/// decided, over mutual TLS 1.3 on loopback.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  jembatan bench
  jembatan bench --json > figures.json
  jembatan bench --events 5000000      also how fast the last tenth was: does a full store slow down?
  jembatan bench --backlog 1000000     what piles up while the hub is away, and drains
  jembatan bench fleet                 one hub with 1, 50 and 1000 parties
The figures are of this machine and this moment: nodes, generator and kernel
share its processors. The ceilings of the same run say what it could do."
)]
pub(super) struct Bench {
    #[command(subcommand)]
    other: Option<Other>,
    /// Complaints of the throughput run
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    events: u64,
    /// Bytes of a hand-over, encoded
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(700..=8_192))]
    size: u32,
    /// Streams that hand over at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    streams: u64,
    /// Hand-overs a second of the latency run
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Length of each latency run, seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Also: so many pile up while the hub is away, then drain
    #[arg(long, default_value_t = 0)]
    backlog: u64,
    /// Leave the ceilings out
    #[arg(long)]
    no_ceilings: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Keep the directory with stores and logs
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum Other {
    /// One hub with many parties: speed, memory, and how all come back
    Fleet(fleet::Fleet),
}

impl Bench {
    pub(super) async fn run(mut self) -> anyhow::Result<Done> {
        if let Some(Other::Fleet(fleet)) = self.other.take() {
            return fleet.run().await;
        }
        let directory = LabDirectory::new(self.keep.as_deref())?;
        let report = lab::benchmark(directory, async |path| self.measure(path).await).await?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            report.print();
        }
        Ok(Done::All)
    }

    async fn measure(&self, path: &Path) -> anyhow::Result<Report> {
        let templates = Arc::new(Templates::of_size(self.size as usize)?);
        lab::certificates(path, &[PARTY])?;
        std::fs::write(
            path.join("directory.toml"),
            format!(
                "[[party]]\nid = {PARTY:?}\n[[institution]]\ncode = {PARTY:?}\nparty = {PARTY:?}\n"
            ),
        )?;
        std::fs::write(path.join("hub.toml"), lab::hub_file())?;
        let began = Instant::now();
        let mut hub = Node::start("hub", &path.join("hub.toml")).await?;
        let hub_ready = began.elapsed();
        let links = hub.links();
        // The hub comes back on the same port.
        let fixed =
            lab::hub_file().replace("links = \"127.0.0.1:0\"", &format!("links = \"{links}\""));
        std::fs::write(path.join("hub.toml"), fixed)?;
        std::fs::write(
            path.join("city.toml"),
            lab::adapter_file(PARTY, "lapor-semar", links),
        )?;
        let began = Instant::now();
        let adapter = Node::start("adapter", &path.join("city.toml")).await?;
        let adapter_ready = began.elapsed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idle = (
            usage::resident_bytes(hub.pid()),
            usage::resident_bytes(adapter.pid()),
        );
        // Warm: caches, connections, the first pages of the stores.
        load::hand_over(&adapter, &templates, "w", 5_000, self.streams).await?;
        load::acknowledged_through(&adapter, 5_000, true).await?;

        self.say("throughput");
        let throughput = self.throughput(&hub, &adapter, &templates).await?;
        self.say("latency");
        let during = Duration::from_secs(u64::from(self.seconds));
        let (one_per_second, one) = load::one_at_a_time(&adapter, &templates, "o", during).await?;
        let paced = load::paced(&adapter, &templates, "p", self.rate, during).await?;
        let events = load::standing(&adapter).await?.head;
        load::acknowledged_through(&adapter, events, true).await?;
        let backlog = match self.backlog {
            0 => None,
            count => {
                self.say("backlog");
                Some(self.backlog(&mut hub, &adapter, &templates, count).await?)
            }
        };
        let peak = (
            usage::peak_resident_bytes(hub.pid()),
            usage::peak_resident_bytes(adapter.pid()),
        );
        adapter.stop().await;
        hub.stop().await;
        let events = events + self.backlog;
        let disk = |name: &str| usage::directory_bytes(&path.join(name)) as f64 / events as f64;
        let disk = (disk("hub-data"), disk(&format!("{PARTY}-data")));
        let ceilings = if self.no_ceilings {
            None
        } else {
            self.say("ceilings");
            let (tonic_stream, frames) = ceilings::stream(path, self.size as usize).await?;
            let (sqlite, commit) = ceilings::sqlite(path, self.size as usize).await?;
            let hub = ceilings::same_rows(path, "hub-data").await?;
            let adapter = ceilings::same_rows(path, &format!("{PARTY}-data")).await?;
            Some(Ceilings {
                tonic_stream,
                same_rows: Cost::pair((hub, adapter)),
                sqlite,
                round_trip: Latency::of(&frames),
                commit_ms: millis(commit),
            })
        };
        Ok(Report {
            handover_bytes: templates.mean_bytes(),
            streams: self.streams,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            hub_ready_ms: millis(hub_ready),
            adapter_ready_ms: millis(adapter_ready),
            throughput,
            one_at_a_time_per_second: one_per_second,
            one_at_a_time: Latency::of(&one),
            rate: self.rate,
            paced: Latency::of(&paced),
            backlog,
            idle_resident_bytes: Cost::pair(idle),
            peak_resident_bytes: Cost::pair(peak),
            disk_bytes_per_event: Cost::pair(disk),
            ceilings,
        })
    }

    async fn throughput(
        &self,
        hub: &Node,
        adapter: &Node,
        templates: &Arc<Templates>,
    ) -> anyhow::Result<Throughput> {
        let own = std::process::id();
        let cpu = || {
            (
                usage::cpu_seconds(hub.pid()),
                usage::cpu_seconds(adapter.pid()),
                usage::cpu_seconds(own),
            )
        };
        let before = load::standing(adapter).await?.head;
        let cpu_before = cpu();
        let began = Instant::now();
        let handing_over = async {
            load::hand_over(adapter, templates, "t", self.events, self.streams).await?;
            anyhow::Ok(began.elapsed())
        };
        // The pace only where it has the time to change.
        let (stored, pace) = if self.events >= LONG_RUN {
            let looking = Pace::until(adapter, before + self.events);
            let (stored, pace) = tokio::try_join!(handing_over, looking)?;
            (stored, Some(pace))
        } else {
            (handing_over.await?, None)
        };
        load::acknowledged_through(adapter, before + self.events, false).await?;
        let acknowledged = began.elapsed();
        load::acknowledged_through(adapter, before + self.events, true).await?;
        let cpu_after = cpu();
        let per_second = |took: Duration| self.events as f64 / took.as_secs_f64();
        let micros = |after: f64, before: f64| (after - before) * 1e6 / self.events as f64;
        Ok(Throughput {
            events: self.events,
            stored_per_second: per_second(stored),
            acknowledged_per_second: per_second(acknowledged),
            decided_per_second: per_second(began.elapsed()),
            first_tenth_per_second: pace.as_ref().map(|pace| pace.between(0.0, 0.1)),
            last_tenth_per_second: pace.as_ref().map(|pace| pace.between(0.9, 1.0)),
            hub_cpu_micros: micros(cpu_after.0, cpu_before.0),
            adapter_cpu_micros: micros(cpu_after.1, cpu_before.1),
            generator_cpu_micros: micros(cpu_after.2, cpu_before.2),
        })
    }

    async fn backlog(
        &self,
        hub: &mut Node,
        adapter: &Node,
        templates: &Arc<Templates>,
        count: u64,
    ) -> anyhow::Result<Backlog> {
        let before = load::standing(adapter).await?.head;
        hub.kill().await?;
        load::hand_over(adapter, templates, "b", count, self.streams).await?;
        let waiting = usage::resident_bytes(adapter.pid());
        hub.restart().await?;
        // The clock runs from the first acknowledgement: the wait before is
        // the retry's own pause.
        load::acknowledged_through(adapter, before + 1, false).await?;
        let began = Instant::now();
        load::acknowledged_through(adapter, before + count, false).await?;
        Ok(Backlog {
            events: count,
            drained_per_second: count as f64 / began.elapsed().as_secs_f64(),
            adapter_bytes_before: waiting,
            adapter_bytes_after: usage::resident_bytes(adapter.pid()),
            hub_bytes_after: usage::resident_bytes(hub.pid()),
        })
    }

    fn say(&self, what: &str) {
        use std::io::IsTerminal as _;
        if std::io::stderr().is_terminal() {
            eprintln!("measuring {what} ...");
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
