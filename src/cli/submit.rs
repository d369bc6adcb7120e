//! `jembatan submit`: complaints from a file or standard input.

use std::{
    io::{BufRead, BufReader, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures_util::stream;
use tokio_stream::StreamExt as _;

use crate::wire::v1;

use super::{
    Done,
    client::{DoorArgs, refused},
    records::Record,
};

/// How the input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line: a complaint, or a hand-over of the contract
    Jsonl,
    /// A header line with the names of the fields, then one complaint a line
    Csv,
}

/// Hands complaints over at a door. Run again after a failure: what is there
/// already is answered as such, nothing is doubled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan submit examples/complaints.jsonl
  cat report.csv | jembatan submit --format csv -
Each line of output is one result in JSON, in the order of the input. A line
with \"handover\" is taken as jembatan.v1.Handover (an event, for example):
  {\"handover\":{\"key\":\"k-7\",\"event\":{\"complaint\":{\"reference\":\"A-1\"},\"text\":\"Selesai.\",\"responded\":{}}}}
Exit code 3: some were refused; they are in the output with their reasons.")]
pub(super) struct Submit {
    #[command(flatten)]
    door: DoorArgs,
    /// The file; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// How it is written [default: by the file's ending, else jsonl]
    #[arg(long)]
    format: Option<Format>,
    /// The local system, where the token names none
    #[arg(long, default_value = "")]
    system: String,
}

impl Submit {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        let is_csv = self.file.extension().is_some_and(|found| found == "csv");
        let format = self
            .format
            .unwrap_or(if is_csv { Format::Csv } else { Format::Jsonl });
        let (handovers, unreadable) = self.read(format)?;
        let total = handovers.len();
        let mut gateway = self.door.gateway().await?;
        let names: Vec<String> = handovers.iter().map(name_of).collect();
        let requests = handovers
            .into_iter()
            .map(|handover| v1::SubmitStreamRequest {
                handover: Some(handover),
            });
        let mut answers = gateway
            .submit_stream(stream::iter(requests))
            .await
            .map_err(refused)?
            .into_inner();
        let (mut stored, mut repeated, mut failed) = (0, 0, unreadable);
        let shows_progress = std::io::stderr().is_terminal();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|status| {
                anyhow::anyhow!(
                    "{} ({:?}) after {stored} of {total}; run it again, nothing is doubled",
                    status.message(),
                    status.code()
                )
            })?;
            let name = names
                .get(answer.ordinal as usize)
                .map_or("", String::as_str);
            match &answer.result {
                Some(v1::submit_stream_response::Result::Receipt(receipt)) => {
                    stored += 1;
                    repeated += usize::from(receipt.repeated_handover);
                }
                _ => failed += 1,
            }
            let mut line = serde_json::to_value(&answer)?;
            line["reference"] = name.into();
            println!("{line}");
            if shows_progress && (stored + failed) % 100 == 0 {
                eprint!("\r{} of {total}", stored + failed);
            }
        }
        let unanswered = (total + unreadable) - (stored + failed);
        eprintln!(
            "{}stored {stored} (of these {repeated} were there already), refused {failed}",
            if shows_progress { "\r" } else { "" }
        );
        anyhow::ensure!(
            unanswered == 0,
            "{unanswered} got no answer: run it again, nothing is doubled"
        );
        Ok(if failed == 0 { Done::All } else { Done::Part })
    }

    /// What can be read, and how many lines can not (each is reported).
    fn read(&self, format: Format) -> anyhow::Result<(Vec<v1::Handover>, usize)> {
        let input: Box<dyn BufRead> = if self.file.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = std::fs::File::open(&self.file)
                .with_context(|| format!("{} can't be read", self.file.display()))?;
            Box::new(BufReader::new(file))
        };
        let lines: Vec<(usize, anyhow::Result<v1::Handover>)> = match format {
            Format::Jsonl => input
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()))
                .map(|(place, line)| {
                    (
                        place + 1,
                        line.map_err(Into::into).and_then(|line| from_json(&line)),
                    )
                })
                .collect(),
            Format::Csv => csv::Reader::from_reader(input)
                .deserialize::<CsvRow>()
                .enumerate()
                .map(|(place, row)| (place + 2, row.map_err(Into::into).and_then(from_row)))
                .collect(),
        };
        let mut handovers = Vec::new();
        let mut unreadable = 0;
        for (line, outcome) in lines {
            match outcome {
                Ok(mut handover) => {
                    handover.system.clone_from(&self.system);
                    handovers.push(handover);
                }
                Err(error) => {
                    unreadable += 1;
                    println!(
                        "{}",
                        serde_json::json!({"line": line, "error": {"reason": "UNREADABLE", "message": format!("{error:#}")}})
                    );
                }
            }
        }
        Ok((handovers, unreadable))
    }
}

fn from_json(line: &str) -> anyhow::Result<v1::Handover> {
    #[derive(serde::Deserialize)]
    struct Whole {
        handover: v1::Handover,
    }
    if line.contains("\"handover\"")
        && let Ok(Whole { handover }) = serde_json::from_str(line)
    {
        return Ok(handover);
    }
    let record: Record = serde_json::from_str(line).context("not a complaint")?;
    filing(&record)
}

/// A row of CSV: flat, so the reporter's fields have a prefix.
#[derive(Debug, serde::Deserialize)]
struct CsvRow {
    reference: String,
    #[serde(default)]
    kind: String,
    title: String,
    body: String,
    #[serde(default)]
    category: String,
    #[serde(default, alias = "region_code")]
    region: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    occurred_on: String,
    #[serde(default)]
    filed_at: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    handling: String,
    #[serde(default)]
    addressed_to: String,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    confidential: bool,
    #[serde(default)]
    reporter_name: String,
    #[serde(default)]
    reporter_phone: String,
    #[serde(default)]
    reporter_email: String,
}

fn from_row(row: CsvRow) -> anyhow::Result<v1::Handover> {
    let value = serde_json::json!({
        "reference": row.reference, "kind": row.kind, "title": row.title, "body": row.body,
        "category": row.category, "region_code": row.region, "address": row.address,
        "occurred_on": row.occurred_on, "filed_at": row.filed_at, "channel": row.channel,
        "handling": row.handling, "addressed_to": row.addressed_to,
        "anonymous": row.anonymous, "confidential": row.confidential,
        "reporter": {"name": row.reporter_name, "phone": row.reporter_phone, "email": row.reporter_email},
    });
    filing(&serde_json::from_value(value)?)
}

fn filing(record: &Record) -> anyhow::Result<v1::Handover> {
    Ok(v1::Handover {
        item: Some(v1::handover::Item::Complaint(record.complaint()?)),
        ..v1::Handover::default()
    })
}

fn name_of(handover: &v1::Handover) -> String {
    match &handover.item {
        Some(v1::handover::Item::Complaint(new)) => new.reference.clone(),
        _ => handover.key.clone(),
    }
}
