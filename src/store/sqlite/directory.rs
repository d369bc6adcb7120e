//! Parties, institutions, rules and revocations as rows, and as the registry
//! that everybody reads.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Category, Institution, Micros, Party, PartyId, RoutingRule, catch_up},
    store::{DirectoryChange, Registry, StoreError},
};

use super::{Shared, damaged, view::complaint_at, writer::Tx};

/// Complaints that are looked at in one transaction.
const RETOLD_AT_ONCE: usize = 200;

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
    /// Whether something is left to tell.
    pub(super) fn change_directory(&mut self, change: DirectoryChange) -> Result<bool, StoreError> {
        for party in &change.parties {
            self.put_party(party)?;
        }
        for institution in &change.institutions {
            self.put_institution(institution)?;
        }
        if let Some((categories, rules)) = change.policy {
            self.put_policy(categories, rules)?;
        }
        if let Some(national) = change.national {
            self.connection
                .execute("UPDATE node SET national = ?1", [national.as_str()])?;
        }
        self.registry_changed();
        Ok(self.next_retelling()?.is_some())
    }

    fn put_party(&mut self, party: &Party) -> Result<(), StoreError> {
        let before: Option<String> = self
            .connection
            .prepare_cached("SELECT json FROM registered_party WHERE id = ?1")?
            .query_row([party.id.as_str()], |row| row.get(0))
            .optional()?;
        let before: Option<Party> = before.map(|row| parse(&row)).transpose()?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO registered_party (id, json) VALUES (?1, ?2)")?
            .execute(params![party.id.as_str(), json(party)?])?;
        // Its journals begin now.
        self.state(&party.id)?;
        if party.reads_from_now(before.as_ref()) {
            // What has come to its institutions meanwhile is told.
            self.connection.execute(
                "INSERT OR IGNORE INTO retelling (code) \
                 SELECT code FROM institution WHERE json_extract(json, '$.party') = ?1",
                [party.id.as_str()],
            )?;
        }
        Ok(())
    }

    fn put_institution(&mut self, institution: &Institution) -> Result<(), StoreError> {
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
        // Another party may read for it now: its open complaints are told.
        self.connection.execute(
            "INSERT OR IGNORE INTO retelling (code) VALUES (?1)",
            [institution.code.as_str()],
        )?;
        Ok(())
    }

    /// A page of the open complaints of an institution whose registration has
    /// changed: whoever reads for it now gets what it has not had. `None`:
    /// nothing is left to do; else where to go on.
    pub(super) fn retell_page(
        &mut self,
        after: Option<(String, i64)>,
        now: Micros,
    ) -> Result<Option<(String, i64)>, StoreError> {
        let begin = match after {
            Some(after) => Some(after),
            None => {
                // Where no complaint is open nothing is to be told: a new directory
                // costs one statement, not a commit for each institution.
                self.connection.execute(
                    "DELETE FROM retelling WHERE NOT EXISTS (SELECT 1 FROM complaint c \
                     WHERE c.is_open = 1 AND c.handler = retelling.code)",
                    [],
                )?;
                self.next_retelling()?
            }
        };
        let Some((code, after)) = begin else {
            return Ok(None);
        };
        let rows: Vec<i64> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT id FROM complaint WHERE is_open = 1 AND handler = ?1 AND id > ?2 \
                 ORDER BY id LIMIT ?3",
            )?;
            let found = statement.query_map(params![code, after, RETOLD_AT_ONCE as i64], |row| {
                row.get(0)
            });
            found?.collect::<Result<_, _>>()?
        };
        let registry = self.shared.registry.borrow().clone();
        for row in &rows {
            let before = complaint_at(self.connection, *row)?;
            let mut complaint = before.clone();
            let tellings = catch_up(&mut complaint, &registry.directory);
            if complaint == before {
                continue;
            }
            self.put_complaint_state(*row, &complaint)?;
            for telling in &tellings {
                self.tell(&complaint, telling, now)?;
            }
        }
        match rows.last() {
            Some(last) if rows.len() == RETOLD_AT_ONCE => Ok(Some((code, *last))),
            _ => {
                self.connection
                    .execute("DELETE FROM retelling WHERE code = ?1", [&code])?;
                self.next_retelling()
            }
        }
    }

    fn next_retelling(&self) -> Result<Option<(String, i64)>, StoreError> {
        let next: Option<String> = self
            .connection
            .query_row("SELECT code FROM retelling LIMIT 1", [], |row| row.get(0))
            .optional()?;
        Ok(next.map(|code| (code, 0)))
    }

    fn put_policy(
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
