//! Lets go of what was settled long ago: once after the start, then daily.
//!
//! Invariants: the clock that is passed in says what is old; a failure is told
//! and tried again the next day, and stops nothing.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Micros, PartyId},
    runtime::Clock,
    store::AdapterStore,
};

const DAY_MICROS: i64 = 86_400_000_000;
/// How often the clock is asked whether a day has passed.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Runs until `stop`.
pub(super) async fn prune(
    (store, clock): (Arc<dyn AdapterStore>, Arc<dyn Clock>),
    parties: Vec<PartyId>,
    keep_days: u32,
    stop: CancellationToken,
) {
    let mut last = None;
    loop {
        let now = clock.now_micros();
        // A clock that was put back must not keep this from running.
        let is_due = last.is_none_or(|last: i64| (now - last).abs() >= DAY_MICROS);
        if is_due {
            last = Some(now);
            let before = Micros(now.saturating_sub(i64::from(keep_days) * DAY_MICROS));
            let all = prune_all(&*store, &parties, (before, Micros(now)));
            tokio::select! {
                () = stop.cancelled() => return,
                () = all => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn prune_all(store: &dyn AdapterStore, parties: &[PartyId], (before, now): (Micros, Micros)) {
    for party in parties {
        match store.prune(party, before, now).await {
            Ok(pruned) => {
                tracing::info!(
                    event = "pruned",
                    %party,
                    entries = pruned.entries,
                    bytes = pruned.bytes
                );
            }
            Err(error) => tracing::warn!(event = "not_pruned", %party, %error),
        }
    }
}
