//! `jembatan bench fleet`: many parties against one hub. The parties live in
//! this process, each with a certificate, a connection and a link of its own,
//! driven by the adapter's code; the hub is a process of its own, which is
//! stopped, killed and started again.

mod back;
mod crowd;
mod database;
mod ledger;
mod limits;
mod report;
mod size;
mod store;
mod traffic;

use std::path::PathBuf;

use clap::Args;

use crate::cli::{
    Done,
    lab::{self, LabDirectory},
};

use report::Report;

/// Most parties: what a hub listens to with its usual limits.
const MOST_PARTIES: i64 = 4_000;

/// Measures one hub with many parties: events a second and latency, memory of
/// a party that is idle, and how all come back when the hub was away.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan bench fleet
  jembatan bench fleet --parties 1000 --outage 600 --json > figures.json
  jembatan bench fleet --store 'postgres:///fleet?host=/var/run/postgresql&user=me'
  jembatan bench fleet --parties 50 --backfill 3000000
The figures are of this machine and this moment: hub, database, generator and
kernel share its processors.")]
pub(super) struct Fleet {
    /// Parties; each number is measured by itself, in this order
    #[arg(long, value_delimiter = ',', default_value = "1,50,1000", value_parser = clap::value_parser!(u32).range(1..=MOST_PARTIES))]
    parties: Vec<u32>,
    /// The hub's store: an empty PostgreSQL database instead of a directory
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// File with the password of the database's user
    #[arg(long, value_name = "FILE", requires = "store")]
    store_password_file: Option<PathBuf>,
    /// Use the database even if it holds something: the fleet's parties stay in it
    #[arg(long, requires = "store")]
    not_empty: bool,
    /// Events a second of the paced run
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Length of the paced run and of the one at full speed, seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Events under way at once at full speed, of all parties together
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// Events of a day, handed over at once
    #[arg(long, default_value_t = 60_000)]
    day: u64,
    /// How long linked parties are idle before memory is read, seconds
    #[arg(long, default_value_t = 15)]
    idle: u32,
    /// How long the hub is away unannounced, seconds. Pauses between attempts
    /// grow to a minute: what is longer than that is like a night
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    outage: u32,
    /// Also: so many events of the past, and the rate at their beginning and end
    #[arg(long, default_value_t = 0)]
    backfill: u64,
    /// Who is next, and what is copied to whom, is drawn from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Keep the directory with stores and logs
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

impl Fleet {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        limits::check(self.parties.iter().copied().max().unwrap_or_default())?;
        let directory = LabDirectory::new(self.keep.as_deref())?;
        let report = lab::benchmark(directory, async |path| self.measure(path).await).await?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            report.print();
        }
        Ok(Done::All)
    }

    async fn measure(&self, path: &std::path::Path) -> anyhow::Result<Report> {
        let run = hex::encode(crate::runtime::random_bytes::<2>());
        let fleets: Vec<Vec<String>> = self
            .parties
            .iter()
            .enumerate()
            .map(|(place, count)| {
                (1..=*count)
                    .map(|number| format!("armada-{run}-{place}-{number:04}"))
                    .collect()
            })
            .collect();
        self.say("certificates");
        let names: Vec<&str> = fleets.iter().flatten().map(String::as_str).collect();
        lab::certificates(path, &names)?;
        let table = database::table(self.store.as_deref(), self.store_password_file.as_deref())?;
        if self.store.is_some() {
            database::prepare(path, &table, self.not_empty).await?;
        }
        let mut sizes = Vec::with_capacity(fleets.len());
        for (place, names) in fleets.iter().enumerate() {
            let directory = path.join(format!("{place}-{}-parties", names.len()));
            sizes.push(self.one_size(&directory, &table, names, &run).await?);
        }
        Ok(Report {
            store: match self.store {
                Some(_) => "PostgreSQL, synchronous_commit=on",
                None => "SQLite, synchronous=FULL",
            },
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            seed: self.seed,
            sizes,
        })
    }

    fn say(&self, what: &str) {
        use std::io::IsTerminal as _;
        if std::io::stderr().is_terminal() {
            eprintln!("{what} ...");
        }
    }
}
