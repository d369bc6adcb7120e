//! Where journals stand, asked for many parties at once.
//!
//! A commit wakes the links of all parties that it touches, and each of them looks
//! where its journals stand. Whoever comes first asks for all who have come by
//! then; who comes while that is under way is of the next round. Nobody waits for
//! company.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    domain::PartyId,
    store::{Heads, StoreError},
};

use super::{PostgresStore, journal};

/// A connection that fails so soon was lost: another one may do.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Who asks, and where the answer goes.
struct Look {
    party: PartyId,
    tell: oneshot::Sender<Result<Heads, StoreError>>,
}

/// Who has asked and has no answer yet.
#[derive(Default)]
pub(super) struct Looks {
    waiting: Mutex<Vec<Look>>,
    /// Held by whoever asks for all.
    turn: tokio::sync::Mutex<()>,
}

impl Looks {
    fn join(&self, party: &PartyId) -> oneshot::Receiver<Result<Heads, StoreError>> {
        let (tell, told) = oneshot::channel();
        let look = Look {
            party: party.clone(),
            tell,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(look);
        told
    }

    fn take(&self) -> Vec<Look> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    }
}

impl PostgresStore {
    /// Where a party's journals stand.
    pub(super) async fn look(&self, party: &PartyId) -> Result<Heads, StoreError> {
        let looks = &self.shared.looks;
        loop {
            let mut told = looks.join(party);
            let turn = tokio::select! {
                biased;
                answer = &mut told => match answer {
                    Ok(answer) => return answer,
                    // Who asked for all was given up halfway.
                    Err(_) => continue,
                },
                turn = looks.turn.lock() => turn,
            };
            self.look_for(looks.take()).await;
            drop(turn);
            if let Ok(answer) = told.await {
                return answer;
            }
        }
    }

    async fn look_for(&self, looks: Vec<Look>) {
        let parties: Vec<&PartyId> = looks.iter().map(|look| &look.party).collect();
        let find = async || journal::heads_of(&*self.reader().await?, &parties).await;
        let began = Instant::now();
        let found = match find().await {
            // One connection that is lost must not end the links of all.
            Err(StoreError::Unavailable(_)) if began.elapsed() < AT_ONCE => find().await,
            found => found,
        };
        for Look { party, tell } in looks {
            let answer = match &found {
                Ok(found) => match found.get(&party) {
                    Some(heads) => heads.clone(),
                    None => Ok(journal::never_seen(&party)),
                },
                Err(error) => Err(error.clone()),
            };
            // Whoever waits no more needs none.
            let _ = tell.send(answer);
        }
    }
}
