//! CSV: a header line with the names of the fields, then one complaint a row.

use std::io::BufRead;

use anyhow::Context as _;

use crate::{cli::records::Record, wire::v1};

use super::input::{Line, Lines, filing, with_system};

/// Columns that are known; the reporter's have a prefix, since rows are flat.
const COLUMNS: [&str; 22] = [
    "reference",
    "kind",
    "title",
    "body",
    "category",
    "region",
    "region_code",
    "address",
    "latitude",
    "longitude",
    "occurred_on",
    "filed_at",
    "channel",
    "handling",
    "addressed_to",
    "anonymous",
    "confidential",
    "reporter_name",
    "reporter_nik",
    "reporter_phone",
    "reporter_email",
    "reporter_address",
];

pub(super) fn read(mut input: impl BufRead, system: &str, lines: &Lines) -> anyhow::Result<()> {
    let delimiter = delimiter(input.fill_buf()?);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::Headers)
        .from_reader(input);
    let headers = reader.headers()?.clone();
    for needed in ["reference", "title", "body"] {
        anyhow::ensure!(
            headers.iter().any(|found| found == needed),
            "the header line has no column {needed}; columns are {}",
            COLUMNS.join(", ")
        );
    }
    let unknown: Vec<&str> = headers
        .iter()
        .filter(|found| !COLUMNS.contains(found))
        .collect();
    if !unknown.is_empty() {
        eprintln!("left out, since not known: {}", unknown.join(", "));
    }
    for row in reader.records() {
        let (line, handover) = match row {
            Ok(row) => (
                row.position().map_or(0, csv::Position::line),
                from_row(&headers, &row),
            ),
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(error) => (
                error.position().map_or(0, csv::Position::line),
                Err(error.into()),
            ),
        };
        let handover = handover.map(|found| with_system(found, system));
        if lines.blocking_send(Ok(Line { line, handover })).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Spreadsheets of half the world write semicolons.
fn delimiter(beginning: &[u8]) -> u8 {
    let header = beginning.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    if header.contains(&b';') && !header.contains(&b',') {
        b';'
    } else {
        b','
    }
}

fn from_row(headers: &csv::StringRecord, row: &csv::StringRecord) -> anyhow::Result<v1::Handover> {
    let cell = |name: &str| {
        let place = headers.iter().position(|found| found == name)?;
        row.get(place).filter(|text| !text.is_empty())
    };
    let text = |name: &str| cell(name).unwrap_or_default();
    let degrees = |name: &str| {
        let number = cell(name).map(|text| {
            text.trim().parse::<f64>().with_context(|| {
                format!("column {name}: {text:?} is no number of degrees such as -6.98")
            })
        });
        number.transpose()
    };
    let value = serde_json::json!({
        "reference": text("reference"), "kind": text("kind"),
        "title": text("title"), "body": text("body"), "category": text("category"),
        "region_code": cell("region").or_else(|| cell("region_code")),
        "address": text("address"),
        "latitude": degrees("latitude")?, "longitude": degrees("longitude")?,
        "occurred_on": text("occurred_on"), "filed_at": text("filed_at"),
        "channel": text("channel"), "handling": text("handling"),
        "addressed_to": text("addressed_to"),
        "anonymous": yes_or_no("anonymous", cell("anonymous"))?,
        "confidential": yes_or_no("confidential", cell("confidential"))?,
        "reporter": {
            "name": text("reporter_name"), "nik": text("reporter_nik"),
            "phone": text("reporter_phone"), "email": text("reporter_email"),
            "address": text("reporter_address"),
        },
    });
    let record: Record = serde_json::from_value(value)?;
    filing(&record)
}

/// An empty cell says nothing, so it is no.
fn yes_or_no(column: &str, cell: Option<&str>) -> anyhow::Result<bool> {
    match cell.unwrap_or_default().trim().to_lowercase().as_str() {
        "" | "false" | "0" | "no" | "tidak" => Ok(false),
        "true" | "1" | "yes" | "ya" => Ok(true),
        other => anyhow::bail!("column {column}: {other:?} is neither true nor false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(header: &str, cells: &str) -> anyhow::Result<v1::NewComplaint> {
        let fields = |text: &str| csv::StringRecord::from(text.split(',').collect::<Vec<_>>());
        match from_row(&fields(header), &fields(cells))?.item {
            Some(v1::handover::Item::Complaint(new)) => Ok(new),
            _ => anyhow::bail!("no complaint"),
        }
    }

    /// Scenario: rows with empty, true and wrong cells for a yes or no.
    /// Guarantee: empty is false, a wrong one is told by its column.
    #[test]
    fn an_empty_cell_is_false() {
        let header = "reference,title,body,anonymous,confidential,latitude";
        let new = row(header, "A-1,t,b,,ya,").unwrap();
        assert!(!new.anonymous && new.confidential);
        assert_eq!(new.latitude, None);
        let told = row(header, "A-1,t,b,perhaps,,").unwrap_err().to_string();
        assert!(told.contains("column anonymous"), "{told}");
        let told = row(header, "A-1,t,b,,,x").unwrap_err().to_string();
        assert!(told.contains("column latitude"), "{told}");
    }

    /// Scenario: the header line of two spreadsheets.
    /// Guarantee: commas and semicolons are told apart.
    #[test]
    fn the_header_says_the_delimiter() {
        assert_eq!(delimiter(b"reference;title;body\nA,B;c"), b';');
        assert_eq!(delimiter(b"reference,title\n1;2"), b',');
    }
}
