//! Work that has a transaction of its own, and who waits for it.

use tokio::sync::oneshot;

use crate::{
    domain::{Micros, PartyId},
    exchange::Place,
    store::{Pruned, StoreError, memory::Fresh},
};

use super::{
    super::{error::Failure, session::Session},
    moving, prune,
    world::World,
};

/// Who waits for an outcome.
pub(super) type Tell<T> = Option<oneshot::Sender<Result<T, StoreError>>>;

/// See the module.
pub(super) enum Alone {
    /// Keep own submissions through here, take this as head.
    Adopt(PartyId, (u64, Place), Tell<()>),
    /// Enter this epoch, send again what is after this.
    AdoptEpoch(PartyId, (u64, u64), Tell<()>),
    /// A page of what was set aside; whether nothing is left.
    Reappend(PartyId, Tell<bool>),
    /// Note what is settled; the journals to look through.
    NoteSettled(PartyId, (Micros, Micros), Tell<Vec<i64>>),
    /// Let go of a page of a journal; whether there may be more.
    Prune(PartyId, (i64, Micros), Tell<(Pruned, bool)>),
}

/// What came of it.
pub(super) enum Done {
    Nothing,
    Flag(bool),
    Journals(Vec<i64>),
    Pruned(Pruned, bool),
}

impl Alone {
    pub(super) async fn carry_out(
        &self,
        client: &Session,
        world: &mut World,
    ) -> Result<Done, Failure> {
        match self {
            Self::Adopt(party, to, _) => {
                moving::adopt(client, world, party, *to).await?;
                Ok(Done::Nothing)
            }
            Self::AdoptEpoch(party, to, _) => {
                moving::adopt_epoch(client, world, party, *to).await?;
                Ok(Done::Nothing)
            }
            Self::Reappend(party, _) => {
                let is_done = moving::reappend(client, world, party).await?;
                Ok(Done::Flag(is_done))
            }
            Self::NoteSettled(party, moments, _) => {
                let journals = prune::note_settled(client, world, party, *moments).await?;
                Ok(Done::Journals(journals))
            }
            Self::Prune(party, of, _) => {
                let (pruned, more) = prune::page(client, world, party, *of).await?;
                // Memory keeps no longer what the database has let go of.
                world.job().fresh.push(Fresh::Forget(party.clone()));
                Ok(Done::Pruned(pruned, more))
            }
        }
    }

    /// It was committed, or why not.
    pub(super) fn answer(&mut self, outcome: Result<Done, StoreError>) {
        match (self, outcome) {
            (Self::Adopt(_, _, tell) | Self::AdoptEpoch(_, _, tell), outcome) => {
                say(tell, outcome.map(|_| ()));
            }
            (Self::Reappend(_, tell), outcome) => {
                say(tell, outcome.map(|done| matches!(done, Done::Flag(true))));
            }
            (Self::NoteSettled(_, _, tell), outcome) => say(
                tell,
                outcome.map(|done| match done {
                    Done::Journals(journals) => journals,
                    _ => Vec::new(),
                }),
            ),
            (Self::Prune(_, _, tell), outcome) => say(
                tell,
                outcome.map(|done| match done {
                    Done::Pruned(pruned, more) => (pruned, more),
                    _ => (Pruned::default(), false),
                }),
            ),
        }
    }
}

fn say<T>(tell: &mut Tell<T>, outcome: Result<T, StoreError>) {
    if let Some(tell) = tell.take() {
        // Nobody waits any more: what was written stays written.
        let _ = tell.send(outcome);
    }
}
