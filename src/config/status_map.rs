//! Mapping tables of local statuses, as CSV: `system,raw_code,raw_name,canonical,note`.

use std::path::Path;

use serde::Deserialize;

use crate::domain::{StatusMaps, SystemName};

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

/// Reads a mapping table: the rows of each local system by themselves, so that
/// one file serves all systems of a party.
///
/// # Errors
/// The file can't be read, has no such columns, or a row names a system or a
/// status that can't be.
pub fn load_status_maps(path: &Path) -> Result<StatusMaps, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        file: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// [`load_status_maps`], for a text that came from `path`.
///
/// # Errors
/// A column or a row is wrong.
pub fn parse(path: &Path, text: &str) -> Result<StatusMaps, ConfigError> {
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
    let mut map = StatusMaps::default();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            wrong(line, "row", error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let row: Row = record
            .deserialize(Some(&headers))
            .map_err(|error| wrong(line, "row", error.to_string()))?;
        let system =
            SystemName::parse(&row.system).map_err(|error| wrong(line, "system", error.problem))?;
        map.table(system)
            .add(&row.raw_code, &row.raw_name, &row.canonical)
            .map_err(|error| wrong(line, &error.field, error.problem))?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Mapped, Status};

    /// Scenario: the shipped table, two systems that mean different things by
    /// the same code, and a row with a status that does not exist.
    /// Guarantee: each system's codes are read by its own rows and by no
    /// other's; a wrong row is named by its line.
    #[test]
    fn each_system_has_its_own_rows_and_a_wrong_one_is_named() {
        let shipped = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/legacy-status-map.csv"
        ));
        let system = |name| SystemName::parse(name).unwrap();
        let maps = load_status_maps(shipped).unwrap();
        assert_eq!(
            maps.map(&system("sapawarga"), "followup", ""),
            Mapped::Status(Status::InProgress)
        );

        let text = "system,raw_code,raw_name,canonical,note\n\
                    one,3,,closed,\n\
                    two,3,,in_progress,\n";
        let maps = parse(Path::new("map.csv"), text).unwrap();
        let mapped = |name| maps.map(&system(name), "3", "");
        assert_eq!(mapped("one"), Mapped::Status(Status::Closed));
        assert_eq!(mapped("two"), Mapped::Status(Status::InProgress));
        assert_eq!(mapped("three"), Mapped::Unmapped);

        let text = "system,raw_code,raw_name,canonical,note\n\
                    sapawarga,a,,closed,\n\
                    other,b,,,\n\
                    sapawarga,c,,finished,\n";
        let error = parse(Path::new("map.csv"), text).unwrap_err();
        assert!(error.to_string().starts_with("map.csv:4:"), "{error}");
        assert!(error.to_string().contains("finished"), "{error}");
    }
}
