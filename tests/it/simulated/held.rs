//! A real store under simulated time. Its writer is a thread that the clock of
//! the test does not see, so the clock stands while an answer is awaited: a
//! commit takes no time.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, poll_immediate},
};
use jembatan::{
    domain::{
        ComplaintId, ComplaintName, Decision, Event, EventId, InstitutionCode, Micros, PartyId,
        Rejection, SystemName,
    },
    exchange::{Direction, Place},
    store::{
        AcceptBatch, AdapterStore, Answer, ComplaintRecord, CopyWanted, Counts, DeadLetter,
        DirectoryChange, EarlierInbox, EndedEpoch, Heads, HubStore, Invitation, InvitationUse,
        IssuedCertificate, JournalEntry, LetterName, NewSubmission, Pruned, Receipt, ReceiveBatch,
        ReceivedCopy, ReceivedEntry, RefusedJoin, Registry, SessionToken, Store, SubmitRefusal,
        UnmappedStatus, sqlite::SqliteStore,
    },
};
use tokio::sync::{oneshot, watch};

/// The store.
pub(super) struct Held(pub(super) SqliteStore);

/// While it lives, simulated time stands: work on a thread for blocking calls
/// is the one kind that tokio's paused clock waits for.
struct StandingClock {
    _release: std::sync::mpsc::Sender<()>,
}

impl StandingClock {
    fn new() -> Self {
        let (release, released) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || {
            let _ = released.recv();
        });
        Self { _release: release }
    }
}

fn held<'a, T: Send + 'a>(answer: impl Future<Output = T> + Send + Unpin + 'a) -> BoxFuture<'a, T> {
    async move {
        let mut answer = answer;
        if let Some(found) = poll_immediate(&mut answer).await {
            return found;
        }
        let _standing = StandingClock::new();
        answer.await
    }
    .boxed()
}

macro_rules! hold {
    ($(fn $name:ident(&self $(, $given:ident: $type:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $given: $type)*) -> Answer<'_, $out> {
            held(self.0.$name($($given),*))
        })*
    };
}

impl Store for Held {
    fn look_every(&self) -> Duration {
        self.0.look_every()
    }

    fn instance_id(&self) -> [u8; 16] {
        self.0.instance_id()
    }

    fn watch(&self, party: &PartyId) -> watch::Receiver<u64> {
        self.0.watch(party)
    }

    fn expect(&self, event: &EventId) -> oneshot::Receiver<Decision> {
        self.0.expect(event)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        held(self.0.close())
    }

    hold! {
        fn heads(&self, party: &PartyId) -> Heads;
        fn read(&self, party: &PartyId, direction: Direction, from: u64, entries: usize, bytes: usize) -> Vec<JournalEntry>;
        fn place_at(&self, party: &PartyId, direction: Direction, position: u64) -> Option<Place>;
        fn acknowledge(&self, party: &PartyId, direction: Direction, place: Place) -> ();
        fn consume(&self, party: &PartyId, through: u64) -> u64;
        fn earlier_inboxes(&self, party: &PartyId) -> Vec<EarlierInbox>;
        fn knows_epoch(&self, party: &PartyId, epoch: u64) -> bool;
        fn read_earlier(&self, party: &PartyId, from: (u64, u64), max: (usize, usize)) -> Vec<JournalEntry>;
        fn consume_in(&self, party: &PartyId, epoch: u64, through: u64) -> u64;
        fn submit(&self, batch: Vec<NewSubmission>, now: Micros) -> Vec<Result<Receipt, SubmitRefusal>>;
        fn find(&self, party: &PartyId, system: &SystemName, name: &ComplaintName) -> Option<ComplaintId>;
        fn complaint(&self, party: &PartyId, id: &ComplaintId) -> Option<ComplaintRecord>;
        fn receipt(&self, party: &PartyId, event: &EventId, complaint: &ComplaintId) -> Option<Receipt>;
        fn counts(&self, party: &PartyId) -> Counts;
        fn unmapped(&self, party: &PartyId, limit: usize) -> Vec<UnmappedStatus>;
        fn forget_unmapped(&self, party: &PartyId, statuses: Vec<UnmappedStatus>) -> ();
        fn probe(&self) -> ();
        fn dead_letters(&self, only: Option<&PartyId>, after: u64, limit: usize) -> Vec<DeadLetter>;
        fn letters_named(&self, name: &LetterName) -> Vec<DeadLetter>;
        fn unread(&self, party: &PartyId) -> u64;
    }
}

impl AdapterStore for Held {
    hold! {
        fn receive(&self, party: &PartyId, batch: ReceiveBatch) -> Place;
        fn adopt(&self, party: &PartyId, keep_through: u64, head: Place) -> Heads;
        fn adopt_epoch(&self, party: &PartyId, epoch: u64, resend_after: u64) -> Heads;
        fn fill_copy(&self, party: &PartyId, first: u64, entries: Vec<ReceivedCopy>) -> Option<CopyWanted>;
        fn adopt_consumed(&self, party: &PartyId, through: u64) -> ();
        fn read_again(&self, party: &PartyId, place: (u64, u64), received: ReceivedEntry) -> bool;
        fn drop_unread(&self, party: &PartyId, place: (u64, u64)) -> bool;
        fn prune(&self, party: &PartyId, before: Micros, now: Micros) -> Pruned;
    }
}

impl HubStore for Held {
    fn registry(&self) -> watch::Receiver<Arc<Registry>> {
        self.0.registry()
    }

    hold! {
        fn open_session(&self, party: &PartyId, token: SessionToken) -> Heads;
        fn accept(&self, party: &PartyId, batch: AcceptBatch) -> Place;
        fn ended_epoch(&self, party: &PartyId, epoch: u64) -> Option<EndedEpoch>;
        fn catch_up(&self, party: &PartyId, node_epoch: u64, received: u64) -> ();
        fn mark(&self, party: &PartyId, place: Place) -> ();
        fn change_directory(&self, change: DirectoryChange) -> ();
        fn retell(&self) -> ();
        fn revoke(&self, serial: String, note: String, now: Micros) -> ();
        fn orphans(&self) -> Vec<(ComplaintId, Option<InstitutionCode>)>;
        fn in_triage(&self) -> u64;
        fn decide_again(&self, party: &PartyId, place: (u64, u64), event: Event, now: Micros) -> Option<Decision>;
        fn drop_parked(&self, party: &PartyId, place: (u64, u64), rejection: Rejection, now: Micros) -> Option<Decision>;
        fn put_invitation(&self, invitation: Invitation) -> ();
        fn invitation(&self, id: &str) -> Option<Invitation>;
        fn invitations(&self) -> Vec<Invitation>;
        fn revoke_invitation(&self, id: &str, now: Micros) -> bool;
        fn record_issued(&self, certificate: IssuedCertificate, used: Option<InvitationUse>) -> bool;
        fn issued_to(&self, party: &PartyId) -> Vec<IssuedCertificate>;
        fn note_refused_join(&self, refused: RefusedJoin) -> ();
        fn refused_joins(&self) -> Vec<RefusedJoin>;
    }
}
