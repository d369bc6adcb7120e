//! Who takes part: institutions, the one party through which each is reached,
//! and the rules that route a complaint that addresses nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CategoryCode, InstitutionCode, PartyId, RegionCode};

/// How a party speaks with the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyMode {
    /// Keeps journals and a stream.
    #[default]
    Stream,
    /// Calls the gateway service on the hub's mutual-TLS port.
    Unary,
    /// Stands behind the hub's own door: the national application.
    Local,
}

/// A party: has a certificate, a link and journals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Identifier.
    pub id: PartyId,
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// How it speaks with the hub.
    #[serde(default)]
    pub mode: PartyMode,
    /// Disabled parties can't connect.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// SHA-256 fingerprints (lower-case hex) of certificates that mean it.
    #[serde(default)]
    pub certificate_fingerprints: Vec<String>,
    /// Sees every complaint, read only.
    #[serde(default)]
    pub observes_all: bool,
    /// Sees every complaint that these institutions handle, read only.
    #[serde(default)]
    pub observes_institutions: Vec<InstitutionCode>,
}

impl Party {
    /// Whether it may read from now on, and might not when it was registered like
    /// this, or not at all, before.
    pub fn reads_from_now(&self, before: Option<&Self>) -> bool {
        self.enabled && !before.is_some_and(|before| before.enabled)
    }
}

fn yes() -> bool {
    true
}

/// An institution: can own a complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Institution {
    /// Code.
    pub code: InstitutionCode,
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// The institution above it.
    #[serde(default)]
    pub parent: Option<InstitutionCode>,
    /// The one party through which it is reached.
    pub party: PartyId,
    /// Region, for local governments.
    #[serde(default)]
    pub region: Option<RegionCode>,
    /// A disabled one gets no complaint any more; those that it has stay.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A category of complaints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Code.
    pub code: CategoryCode,
    /// Name for people.
    #[serde(default)]
    pub name: String,
}

/// Sends complaints that address nobody to an institution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingRule {
    /// Region, by whole levels; `None`: any.
    #[serde(default)]
    pub region: Option<RegionCode>,
    /// Category; `None`: any.
    #[serde(default)]
    pub category: Option<CategoryCode>,
    /// Who gets it.
    pub institution: InstitutionCode,
}

/// Everything that the hub knows about who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Parties by id.
    pub parties: BTreeMap<PartyId, Party>,
    /// Institutions by code.
    pub institutions: BTreeMap<InstitutionCode, Institution>,
    /// Categories by code.
    pub categories: BTreeMap<CategoryCode, Category>,
    /// Routing rules.
    pub rules: Vec<RoutingRule>,
    /// The party that reads for national triage.
    pub national: Option<PartyId>,
}

impl Directory {
    /// The party that reads for an institution, if there is one and it may.
    pub fn reader_of(&self, institution: &InstitutionCode) -> Option<&PartyId> {
        let party = &self.institutions.get(institution)?.party;
        self.parties
            .get(party)
            .filter(|party| party.enabled)
            .map(|party| &party.id)
    }

    /// Whether a complaint can go to an institution: it is enabled, and
    /// somebody reads for it.
    pub fn takes_in(&self, institution: &InstitutionCode) -> bool {
        let is_enabled = self
            .institutions
            .get(institution)
            .is_some_and(|found| found.enabled);
        is_enabled && self.reader_of(institution).is_some()
    }

    /// The party that reads for national triage, if there is one and it may.
    pub fn triage_reader(&self) -> Option<&PartyId> {
        let national = self.national.as_ref()?;
        self.parties
            .get(national)
            .filter(|party| party.enabled)
            .map(|party| &party.id)
    }

    /// The institution that a party means when it says "we": the one that it
    /// acts for, else the one with its own name, else its only one.
    pub fn own_institution(
        &self,
        party: &PartyId,
        acting: Option<&InstitutionCode>,
    ) -> Option<&InstitutionCode> {
        let mut own = self
            .institutions
            .values()
            .filter(|institution| &institution.party == party);
        match acting {
            Some(acting) => own.find(|found| &found.code == acting).map(|i| &i.code),
            None => {
                let own: Vec<_> = own.collect();
                own.iter()
                    .find(|found| found.code.as_str() == party.as_str())
                    .or_else(|| own.first().filter(|_| own.len() == 1))
                    .map(|found| &found.code)
            }
        }
    }

    /// The institution that the rules name: the longest region wins, then a
    /// rule that names the category, then the earlier one.
    pub fn route(
        &self,
        region: Option<&RegionCode>,
        category: Option<&CategoryCode>,
    ) -> Option<&InstitutionCode> {
        let fits = |rule: &&RoutingRule| {
            let region_fits = match (&rule.region, region) {
                (None, _) => true,
                (Some(wanted), Some(given)) => wanted.contains(given),
                (Some(_), None) => false,
            };
            let category_fits = rule.category.is_none() || rule.category.as_ref() == category;
            region_fits && category_fits && self.takes_in(&rule.institution)
        };
        let rank = |rule: &RoutingRule| {
            let region = rule.region.as_ref().map_or(0, |code| code.as_str().len());
            (region, rule.category.is_some())
        };
        let mut best: Option<&RoutingRule> = None;
        for rule in self.rules.iter().filter(fits) {
            if best.is_none_or(|best| rank(rule) > rank(best)) {
                best = Some(rule);
            }
        }
        best.map(|rule| &rule.institution)
    }

    /// Whether an institution is `above` or stands under it.
    pub fn is_within(&self, institution: &InstitutionCode, above: &InstitutionCode) -> bool {
        let mut current = Some(institution);
        // Bounded: a circle in the directory must not hang the hub.
        for _ in 0..16 {
            match current {
                Some(code) if code == above => return true,
                Some(code) => {
                    current = self
                        .institutions
                        .get(code)
                        .and_then(|found| found.parent.as_ref());
                }
                None => return false,
            }
        }
        false
    }
}
