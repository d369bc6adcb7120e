//! Mapping tables of local statuses, as CSV: `system,raw_code,raw_name,canonical,note`.

use std::path::Path;

use serde::Deserialize;

use crate::domain::{StatusMap, SystemName};

use super::ConfigError;

#[derive(Deserialize)]
struct Row {
    system: String,
    #[serde(default)]
    raw_code: String,
    #[serde(default)]
    raw_name: String,
    #[serde(default)]
    canonical: String,
}

/// Reads the rows of one local system from a mapping table. Rows of other
/// systems are passed over, so that one file may serve many.
///
/// # Errors
/// The file can't be read, has no such columns, or a row names a status that
/// does not exist.
pub fn load_status_map(path: &Path, system: &SystemName) -> Result<StatusMap, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        file: path.to_owned(),
        source,
    })?;
    parse(path, &text, system)
}

fn parse(path: &Path, text: &str, system: &SystemName) -> Result<StatusMap, ConfigError> {
    let wrong = |line: u64, key: &str, problem: String| ConfigError::Parse {
        file: path.to_owned(),
        line: usize::try_from(line).unwrap_or(usize::MAX),
        column: 1,
        key: key.to_owned(),
        problem,
        suggestion: None,
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader
        .headers()
        .map_err(|error| wrong(1, "header", error.to_string()))?
        .clone();
    for column in ["system", "canonical"] {
        if headers.iter().all(|found| found != column) {
            return Err(wrong(1, "header", format!("there is no column {column}")));
        }
    }
    let mut map = StatusMap::default();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            wrong(line, "row", error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let row: Row = record
            .deserialize(Some(&headers))
            .map_err(|error| wrong(line, "row", error.to_string()))?;
        if row.system != system.as_str() {
            continue;
        }
        map.add(&row.raw_code, &row.raw_name, &row.canonical)
            .map_err(|error| wrong(line, &error.field, error.problem))?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Mapped, Status};

    /// Scenario: the shipped table, and one with a status that does not exist.
    /// Guarantee: one system's rows are read; a wrong row is named by its line.
    #[test]
    fn reads_one_system_and_names_a_wrong_row() {
        let shipped = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/legacy-status-map.csv"
        ));
        let system = SystemName::parse("sapawarga").unwrap();
        let map = load_status_map(shipped, &system).unwrap();
        assert_eq!(map.map("followup", ""), Mapped::Status(Status::InProgress));

        let text = "system,raw_code,raw_name,canonical,note\n\
                    sapawarga,a,,closed,\n\
                    other,b,,nonsense,\n\
                    sapawarga,c,,finished,\n";
        let error = parse(Path::new("map.csv"), text, &system).unwrap_err();
        assert!(error.to_string().starts_with("map.csv:4:"), "{error}");
        assert!(error.to_string().contains("finished"), "{error}");
    }
}
