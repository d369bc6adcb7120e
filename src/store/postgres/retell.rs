//! A directory that has changed: whoever reads for an institution now is told
//! its open complaints, page by page.

use crate::domain::{Micros, catch_up};

use super::{
    PostgresStore,
    decide::Deciding,
    jobs::Work,
    plan::Tell,
    session::{execute, maybe, rows},
};
use crate::store::StoreError;

/// Complaints that are looked at in one batch.
const RETOLD_AT_ONCE: i64 = 200;

pub(super) const OPEN_OF: &str =
    "SELECT id FROM complaint WHERE is_open AND handler = $1 AND id > $2 ORDER BY id LIMIT $3";

/// Tells whoever takes part now, and has not been told, what it has not had.
pub(super) fn tell_new_readers(deciding: &mut Deciding<'_>, complaints: &[i64], now: Micros) {
    for row in complaints {
        let Some(standing) = deciding.world.by_row(*row) else {
            continue;
        };
        let before = &standing.complaint;
        let mut complaint = before.clone();
        let tellings = catch_up(&mut complaint, deciding.directory);
        if &complaint == before {
            continue;
        }
        let tells = tellings.into_iter().map(|telling| Tell::Event {
            complaint_row: *row,
            tracking_id: complaint.tracking_id.clone(),
            telling,
            now,
        });
        deciding.plan.tells.extend(tells);
        if let Some(standing) = deciding.world.complaints.get_mut(&complaint.id) {
            standing.complaint = complaint;
            standing.is_changed = true;
        }
    }
}

/// Where no complaint is open nothing is to be told: a new directory costs one
/// statement, not one for each institution. What was asked for again meanwhile
/// stays. Asked one by one, so that the server looks each up and walks through none.
const NOTHING_TO_TELL: &str = "WITH asked AS MATERIALIZED ( \
         SELECT code, directory_version FROM retelling) \
     DELETE FROM retelling r USING asked \
     WHERE r.code = asked.code AND r.directory_version = asked.directory_version \
         AND (SELECT c.id FROM complaint c WHERE c.is_open AND c.handler = r.code LIMIT 1) IS NULL";

impl PostgresStore {
    /// Does what changed registrations have left to do.
    pub(super) async fn retell_all(&self) -> Result<(), StoreError> {
        if !self.is_retelling().await? {
            return Ok(());
        }
        execute(&*self.small_write().await?, NOTHING_TO_TELL, &[]).await?;
        loop {
            let next = {
                let reader = self.reader().await?;
                maybe(
                    &reader,
                    "SELECT code, directory_version FROM retelling LIMIT 1",
                    &[],
                )
                .await?
            };
            let Some(row) = next else {
                return Ok(());
            };
            let code: String = row.try_get(0)?;
            self.retell_one(&code, row.try_get(1)?).await?;
        }
    }

    async fn is_retelling(&self) -> Result<bool, StoreError> {
        let reader = self.reader().await?;
        let asked = maybe(&reader, "SELECT 1 FROM retelling LIMIT 1", &[]).await?;
        Ok(asked.is_some())
    }

    async fn retell_one(&self, code: &str, asked: i64) -> Result<(), StoreError> {
        let mut after = 0_i64;
        loop {
            let found = {
                let reader = self.reader().await?;
                rows(&reader, OPEN_OF, &[&code, &after, &RETOLD_AT_ONCE]).await?
            };
            let page = found
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<Vec<i64>, _>>()?;
            let Some(last) = page.last().copied() else {
                break;
            };
            let is_last = (page.len() as i64) < RETOLD_AT_ONCE;
            self.write(Work::Retell(page, self.shared.now())).await?;
            after = last;
            if is_last {
                break;
            }
        }
        let reader = self.small_write().await?;
        execute(
            &reader,
            "DELETE FROM retelling WHERE code = $1 AND directory_version = $2",
            &[&code, &asked],
        )
        .await?;
        Ok(())
    }
}
