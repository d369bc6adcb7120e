//! A local system's mapping table: its own status codes against the canonical
//! list. A code without a row is a visible work item, never a guess.

use std::collections::{BTreeMap, HashMap};

use super::{FieldError, Status, SystemName};

/// What a local status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// This canonical status.
    Status(Status),
    /// Bukan wewenang.
    Declined,
    /// Nothing here.
    Ignored,
    /// No row, or a row that is still open.
    Unmapped,
}

/// The mapping table of one local system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusMap {
    by_word: HashMap<String, Mapped>,
}

impl StatusMap {
    /// Adds a row. `code` may be empty where only the label is known.
    ///
    /// # Errors
    /// `canonical` is neither a status, `declined`, `ignore`, nor empty.
    pub fn add(&mut self, code: &str, name: &str, canonical: &str) -> Result<(), FieldError> {
        let mapped = match canonical.trim() {
            "" => Mapped::Unmapped,
            "declined" => Mapped::Declined,
            "ignore" => Mapped::Ignored,
            word => Mapped::Status(Status::from_code(word).ok_or_else(|| {
                let known: Vec<&str> = Status::ALL.into_iter().map(Status::code).collect();
                FieldError::new(
                    "canonical",
                    format!(
                        "{word:?} is not one of {}, declined, ignore, or empty",
                        known.join(", ")
                    ),
                )
            })?),
        };
        for word in [code, name] {
            let word = fold(word);
            if !word.is_empty() {
                self.by_word.entry(word).or_insert(mapped);
            }
        }
        Ok(())
    }

    /// What a local status means: by its code, else by its name.
    pub fn map(&self, code: &str, name: &str) -> Mapped {
        [code, name]
            .into_iter()
            .find_map(|word| self.by_word.get(&fold(word)))
            .copied()
            .unwrap_or(Mapped::Unmapped)
    }
}

/// The mapping tables of a party: one for each of its local systems, since the
/// same code means different things in two of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusMaps {
    by_system: BTreeMap<SystemName, StatusMap>,
}

impl StatusMaps {
    /// The table of a system, made if it is missing.
    pub fn table(&mut self, system: SystemName) -> &mut StatusMap {
        self.by_system.entry(system).or_default()
    }

    /// What a local status of this system means.
    pub fn map(&self, system: &SystemName, code: &str, name: &str) -> Mapped {
        self.by_system
            .get(system)
            .map_or(Mapped::Unmapped, |table| table.map(code, name))
    }
}

fn fold(word: &str) -> String {
    word.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the status vocabularies of real systems.
    /// Guarantee: what is mapped is found by code or label in any case; what is
    /// open or unknown stays unmapped.
    #[test]
    fn reads_real_vocabularies() {
        let mut map = StatusMap::default();
        let mut open = 0;
        for row in include_str!("../../examples/legacy-status-map.csv")
            .lines()
            .skip(1)
        {
            let cells: Vec<&str> = row.splitn(5, ',').collect();
            if cells[0] == "sapawarga" {
                map.add(cells[1], cells[2], cells[3]).unwrap();
                open += usize::from(cells[3].is_empty());
            }
        }
        assert_eq!(open, 2);
        assert_eq!(map.map("followup", ""), Mapped::Status(Status::InProgress));
        assert_eq!(map.map("", "SELESAI"), Mapped::Status(Status::Closed));
        assert_eq!(map.map("rejected", ""), Mapped::Unmapped);
        assert_eq!(map.map("never-seen", ""), Mapped::Unmapped);
        assert!(map.add("x", "", "done").is_err());
    }
}
