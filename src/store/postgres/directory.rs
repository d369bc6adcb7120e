//! Parties, institutions, rules and revocations as rows, and as the registry
//! that everybody reads.
//!
//! A change takes the directory's lock alone and raises its version; a batch
//! shares that lock and names the version by which it was decided. So whoever
//! tells open complaints to a new reader finds every complaint that the old
//! directory has still decided.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Category, Institution, Micros, Party, PartyId, RoutingRule},
    exchange::{Direction, Place},
    store::{Registry, StoreError},
};

use super::{
    Known, PostgresStore, Shared, damaged,
    rows::id16,
    session::{Session, execute, maybe, one, rows},
};

#[derive(Debug, Default, Serialize, Deserialize)]
struct PolicyRow {
    categories: Vec<Category>,
    rules: Vec<RoutingRule>,
}

/// What makes this store itself: made once, by whoever comes first.
pub(super) async fn identify(
    client: &Session,
    seed: &[u8; 48],
) -> Result<([u8; 16], Vec<u8>), StoreError> {
    let (instance, key) = seed.split_at(16);
    execute(
        client,
        "INSERT INTO node (instance_id, dedup_key) VALUES ($1, $2) ON CONFLICT (one) DO NOTHING",
        &[&instance, &key],
    )
    .await?;
    let row = one(client, "SELECT instance_id, dedup_key FROM node", &[]).await?;
    Ok((id16(row.try_get(0)?)?, row.try_get(1)?))
}

/// Begins the journals of a party, unless they are there.
pub(super) async fn begin_party(
    client: &Session,
    shared: &Shared,
    party: &PartyId,
) -> Result<(), StoreError> {
    // Epochs come from the clock and only grow.
    let epoch = (shared.now().0 / 1_000_000).max(1) as u64;
    let up = Place::root(party, Direction::Submissions, epoch).chain;
    let down = Place::root(party, Direction::Deliveries, epoch).chain;
    one(
        client,
        "SELECT jembatan_begin_party_1($1, $2, $3, $4)",
        &[
            &party.as_str(),
            &(epoch as i64),
            &up.as_bytes().as_slice(),
            &down.as_bytes().as_slice(),
        ],
    )
    .await?;
    Ok(())
}

/// The directory as it stands.
pub(super) async fn read_registry(client: &Session) -> Result<Known, StoreError> {
    // The version first: rows that are newer than it are read again soon.
    let node = one(
        client,
        "SELECT directory_version, national, policy FROM node",
        &[],
    )
    .await?;
    let mut registry = Registry::default();
    let directory = &mut registry.directory;
    for row in rows(client, "SELECT json FROM registered_party", &[]).await? {
        let party: Party = parse(row.try_get(0)?)?;
        directory.parties.insert(party.id.clone(), party);
    }
    for row in rows(client, "SELECT json FROM institution", &[]).await? {
        let institution: Institution = parse(row.try_get(0)?)?;
        let code = institution.code.clone();
        directory.institutions.insert(code, institution);
    }
    let national: Option<&str> = node.try_get(1)?;
    directory.national = national
        .map(PartyId::parse)
        .transpose()
        .map_err(|_| damaged("the national party"))?;
    if let Some(policy) = node.try_get::<_, Option<&str>>(2)? {
        let PolicyRow { categories, rules } = parse(policy)?;
        directory.categories = categories
            .into_iter()
            .map(|category| (category.code.clone(), category))
            .collect();
        directory.rules = rules;
    }
    for row in rows(client, "SELECT serial FROM revoked", &[]).await? {
        registry.revoked_serials.insert(row.try_get(0)?);
    }
    Ok(Known {
        version: node.try_get(0)?,
        registry: Arc::new(registry),
    })
}

/// The open complaints of all institutions that a party reads for are told.
const READ_BY: &str = "INSERT INTO retelling (code, directory_version) \
     SELECT code, $2 FROM institution WHERE json::jsonb ->> 'party' = $1 \
     ON CONFLICT (code) DO UPDATE SET directory_version = excluded.directory_version";

