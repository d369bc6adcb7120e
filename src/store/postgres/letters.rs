//! What was rejected or parked, for an operator's command: read from the
//! database, beside the hubs that run.

use crate::{
    domain::PartyId,
    store::{DeadLetter, StoreError},
};

use super::{
    again,
    connect::{Database, Settings},
    schema,
    session::rows,
};

pub(super) const NEWEST_FIRST: &str = "SELECT s.id, j.party, j.epoch, s.stored_at, s.event, s.decision FROM submission s \
     JOIN journal j ON j.id = s.id >> 36 \
     WHERE s.outcome >= 3 AND ($1::text IS NULL OR j.party = $1) \
     ORDER BY s.stored_at DESC, s.id DESC LIMIT $2";

/// Rejected and parked submissions, the newest first, at most `limit`; of one
/// party, if it is named.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn dead_letters(
    settings: &Settings,
    only: Option<&PartyId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    schema::must_fit(line.client()).await?;
    let only = only.map(PartyId::as_str);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = rows(line.client(), NEWEST_FIRST, &[&only, &limit]).await?;
    found.iter().map(again::letter).collect()
}
