//! Parties, institutions, rules and revocations as rows, and as the registry
//! that everybody reads.
//!
//! A change takes the directory's lock alone and raises its version; a batch
//! shares that lock and names the version by which it was decided. So whoever
//! tells open complaints to a new reader finds every complaint that the old
//! directory has still decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Category, Institution, Micros, Party, PartyId, RoutingRule},
    exchange::{Direction, Place},
    store::{DirectoryChange, Registry, StoreError},
};

use super::{
    Known, PostgresStore, Shared, damaged,
    durable::Tries,
    error::Failure,
    rows::id16,
    session::{QueryError, Session, execute, maybe, one, rows},
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
) -> Result<(), QueryError> {
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

/// The open complaints of all institutions that these parties read for are told.
const READ_BY: &str = "INSERT INTO retelling (code, directory_version) \
     SELECT code, $2 FROM institution WHERE json::jsonb ->> 'party' = ANY ($1) \
     ON CONFLICT (code) DO UPDATE SET directory_version = excluded.directory_version";

/// Alone, and with the next version.
async fn begin_change(client: &Session) -> Result<i64, Failure> {
    execute(client, "BEGIN", &[]).await?;
    one(client, "SELECT pg_advisory_xact_lock(7301, 1)", &[]).await?;
    let row = one(
        client,
        "UPDATE node SET directory_version = directory_version + 1 RETURNING directory_version",
        &[],
    )
    .await?;
    Ok(row.try_get(0)?)
}

const OVERTAKEN: &str = "somebody else has changed the directory while it was not known whether this \
     change was stored: look at the directory, and ask again for what it lacks";

/// A change that a standby must not forget, as one transaction; carried out twice
/// it comes to the same, and it is not carried out again over a later one.
enum Change<'a> {
    Directory(&'a DirectoryChange),
    Revoked(&'a str, &'a str, Micros),
}

impl Change<'_> {
    /// `in_doubt`: the version that it has made, if an earlier try was stored, and of
    /// this one once it commits.
    async fn carry_out(
        &self,
        client: &Session,
        shared: &Shared,
        in_doubt: &mut Option<i64>,
    ) -> Result<Known, Failure> {
        let version = begin_change(client).await?;
        let is_behind = in_doubt.is_some_and(|made| version > made);
        if is_behind && !self.is_in(&read_registry(client).await?.registry) {
            // Somebody may have seen it and changed it: theirs is the later one.
            let why = StoreError::Unavailable(OVERTAKEN.to_owned());
            return Err(Failure::Refused(why));
        }
        match self {
            Self::Directory(change) => {
                put_parties(client, shared, &change.parties, version).await?;
                put_institutions(client, &change.institutions, version).await?;
                if let Some((categories, rules)) = &change.policy {
                    put_policy(client, categories, rules).await?;
                }
                if let Some(national) = &change.national {
                    let sql = "UPDATE node SET national = $1";
                    execute(client, sql, &[&national.as_str()]).await?;
                }
            }
            Self::Revoked(serial, note, now) => put_revoked(client, serial, note, *now).await?,
        }
        // What it has come to is read once, however much has changed.
        let known = read_registry(client).await?;
        let before = *in_doubt;
        in_doubt.get_or_insert(version);
        match execute(client, "COMMIT", &[]).await.map_err(Failure::from) {
            Ok(_) => Ok(known),
            Err(lost @ Failure::Lost(_)) => Err(lost),
            Err(not_stored) => {
                *in_doubt = before;
                Err(not_stored)
            }
        }
    }

    /// Whether the directory says what this says.
    fn is_in(&self, registry: &Registry) -> bool {
        let (Self::Directory(change), directory) = (self, &registry.directory) else {
            // Revocations only become more.
            return true;
        };
        let mut parties = change.parties.iter();
        let mut institutions = change.institutions.iter();
        let policy = change.policy.as_ref();
        let national = change.national.as_ref();
        parties.all(|party| directory.parties.get(&party.id) == Some(party))
            && institutions.all(|one| directory.institutions.get(&one.code) == Some(one))
            && policy.is_none_or(|(categories, rules)| {
                let categories = categories.iter().map(|one| (one.code.clone(), one.clone()));
                directory.categories == categories.collect() && &directory.rules == rules
            })
            && national.is_none_or(|national| directory.national.as_ref() == Some(national))
    }
}

async fn put_parties(
    client: &Session,
    shared: &Shared,
    parties: &[Party],
    version: i64,
) -> Result<(), Failure> {
    for party in parties {
        begin_party(client, shared, &party.id).await?;
    }
    let ids: Vec<&str> = parties.iter().map(|party| party.id.as_str()).collect();
    let sql = "SELECT json FROM registered_party WHERE id = ANY ($1)";
    let mut before = BTreeMap::new();
    for row in rows(client, sql, &[&ids]).await? {
        let party: Party = parse(row.try_get(0)?)?;
        before.insert(party.id.clone(), party);
    }
    let readers = parties
        .iter()
        .filter(|party| party.reads_from_now(before.get(&party.id)));
    let readers: Vec<&str> = readers.map(|party| party.id.as_str()).collect();
    // What has come to their institutions meanwhile is told.
    execute(client, READ_BY, &[&readers, &version]).await?;
    execute(
        client,
        "INSERT INTO registered_party (id, json) SELECT * FROM unnest($1::text[], $2::text[]) \
         ON CONFLICT (id) DO UPDATE SET json = excluded.json",
        &[&ids, &jsons(parties)?],
    )
    .await?;
    Ok(())
}

