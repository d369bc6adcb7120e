//! Local statuses that no mapping table has a row for: the commit that stores
//! the hand-over notes them.

use crate::{
    domain::{Micros, PartyId, SystemName},
    store::{StoreError, UnmappedStatus},
};

use super::{
    damaged,
    rows::number,
    session::{Session, execute, rows},
};

/// The latest first.
pub(super) async fn unmapped(
    client: &Session,
    party: &PartyId,
    limit: usize,
) -> Result<Vec<UnmappedStatus>, StoreError> {
    let found = rows(
        client,
        "SELECT system, code, name, count, last_seen FROM work_item \
         WHERE party = $1 ORDER BY last_seen DESC, system, code, name LIMIT $2",
        &[&party.as_str(), &(limit as i64)],
    )
    .await?;
    let items = found.iter().map(|row| {
        Ok(UnmappedStatus {
            system: SystemName::parse(row.try_get(0)?)
                .map_err(|_| damaged("a work item's local system"))?,
            code: row.try_get(1)?,
            name: row.try_get(2)?,
            count: number(row, 3)?,
            last_seen: Micros(row.try_get(4)?),
        })
    });
    items.collect()
}

/// They have a row now.
pub(super) async fn forget(
    client: &Session,
    party: &PartyId,
    statuses: &[UnmappedStatus],
) -> Result<(), StoreError> {
    let systems: Vec<&str> = statuses.iter().map(|found| found.system.as_str()).collect();
    let codes: Vec<&str> = statuses.iter().map(|found| found.code.as_str()).collect();
    let names: Vec<&str> = statuses.iter().map(|found| found.name.as_str()).collect();
    execute(
        client,
        "DELETE FROM work_item i \
         USING unnest($2::text[], $3::text[], $4::text[]) AS w(system, code, name) \
         WHERE i.party = $1 AND i.system = w.system AND i.code = w.code AND i.name = w.name",
        &[&party.as_str(), &systems, &codes, &names],
    )
    .await?;
    Ok(())
}
