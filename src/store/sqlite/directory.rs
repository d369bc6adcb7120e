//! Parties, institutions, rules and revocations as rows, and as the registry
//! that everybody reads.

use std::sync::Arc;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Category, Institution, Party, PartyId, RoutingRule},
    store::{Registry, StoreError},
};

use super::{Shared, damaged, writer::Tx};

#[derive(Debug, Default, Serialize, Deserialize)]
struct PolicyRow {
    categories: Vec<Category>,
    rules: Vec<RoutingRule>,
}

impl Shared {
    /// Reads the registry again and tells everybody who watches it.
    pub(super) fn reload_registry(&self, connection: &Connection) {
        match read_registry(connection) {
            Ok(registry) => {
                self.registry.send_replace(Arc::new(registry));
            }
            Err(error) => tracing::error!(event = "registry_unreadable", %error),
        }
    }
}

impl Tx<'_> {
    pub(super) fn put_party(&mut self, party: &Party) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO registered_party (id, json) VALUES (?1, ?2)")?
            .execute(params![party.id.as_str(), json(party)?])?;
        // Its journals begin now.
        self.state(&party.id)?;
        self.registry_changed();
        Ok(())
    }

    pub(super) fn put_institution(&mut self, institution: &Institution) -> Result<(), StoreError> {
        let is_registered = self
            .connection
            .prepare_cached("SELECT 1 FROM registered_party WHERE id = ?1")?
            .exists([institution.party.as_str()])?;
        if !is_registered {
            return Err(StoreError::Invalid(format!(
                "institution {} is to be reached through the party {}, which is not registered: add the party first",
                institution.code, institution.party
            )));
        }
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO institution (code, json) VALUES (?1, ?2)")?
            .execute(params![institution.code.as_str(), json(institution)?])?;
        self.registry_changed();
        Ok(())
    }

    pub(super) fn put_policy(
        &mut self,
        categories: Vec<Category>,
        rules: Vec<RoutingRule>,
    ) -> Result<(), StoreError> {
        for rule in &rules {
            let is_known = self
                .connection
                .prepare_cached("SELECT 1 FROM institution WHERE code = ?1")?
                .exists([rule.institution.as_str()])?;
            if !is_known {
                return Err(StoreError::Invalid(format!(
                    "a routing rule names the institution {}, which is not there: add it first",
                    rule.institution
                )));
            }
        }
        let row = PolicyRow { categories, rules };
        self.connection
            .execute("UPDATE node SET policy = ?1", [json(&row)?])?;
        self.registry_changed();
        Ok(())
    }
}

fn read_registry(connection: &Connection) -> Result<Registry, StoreError> {
    let mut registry = Registry::default();
    let directory = &mut registry.directory;
    let mut statement = connection.prepare_cached("SELECT json FROM registered_party")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let party: Party = parse(&row.get::<_, String>(0)?)?;
        directory.parties.insert(party.id.clone(), party);
    }
    let mut statement = connection.prepare_cached("SELECT json FROM institution")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let institution: Institution = parse(&row.get::<_, String>(0)?)?;
        directory
            .institutions
            .insert(institution.code.clone(), institution);
    }
    let (national, policy): (Option<String>, Option<String>) = connection
        .prepare_cached("SELECT national, policy FROM node")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    directory.national = national
        .map(|id| PartyId::parse(&id))
        .transpose()
        .map_err(|_| damaged("the national party"))?;
    if let Some(policy) = policy {
        let PolicyRow { categories, rules } = parse(&policy)?;
        directory.categories = categories
            .into_iter()
            .map(|category| (category.code.clone(), category))
            .collect();
        directory.rules = rules;
    }
    let mut statement = connection.prepare_cached("SELECT serial FROM revoked")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        registry.revoked_serials.insert(row.get(0)?);
    }
    Ok(registry)
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| damaged("a row can't be written"))
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| damaged("a row of the directory can't be read"))
}
