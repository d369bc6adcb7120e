//! Complaints: the state that is kept says what its columns say, and somebody
//! reads for every open one.

use crate::{
    domain::{Complaint, ComplaintId, InstitutionCode},
    store::StoreError,
};

use super::{
    super::{
        damaged, directory,
        hub::{OPEN, OWNERS},
        rows::{id16, number},
        session::{Session, maybe, rows},
    },
    Integrity,
};

const COMPLAINTS: &str = "SELECT c.id, c.complaint_id, c.number, c.is_open, c.handler, c.state, \
         (SELECT max(h.revision) FROM history h WHERE h.complaint = c.id) \
     FROM complaint c WHERE c.id > $1 ORDER BY c.id LIMIT 1000";

/// Every complaint.
pub(super) async fn check(session: &Session, found: &mut Integrity) -> Result<(), StoreError> {
    let mut last = 0_i64;
    loop {
        let page = rows(session, COMPLAINTS, &[&last]).await?;
        for row in &page {
            last = row.try_get(0)?;
            if let Some(why) = wrong(row)? {
                let id: &[u8] = row.try_get(1)?;
                let name = id16(id).map_or_else(
                    |_| hex::encode(id),
                    |id| ComplaintId::from_bytes(id).to_string(),
                );
                found.find("complaint", name, why);
            }
        }
        if page.is_empty() {
            break;
        }
    }
    orphans(session, found).await
}

/// What is wrong with a complaint's row.
fn wrong(row: &tokio_postgres::Row) -> Result<Option<&'static str>, StoreError> {
    let Ok(state) = serde_json::from_str::<Complaint>(row.try_get(5)?) else {
        return Ok(Some("its state can't be read"));
    };
    let id: &[u8] = row.try_get(1)?;
    let handler: Option<&str> = row.try_get(4)?;
    let revision: Option<i32> = row.try_get(6)?;
    Ok(if state.id.as_bytes() != id {
        Some("its state is another complaint's")
    } else if state.tracking_id.number() != number(row, 2)? {
        Some("its Tracking ID is not the one that it is found by")
    } else if state.status.is_open() != row.try_get::<_, bool>(3)? {
        Some("it is open by its state or by its row, and not by the other")
    } else if state.handler.as_ref().map(InstitutionCode::as_str) != handler {
        Some("its handler is another one by its state than by its row")
    } else if revision.map(|revision| revision as u32) != Some(state.revision) {
        Some("its history does not end at its revision")
    } else {
        None
    })
}

/// Open complaints that nobody reads for.
async fn orphans(session: &Session, found: &mut Integrity) -> Result<(), StoreError> {
    if maybe(session, "SELECT 1 FROM node", &[]).await?.is_none() {
        return Ok(());
    }
    let registry = directory::read_registry(session).await?.registry;
    for row in rows(session, OWNERS, &[]).await? {
        let owner: Option<&str> = row.try_get(0)?;
        let handler = owner.map(InstitutionCode::parse).transpose();
        let handler = handler.map_err(|_| damaged("an institution's code"))?;
        let is_read = match &handler {
            Some(handler) => registry.directory.reader_of(handler).is_some(),
            None => registry.directory.triage_reader().is_some(),
        };
        if is_read {
            continue;
        }
        for orphan in rows(session, OPEN, &[&owner]).await? {
            let id = ComplaintId::from_bytes(id16(orphan.try_get(0)?)?);
            let why = format!(
                "open, and nobody reads for {}",
                owner.unwrap_or("national triage")
            );
            found.find("orphan", id.to_string(), why);
        }
    }
    Ok(())
}
