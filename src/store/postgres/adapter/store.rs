//! The contract of a store, and of an adapter's.

use std::future::ready;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::{oneshot, watch};

use crate::{
    domain::{
        ComplaintId, ComplaintName, Decision, EventId, Micros, PartState, PartyId, SystemName,
    },
    exchange::{Direction, Place},
    store::{
        AdapterStore, Answer, ComplaintRecord, CopyWanted, Counts, DeadLetter, EarlierInbox, Heads,
        JournalEntry, LetterName, NewSubmission, Pruned, Receipt, ReceiveBatch, ReceivedCopy,
        ReceivedEntry, Store, StoreError, SubmitRefusal, UnmappedStatus, entry_size,
    },
};

use super::{
    super::{
        letters::{named, to_settle},
        work_items::unmapped,
    },
    PostgresAdapterStore,
    alone::Alone,
    journal, letters,
    queue::Message,
    view, work_items, writer,
};

/// What a row of a journal brings about beside its bytes: other rows, and work.
const ROW_BYTES: usize = 4_096;
/// A chain of the deliveries is kept when so many rows had to be hashed for it.
const MARK_EVERY: u64 = 1_024;

impl Store for PostgresAdapterStore {
    fn instance_id(&self) -> [u8; 16] {
        self.shared.instance_id
    }

    fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        self.shared.wakers.watch(party)
    }

    fn heads(&self, party: &PartyId) -> Answer<'_, Heads> {
        if let Some(heads) = self.shared.memory.heads(party) {
            return ready(Ok(heads)).boxed();
        }
        let party = party.clone();
        async move { journal::heads(&*self.reader().await?, &party).await }.boxed()
    }

    fn read(
        &self,
        party: &PartyId,
        direction: Direction,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Answer<'_, Vec<JournalEntry>> {
        let max = (max_entries, max_bytes);
        let memory = &self.shared.memory;
        if let Some(entries) = memory.read(party, direction, from, max.0, max.1) {
            return ready(Ok(entries)).boxed();
        }
        let party = party.clone();
        async move { journal::read(&*self.reader().await?, &party, direction, from, max).await }
            .boxed()
    }

    fn place_at(
        &self,
        party: &PartyId,
        direction: Direction,
        position: u64,
    ) -> Answer<'_, Option<Place>> {
        let party = party.clone();
        async move {
            let reader = self.reader().await?;
            let found = journal::place_at(&reader, &party, direction, position).await?;
            drop(reader);
            let Some((place, hashed)) = found else {
                return Ok(None);
            };
            if hashed >= MARK_EVERY {
                self.write(move |world| world.mark(&party, place)).await?;
            }
            Ok(Some(place))
        }
        .boxed()
    }

    fn acknowledge(&self, party: &PartyId, direction: Direction, place: Place) -> Answer<'_, ()> {
        let party = party.clone();
        // Each link that opens says what the hub holds: what was set aside, and could
        // not be appended again at once, need not wait for a hand-over.
        let goes_again = match direction {
            Direction::Submissions => vec![party.clone()],
            Direction::Deliveries => Vec::new(),
        };
        let (job, told) = writer::job(goes_again, 0, move |world| {
            world.acknowledge(&party, direction, place)
        });
        // Nobody waits for it: a peer tells again where it stands.
        self.send(Message::Later(job), told)
    }

    fn consume(&self, party: &PartyId, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        self.write(move |world| world.consume(&party, None, through))
    }

    fn earlier_inboxes(&self, party: &PartyId) -> Answer<'_, Vec<EarlierInbox>> {
        if !self.earlier().contains(party) {
            return ready(Ok(Vec::new())).boxed();
        }
        let party = party.clone();
        async move { journal::earlier(&*self.reader().await?, &party).await }.boxed()
    }

    fn knows_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, bool> {
        let party = party.clone();
        async move { journal::knows_epoch(&*self.reader().await?, &party, epoch).await }.boxed()
    }

    fn read_earlier(
        &self,
        party: &PartyId,
        from: (u64, u64),
        max: (usize, usize),
    ) -> Answer<'_, Vec<JournalEntry>> {
        let party = party.clone();
        async move { journal::read_earlier(&*self.reader().await?, &party, from, max).await }
            .boxed()
    }

    fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> Answer<'_, u64> {
        let party = party.clone();
        self.write(move |world| world.consume(&party, Some(epoch), through))
    }

    fn submit(
        &self,
        batch: Vec<NewSubmission>,
        now: Micros,
    ) -> Answer<'_, Vec<Result<Receipt, SubmitRefusal>>> {
        let mut parties: Vec<PartyId> = batch.iter().map(|new| new.party.clone()).collect();
        parties.sort_unstable();
        parties.dedup();
        let size = batch.iter().map(|new| {
            let parts = new.parts.iter().map(|part| match &part.state {
                PartState::Present(bytes) => bytes.len(),
                PartState::Withheld | PartState::Erased(_) => 0,
            });
            ROW_BYTES + new.event_bytes.len() + parts.sum::<usize>()
        });
        let size = size.sum();
        let (job, told) = writer::job(parties, size, move |world| world.submit(&batch, now));
        self.send(Message::Write(job), told)
    }

    fn find(
        &self,
        party: &PartyId,
        system: &SystemName,
        name: &ComplaintName,
    ) -> Answer<'_, Option<ComplaintId>> {
        let (party, system, name) = (party.clone(), system.clone(), name.clone());
        async move { view::find(self, &party, &system, &name).await }.boxed()
    }

    fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Answer<'_, Option<ComplaintRecord>> {
        let (party, id) = (party.clone(), *id);
        async move { view::complaint(self, &party, &id).await }.boxed()
    }

    fn receipt(
        &self,
        party: &PartyId,
        event: &EventId,
        _: &ComplaintId,
    ) -> Answer<'_, Option<Receipt>> {
        let (party, event) = (party.clone(), *event);
        async move { view::receipt(self, &party, &event).await }.boxed()
    }

    fn expect(&self, event: &EventId) -> oneshot::Receiver<Decision> {
        self.shared.expected.wait(event)
    }

    fn counts(&self, party: &PartyId) -> Answer<'_, Counts> {
        let party = party.clone();
        async move { journal::counts(&*self.reader().await?, &party).await }.boxed()
    }

    fn unmapped(&self, party: &PartyId, limit: usize) -> Answer<'_, Vec<UnmappedStatus>> {
        let party = party.clone();
        async move { unmapped(&*self.reader().await?, &party, limit).await }.boxed()
    }

    fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> Answer<'_, ()> {
        let party = party.clone();
        self.write(move |world| {
            let keys = statuses.iter().map(|found| {
                let named = (found.code.as_str(), found.name.as_str());
                work_items::key(party.as_str(), found.system.as_str(), named)
            });
            world.job().settled_work.extend(keys);
            Ok(())
        })
    }

    fn dead_letters(
        &self,
        only: Option<&PartyId>,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<DeadLetter>> {
        let only = only.cloned();
        async move {
            let reader = self.reader().await?;
            to_settle(&reader, letters::UNREAD, (only.as_ref(), after), limit).await
        }
        .boxed()
    }

    fn letters_named(&self, name: &LetterName) -> Answer<'_, Vec<DeadLetter>> {
        let name = name.clone();
        async move { named(&*self.reader().await?, &name, &letters::OF_ADAPTER).await }.boxed()
    }

    fn unread(&self, party: &PartyId) -> Answer<'_, u64> {
        let party = party.clone();
        async move { letters::count_unread(&*self.reader().await?, &party).await }.boxed()
    }

    fn probe(&self) -> Answer<'_, ()> {
        // Each commit writes who has written.
        self.write(|_| Ok(()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let (done, closed) = oneshot::channel();
            if self.queue.send(Message::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
            self.shared.database.close();
        }
        .boxed()
    }
}

