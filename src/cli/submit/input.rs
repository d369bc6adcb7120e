//! Reads hand-overs line by line, on a thread of its own: reading blocks.

use std::{
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::{cli::records::Record, wire::v1};

use super::{Format, csv_rows};

/// A longer line can't be a hand-over that any door takes.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;
/// What spreadsheets put before the first byte.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// A line of the input, by its number from 1.
pub(super) struct Line {
    pub(super) line: u64,
    pub(super) handover: anyhow::Result<v1::Handover>,
}

pub(super) type Lines = mpsc::Sender<anyhow::Result<Line>>;

/// The open input.
pub(super) struct Source {
    input: Box<dyn BufRead + Send>,
    name: String,
    format: Format,
}

impl Source {
    pub(super) fn open(file: &Path, format: Format) -> anyhow::Result<Self> {
        let (input, name): (Box<dyn BufRead + Send>, _) = if file.as_os_str() == "-" {
            (
                Box::new(BufReader::new(std::io::stdin())),
                "standard input".to_owned(),
            )
        } else {
            let name = file.display().to_string();
            let opened =
                std::fs::File::open(file).with_context(|| format!("{name} can't be read"))?;
            (Box::new(BufReader::new(opened)), name)
        };
        Ok(Self {
            input,
            name,
            format,
        })
    }

    /// Lines, at most so many ahead. The thread ends with the input, or when
    /// nobody wants more; a terminal that says nothing holds nobody up.
    pub(super) fn read_in_background(
        self,
        system: String,
        ahead: usize,
    ) -> mpsc::Receiver<anyhow::Result<Line>> {
        let (lines, receiver) = mpsc::channel(ahead);
        std::thread::spawn(move || {
            let Self {
                mut input,
                name,
                format,
            } = self;
            let outcome = skip_mark(&mut input).and_then(|()| match format {
                Format::Jsonl => read_json(input, &system, &lines),
                Format::Csv => csv_rows::read(input, &system, &lines),
            });
            if let Err(error) = outcome {
                let _ = lines.blocking_send(Err(error.context(format!("{name} can't be read"))));
            }
        });
        receiver
    }
}

fn skip_mark(input: &mut impl BufRead) -> anyhow::Result<()> {
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

fn read_json(mut input: impl BufRead, system: &str, lines: &Lines) -> anyhow::Result<()> {
    let mut number = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let length = (&mut input)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        let handover = if length as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            Err(anyhow::anyhow!(
                "is longer than {LONGEST_LINE} bytes: no door takes it"
            ))
        } else {
            match std::str::from_utf8(&bytes) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => from_json(text),
                Err(_) => Err(anyhow::anyhow!("is not UTF-8")),
            }
        };
        let handover = handover.map(|found| with_system(found, system));
        let read = Line {
            line: number,
            handover,
        };
        if lines.blocking_send(Ok(read)).is_err() {
            return Ok(());
        }
    }
}

/// A line keeps the system that it names itself.
pub(super) fn with_system(mut handover: v1::Handover, system: &str) -> v1::Handover {
    if handover.system.is_empty() {
        system.clone_into(&mut handover.system);
    }
    handover
}

fn from_json(line: &str) -> anyhow::Result<v1::Handover> {
    #[derive(serde::Deserialize)]
    struct Whole {
        handover: v1::Handover,
    }
    // The word may stand in a complaint's text: only a field of that name counts.
    let is_handover = line.contains("\"handover\"")
        && serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|value| value.get("handover").is_some());
    if is_handover {
        let Whole { handover } = serde_json::from_str(line)
            .context("\"handover\" is not a hand-over (jembatan.v1.Handover)")?;
        anyhow::ensure!(
            handover.item.is_some(),
            "\"handover\" holds neither a \"complaint\" nor an \"event\""
        );
        return Ok(handover);
    }
    let record: Record = serde_json::from_str(line).context("is not a complaint")?;
    filing(&record)
}

pub(super) fn filing(record: &Record) -> anyhow::Result<v1::Handover> {
    Ok(v1::Handover {
        item: Some(v1::handover::Item::Complaint(record.complaint()?)),
        ..v1::Handover::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: hand-over lines that name a system, name none, or are broken,
    /// and a complaint whose text has the word in it.
    /// Guarantee: the system is kept, a broken one is told as a broken
    /// hand-over and never taken for a complaint.
    #[test]
    fn handover_lines() {
        let line = |text: &str| from_json(text).map(|found| with_system(found, "given"));
        let event = r#"{"handover":{"key":"k","system":"own","event":{"complaint":{"reference":"A"},"closed":{}}}}"#;
        assert_eq!(line(event).unwrap().system, "own");
        let event = event.replace(r#""system":"own","#, "");
        assert_eq!(line(&event).unwrap().system, "given");
        let broken = event.replace("closed", "closd");
        let told = format!("{:#}", line(&broken).unwrap_err());
        assert!(told.contains("is not a hand-over"), "{told}");
        assert!(told.contains("closd"), "{told}");
        let empty = format!("{:#}", line(r#"{"handover":{"key":"k"}}"#).unwrap_err());
        assert!(empty.contains("neither"), "{empty}");
        let text = r#"{"reference":"A","title":"t","body":"he said \"handover\""}"#;
        assert!(line(text).is_ok());
    }
}
