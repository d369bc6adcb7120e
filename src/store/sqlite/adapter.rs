//! What the store of a region's node does besides.

use futures_util::FutureExt as _;

use crate::{
    domain::{Micros, PartyId},
    exchange::{Direction, Place},
    store::{
        AdapterStore, Answer, CopyWanted, Heads, Pruned, ReceiveBatch, ReceivedCopy, ReceivedEntry,
        Store, StoreError,
    },
};

use super::{SqliteStore, writer::Message};

impl SqliteStore {
    /// Appends what was set aside again, in pages; other parties' writes go
    /// in between, this party's newer ones do not.
    async fn reappend(&self, party: &PartyId) -> Result<Heads, StoreError> {
        loop {
            let name = party.clone();
            if self.write(move |tx| tx.reappend_page(&name)).await? {
                return self.heads(party).await;
            }
        }
    }

    /// As [`Store::acknowledge`], in pages where something waits to be appended again.
    pub(super) async fn acknowledged(
        &self,
        party: PartyId,
        direction: Direction,
        place: Place,
    ) -> Result<(), StoreError> {
        loop {
            let of = party.clone();
            // Nobody waits for it: a peer tells again where it stands.
            let done = self.write_as(Message::Later, move |tx| {
                tx.acknowledge(&of, direction, place)
            });
            if done.await? {
                return Ok(());
            }
        }
    }
}

impl AdapterStore for SqliteStore {
    fn receive(&self, party: &PartyId, batch: ReceiveBatch) -> Answer<'_, Place> {
        let party = party.clone();
        async move {
            let epoch = match self.shared.memory.epoch(&party) {
                Some(epoch) => epoch,
                None => self.heads(&party).await?.epoch,
            };
            let met = self.shared.expected.met_by(&party, &batch.entries, epoch);
            // The hub has it on its disk; here it is on its way. Whoever asks
            // from now on, by reading or writing, comes after it.
            // The fence comes back with the outcome: it stands until the commit,
            // whether or not somebody still waits for that here.
            let fence = (!met.is_empty()).then(|| self.shared.fence.raise());
            let stored = self
                .enqueue(Message::Later, move |tx| {
                    Ok((tx.receive(&party, &batch)?, fence))
                })
                .await?;
            for (tell, decision) in met {
                let _ = tell.send(decision);
            }
            let (place, _fence) = stored.await.map_err(|_| StoreError::Closed)??;
            Ok(place)
        }
        .boxed()
    }

    fn adopt(&self, party: &PartyId, keep_through: u64, head: Place) -> Answer<'_, Heads> {
        let party = party.clone();
        async move {
            let name = party.clone();
            self.write(move |tx| tx.adopt(&name, keep_through, head))
                .await?;
            let heads = self.reappend(&party).await?;
            let theirs = keep_through + 1..=head.position;
            self.shared.expected.adopted(&party, heads.epoch, theirs);
            Ok(heads)
        }
        .boxed()
    }

    fn adopt_epoch(&self, party: &PartyId, epoch: u64, resend_after: u64) -> Answer<'_, Heads> {
        let party = party.clone();
        async move {
            let name = party.clone();
            // From now on the disk is asked what is left of ended epochs.
            self.earlier().insert(party.clone());
            self.write(move |tx| tx.adopt_epoch(&name, epoch, resend_after))
                .await?;
            self.reappend(&party).await
        }
        .boxed()
    }

    fn fill_copy(
        &self,
        party: &PartyId,
        first: u64,
        entries: Vec<ReceivedCopy>,
    ) -> Answer<'_, Option<CopyWanted>> {
        let party = party.clone();
        self.write(move |tx| tx.fill_copy(&party, first, &entries))
    }

    fn read_again(
        &self,
        party: &PartyId,
        place: (u64, u64),
        received: ReceivedEntry,
    ) -> Answer<'_, bool> {
        let party = party.clone();
        self.write(move |tx| tx.read_again(&party, place, &received))
    }

    fn drop_unread(&self, party: &PartyId, place: (u64, u64)) -> Answer<'_, bool> {
        let party = party.clone();
        self.write(move |tx| tx.drop_unread(&party, place))
    }

    fn prune(&self, party: &PartyId, before: Micros, now: Micros) -> Answer<'_, Pruned> {
        let party = party.clone();
        async move {
            let name = party.clone();
            let journals = self.write(move |tx| {
                let journals = tx.submission_journals(&name)?;
                for journal in &journals {
                    tx.note_settled(&name, *journal, (before, now))?;
                }
                Ok(journals)
            });
            let mut all = Pruned::default();
            for journal in journals.await? {
                let mut is_over = false;
                while !is_over {
                    let name = party.clone();
                    // Others' writes go in between.
                    let page = self.write(move |tx| {
                        let mut pruned = Pruned::default();
                        let more = tx.prune_page(&name, journal, before, &mut pruned)?;
                        Ok((pruned, more))
                    });
                    let (pruned, more) = page.await?;
                    all.entries += pruned.entries;
                    all.bytes += pruned.bytes;
                    is_over = !more;
                }
            }
            Ok(all)
        }
        .boxed()
    }

    fn adopt_consumed(&self, party: &PartyId, through: u64) -> Answer<'_, ()> {
        let party = party.clone();
        self.write(move |tx| {
            let state = tx.state(&party)?;
            state.consumed = state.consumed.max(through);
            tx.touch(&party);
            Ok(())
        })
    }
}
