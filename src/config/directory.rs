//! Who takes part, as a file that the hub applies when it starts.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Category, Directory, Institution, InstitutionCode, Party, PartyId, PartyMode, RoutingRule,
};

use super::{Settings, shared::wrong, suggest};

/// The documented example of a directory file.
pub const DIRECTORY_FILE: &str = include_str!("../../deploy/directory.toml");

/// Parties, institutions, categories and rules, as a file. It stands by
/// itself: whatever it names, it also lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectoryFile {
    /// Parties.
    #[serde(rename = "party")]
    pub parties: Vec<Party>,
    /// Institutions.
    #[serde(rename = "institution")]
    pub institutions: Vec<Institution>,
    /// Categories.
    #[serde(rename = "category")]
    pub categories: Vec<Category>,
    /// Routing rules.
    #[serde(rename = "rule")]
    pub rules: Vec<RoutingRule>,
}

impl DirectoryFile {
    /// The domain's directory, with the party that reads for national triage.
    /// A national party that the file does not list is added: it stands
    /// behind the hub's own door.
    #[must_use]
    pub fn into_directory(self, national: &PartyId) -> Directory {
        let mut directory = Directory {
            parties: by(self.parties, |party| party.id.clone()),
            institutions: by(self.institutions, |institution| institution.code.clone()),
            categories: by(self.categories, |category| category.code.clone()),
            rules: self.rules,
            national: Some(national.clone()),
        };
        directory
            .parties
            .entry(national.clone())
            .or_insert_with(|| Party {
                id: national.clone(),
                name: String::new(),
                mode: PartyMode::Local,
                enabled: true,
                certificate_fingerprints: Vec::new(),
                observes_all: false,
                observes_institutions: Vec::new(),
            });
        directory
    }

    fn check_party(&self, party: &Party) -> Result<(), (String, String)> {
        let key = |field: &str| format!("party \"{}\", {field}", party.id);
        // At most 8, as the contract says.
        if party.certificate_fingerprints.len() > 8 {
            return wrong(key("certificate_fingerprints"), "at most 8 are allowed");
        }
        for print in &party.certificate_fingerprints {
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            if print.len() != 64 || !print.chars().all(is_hex) {
                return wrong(
                    key("certificate_fingerprints"),
                    format!("\"{print}\" is not a SHA-256 in 64 lower-case hex digits"),
                );
            }
        }
        if party.observes_institutions.len() > 64 {
            return wrong(key("observes_institutions"), "at most 64 are allowed");
        }
        for code in &party.observes_institutions {
            self.find_institution(&key("observes_institutions"), code)?;
        }
        Ok(())
    }

    fn check_institution(&self, institution: &Institution) -> Result<(), (String, String)> {
        let key = |field: &str| format!("institution \"{}\", {field}", institution.code);
        if let Some(parent) = &institution.parent {
            self.find_institution(&key("parent"), parent)?;
            if parent == &institution.code {
                return wrong(key("parent"), "is the institution itself");
            }
        }
        let ids = self.parties.iter().map(|party| party.id.as_str());
        let party = institution.party.as_str();
        if ids.clone().all(|id| id != party) {
            return wrong(key("party"), unknown("party", party, ids));
        }
        Ok(())
    }

    fn find_institution(&self, key: &str, code: &InstitutionCode) -> Result<(), (String, String)> {
        let codes = self.institutions.iter().map(|found| found.code.as_str());
        if codes.clone().any(|found| found == code.as_str()) {
            return Ok(());
        }
        wrong(key, unknown("institution", code.as_str(), codes))
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match suggest::nearest(name, known) {
        Some(meant) => format!("there is no {what} {name} in this file; did you mean \"{meant}\"?"),
        None => format!("there is no {what} {name} in this file"),
    }
}

fn by<K: Ord, V>(values: Vec<V>, key: impl Fn(&V) -> K) -> std::collections::BTreeMap<K, V> {
    values
        .into_iter()
        .map(|value| (key(&value), value))
        .collect()
}

fn twice<'a>(what: &str, mut names: impl Iterator<Item = &'a str>) -> Result<(), (String, String)> {
    let mut seen = std::collections::BTreeSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => wrong(what, format!("{name} is listed twice")),
        None => Ok(()),
    }
}

impl Settings for DirectoryFile {
    fn resolve(&mut self, _directory: &Path) {}

    fn check(&self) -> Result<(), (String, String)> {
        twice("party", self.parties.iter().map(|found| found.id.as_str()))?;
        let codes = self.institutions.iter().map(|found| found.code.as_str());
        twice("institution", codes)?;
        let codes = self.categories.iter().map(|found| found.code.as_str());
        twice("category", codes.clone())?;
        for party in &self.parties {
            self.check_party(party)?;
        }
        for institution in &self.institutions {
            self.check_institution(institution)?;
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let key = |field: &str| format!("rule {}, {field}", index + 1);
            self.find_institution(&key("institution"), &rule.institution)?;
            let category = rule.category.as_ref().map(|code| code.as_str());
            if let Some(category) = category
                && codes.clone().all(|code| code != category)
            {
                return wrong(key("category"), unknown("category", category, codes));
            }
        }
        Ok(())
    }
}
