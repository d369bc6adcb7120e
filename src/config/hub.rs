//! Settings of the hub.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::domain::{InstitutionCode, Limits, Micros, MinimumVersion, PartyId, Policy, SystemName};

use super::{
    DoorConfig, EnrolmentConfig, HealthConfig, LogConfig, Settings, ShutdownConfig, StoreConfig,
    adapter::{default_time_zone, time_zone},
    shared::{check_limits, check_policy, resolve, wrong},
};

/// The documented default file of the hub.
pub const HUB_FILE: &str = include_str!("../../deploy/hub.toml");

/// Settings of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// Trust domain of the names in certificates.
    pub trust_domain: String,
    /// Where the store is kept.
    pub directory: PathBuf,
    /// A PostgreSQL instead; `None`: the store is in `directory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreConfig>,
    /// Where parties connect.
    pub listen: ListenConfig,
    /// Where the national application connects.
    pub door: DoorConfig,
    /// Health and metrics.
    pub health: HealthConfig,
    /// The hub's certificate and what it trusts.
    pub tls: TlsConfig,
    /// Whether parties may join by themselves.
    pub enrolment: EnrolmentConfig,
    /// The party behind the hub's own door.
    pub national: NationalConfig,
    /// What is to be known of parties without a link.
    #[serde(rename = "party")]
    pub parties: Vec<LocalParty>,
    /// Who takes part, as a file.
    pub directory_file: DirectorySource,
    /// Numbers about complaints.
    pub policy: Policy,
    /// Numbers about links.
    pub limits: Limits,
    /// What every link is told ahead.
    pub announce: AnnounceConfig,
    /// Life of a session.
    pub session: SessionConfig,
    /// How the hub stops.
    pub shutdown: ShutdownConfig,
    /// What the hub writes about itself.
    pub log: LogConfig,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            trust_domain: "jembatan.example".to_owned(),
            directory: PathBuf::from("/var/lib/jembatan/hub"),
            store: None,
            listen: ListenConfig::default(),
            door: DoorConfig::default(),
            health: HealthConfig::default(),
            tls: TlsConfig::default(),
            enrolment: EnrolmentConfig::default(),
            national: NationalConfig::default(),
            parties: Vec::new(),
            directory_file: DirectorySource::default(),
            policy: Policy::default(),
            limits: Limits::default(),
            announce: AnnounceConfig::default(),
            session: SessionConfig::default(),
            shutdown: ShutdownConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Where parties connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Mutual TLS: links of adapters, and the gateway service of unary parties.
    pub links: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            links: SocketAddr::from(([0, 0, 0, 0], 8443)),
        }
    }
}

/// A certificate, its key, and what is trusted. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Own certificate, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots that are trusted.
    pub roots: PathBuf,
    /// Certificate revocation lists.
    pub crls: Vec<PathBuf>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: PathBuf::from("/etc/jembatan/hub.crt"),
            key: PathBuf::from("/etc/jembatan/hub.key"),
            roots: PathBuf::from("/etc/jembatan/roots.pem"),
            crls: Vec::new(),
        }
    }
}

/// The national application: a party behind the hub's own door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NationalConfig {
    /// Its party; it also reads for national triage.
    pub party: PartyId,
    /// Its local system, where the door's caller names none.
    pub system: SystemName,
    /// The institution that it acts for, if it owns complaints itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub institution: Option<InstitutionCode>,
}

impl Default for NationalConfig {
    fn default() -> Self {
        // Both are literals that keep the limits of their types; a test reads
        // them, so a change that breaks them shows.
        Self {
            party: PartyId::parse("nasional").expect("a valid literal"),
            system: SystemName::parse("lapor").expect("a valid literal"),
            institution: None,
        }
    }
}

/// A party without a link, behind the hub's own door or unary: what its
/// adapter would know, if it had one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalParty {
    /// Identifier, as the directory has it.
    pub id: PartyId,
    /// IANA zone in which its days are counted.
    #[serde(default = "default_time_zone", deserialize_with = "time_zone")]
    pub time_zone: String,
    /// Mapping table of local statuses, CSV; see [`super::load_status_maps`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_map: Option<PathBuf>,
}

/// Where the directory comes from, beside what the store has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectorySource {
    /// A file that is applied at every start; `None`: the store's word only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// What every link is told ahead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnounceConfig {
    /// Earliest software that will be accepted; empty: no change is announced.
    pub minimum_version: String,
    /// From when on, RFC 3339.
    pub minimum_version_from: String,
}

impl AnnounceConfig {
    /// What is announced; `None`: nothing, or the moment can't be read.
    pub fn minimum_version(&self) -> Option<MinimumVersion> {
        let from: jiff::Timestamp = self.minimum_version_from.parse().ok()?;
        Some(MinimumVersion {
            version: self.minimum_version.clone(),
            from: Micros(from.as_microsecond()),
        })
        .filter(|_| !self.minimum_version.is_empty())
    }