async fn put_institutions(
    client: &Session,
    institutions: &[Institution],
    version: i64,
) -> Result<(), Failure> {
    let parties: Vec<&str> = institutions.iter().map(|one| one.party.as_str()).collect();
    let sql = "SELECT id FROM registered_party WHERE id = ANY($1)";
    let known = names(client, sql, &parties).await?;
    let stranger = institutions
        .iter()
        .find(|one| !known.contains(one.party.as_str()));
    if let Some(stranger) = stranger {
        return Err(Failure::Refused(StoreError::Invalid(format!(
            "institution {} is to be reached through the party {}, which is not registered: add \
             the party first",
            stranger.code, stranger.party
        ))));
    }
    let codes: Vec<&str> = institutions.iter().map(|one| one.code.as_str()).collect();
    execute(
        client,
        "INSERT INTO institution (code, json) SELECT * FROM unnest($1::text[], $2::text[]) \
         ON CONFLICT (code) DO UPDATE SET json = excluded.json",
        &[&codes, &jsons(institutions)?],
    )
    .await?;
    // Another party may read for them now: their open complaints are told.
    execute(
        client,
        "INSERT INTO retelling (code, directory_version) SELECT code, $2 \
         FROM unnest($1::text[]) code \
         ON CONFLICT (code) DO UPDATE SET directory_version = excluded.directory_version",
        &[&codes, &version],
    )
    .await?;
    Ok(())
}

async fn put_policy(
    client: &Session,
    categories: &[Category],
    rules: &[RoutingRule],
) -> Result<(), Failure> {
    let codes: Vec<&str> = rules.iter().map(|rule| rule.institution.as_str()).collect();
    let sql = "SELECT code FROM institution WHERE code = ANY($1)";
    let known = names(client, sql, &codes).await?;
    if let Some(code) = codes.iter().find(|code| !known.contains(**code)) {
        return Err(Failure::Refused(StoreError::Invalid(format!(
            "a routing rule names the institution {code}, which is not there: add it first"
        ))));
    }
    let row = json(&PolicyRow {
        categories: categories.to_vec(),
        rules: rules.to_vec(),
    })?;
    execute(client, "UPDATE node SET policy = $1", &[&row]).await?;
    Ok(())
}

async fn put_revoked(
    client: &Session,
    serial: &str,
    note: &str,
    now: Micros,
) -> Result<(), Failure> {
    execute(
        client,
        "INSERT INTO revoked (serial, note, revoked_at) VALUES ($1, $2, $3) \
         ON CONFLICT (serial) DO NOTHING",
        &[&serial, &note, &now.0],
    )
    .await?;
    // The code that led to it leads to no other certificate.
    execute(
        client,
        "UPDATE invitation SET revoked_at = coalesce(revoked_at, $2) WHERE id = \
         (SELECT invitation FROM issued_certificate WHERE serial = $1)",
        &[&serial, &now.0],
    )
    .await?;
    Ok(())
}

/// Those of the names that a statement finds.
async fn names(
    client: &Session,
    sql: &'static str,
    of: &[&str],
) -> Result<BTreeSet<String>, Failure> {
    let mut found = BTreeSet::new();
    for row in rows(client, sql, &[&of]).await? {
        found.insert(row.try_get(0)?);
    }
    Ok(found)
}

impl PostgresStore {
    pub(super) async fn change(&self, change: &DirectoryChange) -> Result<(), StoreError> {
        self.carry_out(Change::Directory(change)).await?;
        match change.parties.is_empty() && change.institutions.is_empty() {
            true => Ok(()),
            false => self.retell_all().await,
        }
    }

    pub(super) async fn add_revoked(
        &self,
        serial: &str,
        note: &str,
        now: Micros,
    ) -> Result<(), StoreError> {
        self.carry_out(Change::Revoked(serial, note, now)).await
    }

    /// Until the server says without a warning that it is durable: whoever is told
    /// that a certificate is revoked must be able to rely on it, whichever server
    /// is used next.
    async fn carry_out(&self, change: Change<'_>) -> Result<(), StoreError> {
        let database = &self.shared.database;
        let _turn = database.turn().await?;
        let mut tries = Tries::begin();
        let mut in_doubt = None;
        let known = loop {
            let outcome = async {
                let line = database.line_for_small_write().await?;
                let known = change.carry_out(line.client(), &self.shared, &mut in_doubt);
                database.is_durable(&line, known.await)
            };
            if let Some(answer) = tries.settled(outcome.await).await {
                break answer?;
            }
        };
        self.shared.learn(known);
        self.shared.wakers.directory_changed_here();
        Ok(())
    }
}

/// Whether this party has journals here.
pub(super) async fn has_begun(client: &Session, party: &PartyId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM submission_head WHERE party = $1";
    Ok(maybe(client, sql, &[&party.as_str()]).await?.is_some())
}

fn jsons<T: Serialize>(values: &[T]) -> Result<Vec<String>, StoreError> {
    values.iter().map(json).collect()
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| damaged("a row can't be written"))
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| damaged("a row of the directory can't be read"))
}
