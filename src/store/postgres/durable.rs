//! Small writes whose answer leaves the hub: a certificate that was given must
//! not be forgotten by the standby that takes over. They go over a line whose
//! warnings are read, one at a time; the pool's connections have nobody who
//! reads them.

use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

use crate::store::StoreError;

use super::{
    connect::Database,
    error::Failure,
    session::execute,
    writer::{LOOK_FOR, RECONNECT_PAUSE},
};

impl Database {
    /// Carries out a statement that may be carried out again, until the server
    /// says without a warning that it is durable; how many rows it touched.
    ///
    /// As with a batch of the writer, what the server warns of (a standby may
    /// lack it) or does not answer counts as unknown. Carried out once more it
    /// writes once more, and so waits for the standbys once more: once that went
    /// well, it is on them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if that takes longer than the writer would
    /// look for a batch: it may have been stored.
    pub(super) async fn execute_durably(
        &self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let until = Instant::now() + LOOK_FOR;
        let _turn = self.durable.lock().await;
        loop {
            let why = match self.once(sql, values).await {
                Ok(count) => return Ok(count),
                Err(Failure::Lost(why)) => why,
                Err(Failure::Moved) => "others were faster".to_owned(),
                Err(failure) => return Err(failure.into_error()),
            };
            tracing::warn!(event = "write_in_doubt", %why);
            if Instant::now() >= until {
                return Err(StoreError::Unavailable(format!(
                    "{why}; whether it was stored is not known; ask again"
                )));
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn once(
        &self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        let line = self
            .line()
            .await
            .map_err(|error| Failure::Lost(error.in_flight().to_string()))?;
        let count = execute(line.client(), sql, values).await?;
        match line.is_doubtful() {
            false => Ok(count),
            true => Err(Failure::Lost(
                "the server does not know whether its standbys have it".to_owned(),
            )),
        }
    }
}