/// Alone, and with the next version.
async fn begin_change(transaction: &Transaction<'_>) -> Result<i64, StoreError> {
    transaction
        .query_one("SELECT pg_advisory_xact_lock(7301, 1)", &[])
        .await?;
    let row = transaction
        .query_one(
            "UPDATE node SET directory_version = directory_version + 1 RETURNING directory_version",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

impl PostgresStore {
    /// What a change of the directory is followed by.
    async fn directory_changed(&self) -> Result<(), StoreError> {
        let known = read_registry(&*self.reader().await?).await?;
        self.shared.learn(known);
        self.shared.wakers.directory_changed_here();
        Ok(())
    }

    pub(super) async fn change_party(&self, party: &Party) -> Result<(), StoreError> {
        {
            let mut reader = self.reader().await?;
            begin_party(&reader, &self.shared, &party.id).await?;
            reader.unsettled();
            let transaction = reader.transaction().await?;
            let version = begin_change(&transaction).await?;
            let id = party.id.as_str();
            let before = transaction
                .query_opt("SELECT json FROM registered_party WHERE id = $1", &[&id])
                .await?;
            let before: Option<Party> = match &before {
                Some(row) => Some(parse(row.try_get(0)?)?),
                None => None,
            };
            transaction
                .execute(
                    "INSERT INTO registered_party (id, json) VALUES ($1, $2) \
                     ON CONFLICT (id) DO UPDATE SET json = excluded.json",
                    &[&id, &json(party)?],
                )
                .await?;
            // What has come to its institutions meanwhile is told.
            if party.reads_from_now(before.as_ref()) {
                transaction.execute(READ_BY, &[&id, &version]).await?;
            }
            transaction.commit().await?;
            reader.settled();
        }
        self.directory_changed().await
    }

    pub(super) async fn change_institution(
        &self,
        institution: &Institution,
    ) -> Result<(), StoreError> {
        {
            let mut reader = self.reader().await?;
            reader.unsettled();
            let transaction = reader.transaction().await?;
            let version = begin_change(&transaction).await?;
            let party = institution.party.as_str();
            let registered = transaction
                .query_opt("SELECT 1 FROM registered_party WHERE id = $1", &[&party])
                .await?;
            if registered.is_none() {
                return Err(StoreError::Invalid(format!(
                    "institution {} is to be reached through the party {}, which is not \
                     registered: add the party first",
                    institution.code, institution.party
                )));
            }
            let code = institution.code.as_str();
            transaction
                .execute(
                    "INSERT INTO institution (code, json) VALUES ($1, $2) \
                     ON CONFLICT (code) DO UPDATE SET json = excluded.json",
                    &[&code, &json(institution)?],
                )
                .await?;
            // Another party may read for it now: its open complaints are told.
            transaction
                .execute(
                    "INSERT INTO retelling (code, directory_version) VALUES ($1, $2) \
                     ON CONFLICT (code) DO UPDATE \
                         SET directory_version = excluded.directory_version",
                    &[&code, &version],
                )
                .await?;
            transaction.commit().await?;
            reader.settled();
        }
        self.directory_changed().await
    }

    pub(super) async fn change_policy(
        &self,
        categories: Vec<Category>,
        rules: Vec<RoutingRule>,
    ) -> Result<(), StoreError> {
        {
            let mut reader = self.reader().await?;
            reader.unsettled();
            let transaction = reader.transaction().await?;
            begin_change(&transaction).await?;
            for rule in &rules {
                let code = rule.institution.as_str();
                let known = transaction
                    .query_opt("SELECT 1 FROM institution WHERE code = $1", &[&code])
                    .await?;
                if known.is_none() {
                    return Err(StoreError::Invalid(format!(
                        "a routing rule names the institution {code}, which is not there: add it \
                         first"
                    )));
                }
            }
            let row = json(&PolicyRow { categories, rules })?;
            transaction
                .execute("UPDATE node SET policy = $1", &[&row])
                .await?;
            transaction.commit().await?;
            reader.settled();
        }
        self.directory_changed().await
    }

    pub(super) async fn change_national(&self, party: &PartyId) -> Result<(), StoreError> {
        {
            let mut reader = self.reader().await?;
            reader.unsettled();
            let transaction = reader.transaction().await?;
            begin_change(&transaction).await?;
            transaction
                .execute("UPDATE node SET national = $1", &[&party.as_str()])
                .await?;
            transaction.commit().await?;
            reader.settled();
        }
        self.directory_changed().await
    }

    pub(super) async fn add_revoked(
        &self,
        serial: &str,
        note: &str,
        now: Micros,
    ) -> Result<(), StoreError> {
        {
            let mut reader = self.reader().await?;
            reader.unsettled();
            let transaction = reader.transaction().await?;
            begin_change(&transaction).await?;
            transaction
                .execute(
                    "INSERT INTO revoked (serial, note, revoked_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (serial) DO NOTHING",
                    &[&serial, &note, &now.0],
                )
                .await?;
            // The code that led to it leads to no other certificate.
            transaction
                .execute(
                    "UPDATE invitation SET revoked_at = coalesce(revoked_at, $2) WHERE id = \
                     (SELECT invitation FROM issued_certificate WHERE serial = $1)",
                    &[&serial, &now.0],
                )
                .await?;
            transaction.commit().await?;
            reader.settled();
        }
        self.directory_changed().await
    }
}

/// Whether this party has journals here.
pub(super) async fn has_begun(client: &Session, party: &PartyId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM submission_head WHERE party = $1";
    Ok(maybe(client, sql, &[&party.as_str()]).await?.is_some())
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| damaged("a row can't be written"))
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| damaged("a row of the directory can't be read"))
}
