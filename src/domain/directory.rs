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
