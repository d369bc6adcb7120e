//! How data are printed: tables for people, JSON for machines.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// Form of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people
    #[value(alias = "text")]
    Table,
    /// For machines: one JSON value a line, in the contract's JSON mapping
    Json,
}

/// What the caller wants to read.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Output {
    /// Form of the data on standard output [default: table; submit and inbox: json]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    output: Option<Form>,
}

impl Output {
    /// For commands that people read; `alias` is their own `--json`.
    pub(super) fn is_json(self, alias: bool) -> bool {
        alias || self.output == Some(Form::Json)
    }

    /// For commands that programs read.
    pub(super) fn is_json_by_default(self) -> bool {
        self.output != Some(Form::Table)
    }
}

/// Writes one line of data. A reader that has gone away is an error and no
/// panic: whoever acknowledges after writing must know.
pub(super) fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    write(&format!("{}\n", text.as_ref()))
}

/// Writes a text as it stands.
pub(super) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        outcome => outcome.context("standard output can't be written"),
    }
}

/// Whoever read standard output has read enough, as `head` does.
#[derive(Debug, thiserror::Error)]
#[error("standard output can't be written: its reader has gone away")]
pub(super) struct ReaderGone;

/// Writes one JSON value on a line of its own.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Rows whose columns are as wide as what stands in them.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned).to_vec()],
        }
    }

    pub(super) fn row<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.to_vec());
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        for row in self.lines() {
            line(row)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let gap = width.saturating_sub(cell.chars().count()) + 2;
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', gap));
            }
            text.trim_end().to_owned()
        });
        lines.collect()
    }
}

/// A word of the contract as people write it: `STATUS_IN_PROGRESS` is
/// `in_progress`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

/// A dash where there is nothing.
pub(super) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A time in UTC, to the second.
pub(super) fn time(at: Option<&crate::wire::Timestamp>) -> String {
    at.filter(|at| at.seconds > 0)
        .and_then(|at| jiff::Timestamp::from_second(at.seconds).ok())
        .map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// A moment in UTC, to the second.
pub(super) fn moment(at: crate::domain::Micros) -> String {
    jiff::Timestamp::from_second(at.0.div_euclid(1_000_000))
        .map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: rows of different widths, letters of more than one byte.
    /// Guarantee: columns stand under each other, no line ends in blanks.
    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(["party", "name"]);
        table.row(["pemda-33".to_owned(), "Jawa Tengah…".to_owned()]);
        table.row(["kl".to_owned(), String::new()]);
        assert_eq!(
            table.lines(),
            ["party     name", "pemda-33  Jawa Tengah…", "kl"]
        );
    }
}
