//! `jembatan submit`: complaints from a file or standard input, as a stream:
//! what is in memory is bounded, however long the input is.

mod csv_rows;
mod input;
mod progress;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::wire::v1::{self, submit_stream_response::Result as ItemResult};

use super::{
    Done,
    client::{DoorArgs, refused},
    output::{Output, line, word},
};
use input::{Line, Source};
use progress::Progress;

/// Hand-overs between the reader of the input and the door.
const ON_THE_WAY: usize = 256;
/// Lines that have been read and have no result yet.
const AHEAD: usize = 4_096;

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
  jembatan submit --output table report.csv
Each line of output is one result in JSON, in the order of the input, with the
line that it is about; a line that can't be read has its place among them. The
sum goes to standard error.
JSON Lines: reference, title, body, and any of kind, category, region_code,
address, latitude, longitude, occurred_on, filed_at, channel, handling (own,
addressed, route), addressed_to, anonymous, confidential, and reporter with
name, nik, phone, email, address. A line with \"handover\" is taken as jembatan.v1.Handover (an
event, for example), and keeps the \"system\" that it names:
  {\"handover\":{\"key\":\"k-7\",\"event\":{\"complaint\":{\"reference\":\"A-1\"},\"text\":\"Selesai.\",\"responded\":{}}}}
CSV: columns reference, title, body, and any of kind, category, region, address,
latitude, longitude, occurred_on, filed_at, channel, handling, addressed_to,
anonymous, confidential, reporter_name, reporter_nik, reporter_phone,
reporter_email, reporter_address; an empty cell is nothing, or false. Columns
are separated by commas or semicolons.
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
    /// The local system, where neither the token nor the line names one
    #[arg(long, default_value = "")]
    system: String,
}

/// A line of input that waits for its result.
struct Waiting {
    line: u64,
    reference: String,
    /// Why it can't be read; such a line is not handed over.
    unreadable: Option<String>,
}

impl Submit {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let is_csv = self.file.extension().is_some_and(|found| found == "csv");
        let format = self
            .format
            .unwrap_or(if is_csv { Format::Csv } else { Format::Jsonl });
        let source = Source::open(&self.file, format)?;
        let mut gateway = self.door.gateway().await?;
        let lines = source.read_in_background(self.system, AHEAD);
        let (requests, stream) = mpsc::channel(ON_THE_WAY);
        let (waiting, order) = mpsc::channel(AHEAD);
        let feeder = tokio::spawn(feed(lines, waiting, requests));
        let answers = gateway
            .submit_stream(ReceiverStream::new(stream))
            .await
            .map_err(refused)?
            .into_inner();
        let progress = Arc::new(Progress::default());
        let ticker = progress.clone().show();
        let outcome = collect(order, answers, &progress, output).await;
        ticker.stop();
        eprintln!("{progress}");
        outcome?;
        // What ended the reading is told after the results of what was read.
        feeder.await??;
        Ok(if progress.failed() == 0 {
            Done::All
        } else {
            Done::Part
        })
    }
}

/// Passes lines on: its place in the output first, then the hand-over.
async fn feed(
    mut lines: mpsc::Receiver<anyhow::Result<Line>>,
    waiting: mpsc::Sender<Waiting>,
    requests: mpsc::Sender<v1::SubmitStreamRequest>,
) -> anyhow::Result<()> {
    while let Some(read) = lines.recv().await {
        let Line { line, handover } = read?;
        let (place, handover) = match handover {
            Ok(handover) => (
                Waiting {
                    line,
                    reference: name_of(&handover),
                    unreadable: None,
                },
                Some(handover),
            ),
            Err(error) => (
                Waiting {
                    line,
                    reference: String::new(),
                    unreadable: Some(format!("{error:#}")),
                },
                None,
            ),
        };
        if waiting.send(place).await.is_err() {
            return Ok(());
        }
        let Some(handover) = handover else { continue };
        let request = v1::SubmitStreamRequest {
            handover: Some(handover),
        };
        if requests.send(request).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes one result for each line, in the order of the input.
async fn collect(
    mut order: mpsc::Receiver<Waiting>,
    mut answers: tonic::Streaming<v1::SubmitStreamResponse>,
    progress: &Progress,
    output: Output,
) -> anyhow::Result<()> {
    while let Some(place) = order.recv().await {
        let result = match &place.unreadable {
            Some(why) => ItemResult::Error(v1::ItemError {
                code: tonic::Code::InvalidArgument as i32,
                reason: "UNREADABLE".to_owned(),
                message: why.clone(),
                fields: Vec::new(),
            }),
            None => {
                let answer = match answers.next().await {
                    Some(Ok(answer)) => answer.result,
                    Some(Err(status)) => {
                        anyhow::bail!(
                            "line {}: {}; run it again, nothing is doubled",
                            place.line,
                            refused(status)
                        )
                    }
                    None => None,
                };
                answer.ok_or_else(|| {
                    anyhow::anyhow!(
                        "line {} got no answer: the node went away; run it again, nothing is doubled",
                        place.line
                    )
                })?
            }
        };
        match &result {
            ItemResult::Receipt(receipt) => progress.stored(receipt.repeated_handover),
            ItemResult::Error(_) => progress.refused(place.unreadable.is_some()),
        }
        if output.is_json_by_default() {
            line(as_json(&place, &result)?)?;
        } else {
            line(in_words(&place, &result))?;
        }
    }
    Ok(())
}

fn as_json(place: &Waiting, result: &ItemResult) -> anyhow::Result<String> {
    let mut object = serde_json::Map::new();
    object.insert("line".to_owned(), place.line.into());
    object.insert("reference".to_owned(), place.reference.clone().into());
    let (name, value) = match result {
        ItemResult::Receipt(receipt) => ("receipt", serde_json::to_value(receipt)?),
        ItemResult::Error(error) => ("error", serde_json::to_value(error)?),
    };
    object.insert(name.to_owned(), value);
    Ok(serde_json::Value::Object(object).to_string())
}

fn in_words(place: &Waiting, result: &ItemResult) -> String {
    let said = match result {
        ItemResult::Receipt(receipt) => {
            let progress = v1::Progress::try_from(receipt.progress).unwrap_or_default();
            let again = if receipt.repeated_handover {
                " (was there already)"
            } else {
                ""
            };
            format!("{}{again}", word(progress.as_str_name(), "PROGRESS_"))
        }
        ItemResult::Error(error) => format!("refused, {}: {}", error.reason, error.message),
    };
    format!("line {}  {}  {said}", place.line, place.reference)
}

fn name_of(handover: &v1::Handover) -> String {
    match &handover.item {
        Some(v1::handover::Item::Complaint(new)) => new.reference.clone(),
        _ => handover.key.clone(),
    }
}
