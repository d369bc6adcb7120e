//! Settings of an adapter: the node of a region.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::domain::{Limits, PartyId, SystemName};

use super::{
    DoorConfig, HealthConfig, LogConfig, ProxyAddress, Settings, ShutdownConfig, StoreConfig,
    hub::check_trust_domain,
    shared::{check_limits, host_port, resolve, wrong},
};

/// The documented default file of an adapter.
pub const ADAPTER_FILE: &str = include_str!("../../deploy/adapter.toml");

/// Settings of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// Trust domain of the names in certificates.
    #[serde(default = "default_trust_domain")]
    pub trust_domain: String,
    /// Where the store is kept.
    #[serde(default = "default_directory")]
    pub directory: PathBuf,
    /// A PostgreSQL instead; `None`: the store is in `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreConfig>,
    /// Where the hub is.
    pub hub: HubAddress,
    /// The parties that this node serves, each with its own link and journals.
    #[serde(rename = "party")]
    pub parties: Vec<LinkParty>,
    /// What is trusted.
    #[serde(default)]
    pub tls: TrustConfig,
    /// Where local systems connect.
    #[serde(default)]
    pub door: DoorConfig,
    /// Health and metrics.
    #[serde(default)]
    pub health: HealthConfig,
    /// Numbers about links; the hub's own prevail once it has told them.
    #[serde(default)]
    pub limits: Limits,
    /// What the node lets go of.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// How the node stops.
    #[serde(default)]
    pub shutdown: ShutdownConfig,
    /// What the node writes about itself.
    #[serde(default)]
    pub log: LogConfig,
}

fn default_trust_domain() -> String {
    "jembatan.example".to_owned()
}

fn default_directory() -> PathBuf {
    PathBuf::from("/var/lib/jembatan/adapter")
}

/// Where the hub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubAddress {
    /// `host:port`.
    #[serde(deserialize_with = "address")]
    pub address: String,
    /// Further addresses of the same hub, `host:port` each. One of all is drawn
    /// as the node's own; when it does not answer the others are tried before
    /// the node waits.
    #[serde(
        default,
        deserialize_with = "addresses",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub fallback: Vec<String>,
    /// Name that the hub's certificate must carry; `None`: the address's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// HTTP CONNECT proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyAddress>,
    /// A link that had to move to another address tries its own again after so
    /// long, and up to twice as long, seconds; 0: never.
    #[serde(default = "return_after_seconds")]
    pub return_after_seconds: u32,
}

fn return_after_seconds() -> u32 {
    120
}

impl HubAddress {
    /// Every address of the hub, and the name that its certificate must carry
    /// there.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = std::iter::once(&self.address).chain(&self.fallback);
        all.map(|address| (address.as_str(), self.name_at(address)))
    }

    /// Name that the hub's certificate must carry at its first address.
    pub fn server_name(&self) -> &str {
        self.name_at(&self.address)
    }

    fn name_at<'a>(&'a self, address: &'a str) -> &'a str {
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        self.name
            .as_deref()
            .unwrap_or_else(|| host.trim_matches(['[', ']']))
    }
}

/// A party that this node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkParty {
    /// Identifier, as in its certificate.
    pub id: PartyId,
    /// Its certificate, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// IANA zone in which its days are counted.
    #[serde(default = "default_time_zone", deserialize_with = "time_zone")]
    pub time_zone: String,
    /// Mapping table of local statuses, CSV; see [`super::load_status_maps`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_map: Option<PathBuf>,
    /// Its local systems. Empty: any name is taken.
    #[serde(default, rename = "system")]
    pub systems: Vec<LocalSystem>,
}

impl LinkParty {
    /// Whether a local system of this name may come in.
    pub fn knows(&self, system: &SystemName) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|known| &known.name == system)
    }
}

pub(super) fn default_time_zone() -> String {
    "Asia/Jakarta".to_owned()
}

/// A local system of a party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSystem {
    /// Its name; keys and references are unique in it.
    pub name: SystemName,
}

/// What the node lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Days for which what the local systems handed over, and the hub has
    /// acknowledged and decided, is kept in whole. A hub that goes back further
    /// is not sent it again.
    pub keep_acknowledged_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        // A month of copies of the hub, and some days to notice.
        Self {
            keep_acknowledged_days: 35,
        }
    }
}

/// A hundred years: for ever.
const LONGEST_KEPT_DAYS: u32 = 36_500;

/// What is trusted. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustConfig {
    /// Roots that are trusted.
    pub roots: PathBuf,
    /// Certificate revocation lists.
    pub crls: Vec<PathBuf>,
}

impl Default for TrustConfig {
    fn default() -> Self {
        Self {
            roots: PathBuf::from("/etc/jembatan/roots.pem"),
            crls: Vec::new(),
        }
    }
}

impl Settings for AdapterConfig {
    fn resolve(&mut self, directory: &Path) {
        resolve(directory, &mut self.directory);
        if let Some(store) = &mut self.store {
            store.resolve(directory);
        }
        resolve(directory, &mut self.tls.roots);
        self.door.resolve(directory);
        self.health.resolve(directory);
        self.tls
            .crls
            .iter_mut()
            .for_each(|path| resolve(directory, path));
        for party in &mut self.parties {
            [&mut party.certificate, &mut party.key]
                .into_iter()
                .chain(&mut party.status_map)
                .for_each(|path| resolve(directory, path));
        }
    }

    fn check(&self) -> Result<(), (String, String)> {
        check_trust_domain(&self.trust_domain)?;
        if let Some(store) = &self.store {
            store.check()?;
        }
        if self.parties.is_empty() {
            return wrong("party", "is missing: an adapter serves at least one party");
        }
        let mut ids = BTreeSet::new();
        for party in &self.parties {
            let key = |field: &str| format!("party \"{}\", {field}", party.id);
            if !ids.insert(&party.id) {
                return wrong(key("id"), "is used twice");
            }
            let mut systems = BTreeSet::new();
            for system in &party.systems {
                if !systems.insert(&system.name) {
                    return wrong(key("system"), format!("{} is named twice", system.name));
                }
            }
        }
        let parties: Vec<&PartyId> = ids.into_iter().collect();
        self.door.check(&parties)?;
        self.health.check()?;
        if !(1..=LONGEST_KEPT_DAYS).contains(&self.retention.keep_acknowledged_days) {
            return wrong(
                "retention.keep_acknowledged_days",
                format!("must be 1 to {LONGEST_KEPT_DAYS} days"),
            );
        }
        for token in &self.door.tokens {
            let speaks_for = match &token.party {
                Some(id) => self.parties.iter().find(|party| &party.id == id),
                None => self.parties.first(),
            };
            if speaks_for.is_some_and(|party| !party.knows(&token.system)) {
                return wrong(
                    format!("door.token \"{}\", system", token.name),
                    format!("{} is not a system of its party", token.system),
                );
            }
        }
        check_limits(&self.limits)
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    host_port(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    for text in &texts {
        host_port(text).map_err(D::Error::custom)?;
    }
    Ok(texts)
}

/// Only the shape: which zones exist is data that a machine may lack.
pub(super) fn time_zone<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    let is_zone = text == "UTC" || (text.contains('/') && text.chars().all(is_allowed));
    match is_zone && text.len() <= 64 {
        true => Ok(text),
        false => Err(D::Error::custom(format!(
            "\"{text}\" is not an IANA zone such as Asia/Jakarta (WIB), Asia/Makassar (WITA) or Asia/Jayapura (WIT)"
        ))),
    }
}