    fn check(&self) -> Result<(), (String, String)> {
        let is_nothing = self == &Self::default();
        if is_nothing || self.minimum_version().is_some() {
            return Ok(());
        }
        wrong(
            "announce.minimum_version_from",
            "minimum_version and a moment such as 2027-03-01T00:00:00+07:00 belong together: set both or neither",
        )
    }
}

impl HubConfig {
    /// The limits that this hub announces; one of them is its policy.
    pub fn announced_limits(&self) -> Limits {
        Limits {
            events_per_complaint: self.policy.events_per_complaint,
            ..self.limits.clone()
        }
    }
}

/// Life of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// A session is asked to renew itself after so long, give or take a
    /// little, so that parties do not come back in one moment.
    pub max_age_hours: u32,
    /// Live sessions at once. A party that comes beyond is told to try again.
    pub max_sessions: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_age_hours: 24,
            // Twice the regions and institutions of the country.
            max_sessions: 2_048,
        }
    }
}

impl Settings for HubConfig {
    fn resolve(&mut self, directory: &Path) {
        resolve(directory, &mut self.directory);
        if let Some(store) = &mut self.store {
            store.resolve(directory);
        }
        self.door.resolve(directory);
        self.health.resolve(directory);
        self.enrolment.resolve(directory);
        let tls = &mut self.tls;
        [&mut tls.certificate, &mut tls.key, &mut tls.roots]
            .into_iter()
            .chain(&mut tls.crls)
            .chain(&mut self.directory_file.path)
            .chain(
                self.parties
                    .iter_mut()
                    .filter_map(|party| party.status_map.as_mut()),
            )
            .for_each(|path| resolve(directory, path));
    }

    fn check(&self) -> Result<(), (String, String)> {
        check_trust_domain(&self.trust_domain)?;
        if let Some(store) = &self.store {
            store.check()?;
        }
        // Other parties may stand behind the hub's door too; the directory
        // knows them, this file does not.
        let named: Vec<&PartyId> = [&self.national.party]
            .into_iter()
            .chain(self.door.tokens.iter().filter_map(|t| t.party.as_ref()))
            .collect();
        let single = named.iter().all(|party| **party == self.national.party);
        self.door.check(if single { &named[..1] } else { &named })?;
        self.health.check()?;
        let mut ids = BTreeSet::new();
        for party in &self.parties {
            if !ids.insert(&party.id) {
                return wrong(format!("party \"{}\", id", party.id), "is used twice");
            }
        }
        check_limits(&self.limits)?;
        check_policy(&self.policy)?;
        self.announce.check()?;
        self.enrolment.check()?;
        if self.session.max_age_hours == 0 {
            return wrong("session.max_age_hours", "must be at least 1");
        }
        if self.session.max_sessions == 0 {
            return wrong("session.max_sessions", "must be at least 1");
        }
        Ok(())
    }
}

pub(super) fn check_trust_domain(name: &str) -> Result<(), (String, String)> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    if name.is_empty() || name.len() > 255 || !name.chars().all(is_allowed) {
        return wrong(
            "trust_domain",
            format!(
                "\"{name}\" is not a name such as jembatan.example: lower-case letters, digits, '.', '-' and '_'"
            ),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut HubConfig)) -> Option<String> {
        let mut config = HubConfig::default();
        change(&mut config);
        config.check().err().map(|(key, _)| key)
    }

    /// Scenario: a minimum version with and without a moment, a policy whose
    /// date of effect is a day and is none.
    /// Guarantee: half of an announcement is refused by its key; a whole one
    /// is what links are told.
    #[test]
    fn what_is_announced_is_whole() {
        assert_eq!(problem(|_| ()), None);
        let key = Some("announce.minimum_version_from".to_owned());
        let alone = |config: &mut HubConfig| {
            config.announce.minimum_version = "jembatan/0.4.0".to_owned();
        };
        assert_eq!(problem(alone), key);
        let no_moment = |config: &mut HubConfig| {
            alone(config);
            config.announce.minimum_version_from = "tomorrow".to_owned();
        };
        assert_eq!(problem(no_moment), key);
        let mut whole = HubConfig::default();
        alone(&mut whole);
        whole.announce.minimum_version_from = "2027-03-01T00:00:00+07:00".to_owned();
        assert_eq!(whole.check(), Ok(()));
        let told = whole.announce.minimum_version().unwrap();
        assert_eq!(told.from, Micros(1_803_834_000_000_000));

        let day = |text: &'static str| {
            problem(move |config| config.policy.effective_on = text.to_owned())
        };
        assert_eq!(day("2026-11-24"), None);
        assert_eq!(day("24 Nov"), Some("policy.effective_on".to_owned()));
    }

    /// Scenario: a policy of 77 events per complaint.
    /// Guarantee: that is what links and doors are told.
    #[test]
    fn the_policy_is_among_the_limits() {
        let mut config = HubConfig::default();
        config.policy.events_per_complaint = 77;
        assert_eq!(config.announced_limits().events_per_complaint, 77);
    }
}
