//! Work that a new mapping table has done.

use crate::{
    domain::Mapped,
    door::Caller,
    store::{Store, StoreError},
};

/// Statuses of one party that are looked at when a node starts: all.
const ALL: usize = 10_000;

/// Takes away what the tables of these parties have a row for by now.
///
/// # Errors
/// The store can't read or write.
pub async fn settle_work(store: &dyn Store, callers: &[Caller]) -> Result<(), StoreError> {
    for caller in callers {
        let open = store.unmapped(&caller.party, ALL).await?;
        let done: Vec<_> = open
            .into_iter()
            .filter(|found| {
                let mapped = caller
                    .status_maps
                    .map(&found.system, &found.code, &found.name);
                mapped != Mapped::Unmapped
            })
            .collect();
        if !done.is_empty() {
            tracing::info!(
                event = "statuses_mapped",
                party = %caller.party,
                count = done.len()
            );
            store.forget_unmapped(&caller.party, done).await?;
        }
    }
    Ok(())
}
