//! Parties without a link: behind the hub's own door, or unary. The hub knows
//! of them what an adapter would know, and looks at each call whether they may
//! still come in.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use crate::{
    config::{ConfigError, HubConfig, load_status_maps},
    domain::{PartyId, PartyMode, StatusMaps, SystemName},
    door::{Access, Caller, DoorError, Scope, Tokens},
    store::Registry,
};

/// Where a party counts days that nothing is said of: WIB, the capital's.
const TIME_ZONE: &str = "Asia/Jakarta";

/// What is known of them, by configuration.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    parties: BTreeMap<PartyId, (String, Arc<StatusMaps>)>,
}

impl Behind {
    /// Reads the mapping tables that the configuration names.
    ///
    /// # Errors
    /// One can't be used.
    pub fn load(config: &HubConfig) -> Result<Self, ConfigError> {
        let mut parties = BTreeMap::new();
        for party in &config.parties {
            let maps = match &party.status_map {
                Some(path) => load_status_maps(path)?,
                None => StatusMaps::default(),
            };
            parties.insert(party.id.clone(), (party.time_zone.clone(), Arc::new(maps)));
        }
        Ok(Self { parties })
    }

    /// A call of this party.
    pub fn caller(&self, party: PartyId, system: Option<SystemName>) -> Caller {
        let (time_zone, status_maps) = self
            .parties
            .get(&party)
            .cloned()
            .unwrap_or_else(|| (TIME_ZONE.to_owned(), Arc::default()));
        Caller {
            party,
            system,
            time_zone,
            status_maps,
        }
    }

    /// Who may stand behind the hub's own door: the national party, and
    /// parties that a token names.
    pub fn callers(&self, config: &HubConfig) -> Vec<Caller> {
        let national = &config.national;
        let mut callers = vec![self.caller(national.party.clone(), Some(national.system.clone()))];
        for party in config
            .door
            .tokens
            .iter()
            .filter_map(|token| token.party.as_ref())
        {
            if callers.iter().all(|caller| &caller.party != party) {
                callers.push(self.caller(party.clone(), None));
            }
        }
        callers
    }

    /// Everybody of whom something is known, for work that waits.
    pub fn everybody(&self) -> Vec<Caller> {
        self.parties
            .keys()
            .map(|party| self.caller(party.clone(), None))
            .collect()
    }
}

/// A token that could never be used, found before the hub serves.
///
/// # Errors
/// It names a party that submits over its own link: two writers of one journal
/// can't both be right.
pub(super) fn check_tokens(config: &HubConfig, registry: &Registry) -> Result<(), String> {
    for token in &config.door.tokens {
        let Some(party) = &token.party else { continue };
        let found = registry.directory.parties.get(party);
        if found.is_some_and(|found| found.mode == PartyMode::Stream) {
            return Err(format!(
                "door.token \"{}\": party {party} is registered as stream and submits over its own link: register it as local or unary, or give the token to a system at its own node",
                token.name
            ));
        }
    }
    Ok(())
}

/// Access to the hub's own door: by token, and only while the party is
/// registered, enabled and without a link.
#[derive(Clone)]
pub(super) struct AtDoor {
    /// Who comes in.
    pub(super) tokens: Arc<Tokens>,
    /// Who may.
    pub(super) registry: watch::Receiver<Arc<Registry>>,
}

impl Access for AtDoor {
    fn caller(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        extensions: &http::Extensions,
        scope: Scope,
    ) -> Result<Caller, DoorError> {
        let caller = self.tokens.caller(metadata, extensions, scope)?;
        let registry = self.registry.borrow().clone();
        let why = match registry.directory.parties.get(&caller.party) {
            None => "is not registered",
            Some(found) if !found.enabled => "is disabled",
            Some(found) if found.mode == PartyMode::Stream => "submits over its own link",
            Some(_) => return Ok(caller),
        };
        tracing::warn!(event = "party_refused", party = %caller.party, why);
        Err(DoorError::NotRegistered)
    }
}