impl PostgresAdapterStore {
    /// Appends what was set aside again, in pages; other parties' writes go in
    /// between, this party's newer ones do not.
    async fn reappend(&self, party: &PartyId) -> Result<Heads, StoreError> {
        loop {
            let party = party.clone();
            if self.alone(|tell| Alone::Reappend(party, tell)).await? {
                break;
            }
        }
        self.heads(party).await
    }
}

impl AdapterStore for PostgresAdapterStore {
    fn receive(&self, party: &PartyId, batch: ReceiveBatch) -> Answer<'_, Place> {
        let party = party.clone();
        async move {
            let epoch = match self.shared.memory.epoch(&party) {
                Some(epoch) => epoch,
                None => self.heads(&party).await?.epoch,
            };
            let met = self.shared.expected.met_by(&party, &batch.entries, epoch);
            // The hub has it on its disk; here it is on its way. Whoever asks from now
            // on, by reading or writing, comes after it. The fence goes with the job:
            // it stands until that is answered, whether or not somebody still waits.
            let fence = (!met.is_empty()).then(|| self.shared.fence.raise());
            let entries = batch.entries.iter();
            let size = entries.map(|received| ROW_BYTES + entry_size(&received.entry));
            let (job, told) = writer::job(Vec::new(), size.sum(), move |world| {
                let _stands = &fence;
                world.receive(&party, &batch)
            });
            let queued = self.queue.send(Message::Later(job)).await;
            queued.map_err(|_| StoreError::Closed)?;
            for (tell, decision) in met {
                let _ = tell.send(decision);
            }
            told.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }

    fn adopt(&self, party: &PartyId, keep_through: u64, head: Place) -> Answer<'_, Heads> {
        let party = party.clone();
        async move {
            let of = party.clone();
            self.alone(|tell| Alone::Adopt(of, (keep_through, head), tell))
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
            // From now on the database is asked what is left of ended epochs.
            self.earlier().insert(party.clone());
            let of = party.clone();
            self.alone(|tell| Alone::AdoptEpoch(of, (epoch, resend_after), tell))
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
        let size = entries
            .iter()
            .map(|copy| ROW_BYTES + entry_size(&copy.entry));
        let (job, told) = writer::job(Vec::new(), size.sum(), move |world| {
            world.fill_copy(&party, first, &entries)
        });
        self.send(Message::Write(job), told)
    }

    fn read_again(
        &self,
        party: &PartyId,
        place: (u64, u64),
        received: ReceivedEntry,
    ) -> Answer<'_, bool> {
        let party = party.clone();
        self.write(move |world| world.read_again(&party, place, &received))
    }

    fn drop_unread(&self, party: &PartyId, place: (u64, u64)) -> Answer<'_, bool> {
        let party = party.clone();
        self.write(move |world| world.drop_unread(&party, place))
    }

    fn prune(&self, party: &PartyId, before: Micros, now: Micros) -> Answer<'_, Pruned> {
        let party = party.clone();
        async move {
            let of = party.clone();
            let journals = self.alone(|tell| Alone::NoteSettled(of, (before, now), tell));
            let mut all = Pruned::default();
            for journal in journals.await? {
                let mut is_over = false;
                while !is_over {
                    let of = party.clone();
                    // Others' writes go in between.
                    let page = self.alone(|tell| Alone::Prune(of, (journal, before), tell));
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
        self.write(move |world| world.adopt_consumed(&party, through))
    }
}
