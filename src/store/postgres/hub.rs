//! What the hub's store does besides: sessions, acceptance, the directory.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::{
    domain::{ComplaintId, Decision, Event, InstitutionCode, Micros, PartyId, Rejection},
    exchange::Place,
    store::{
        AcceptBatch, Answer, DirectoryChange, EndedEpoch, Heads, HubStore, Invitation,
        InvitationUse, IssuedCertificate, RefusedJoin, Registry, SessionToken, Store as _,
    },
};

use super::{
    PostgresStore,
    again::{How, Settling},
    damaged, directory, enrolment, epoch,
    jobs::Work,
    journal,
    rows::{id16, number},
    session::{execute, one, rows},
};

pub(super) const OWNERS: &str = "SELECT DISTINCT handler FROM complaint WHERE is_open";
pub(super) const OPEN: &str = "SELECT complaint_id FROM complaint WHERE is_open AND handler IS NOT DISTINCT FROM $1 LIMIT 1000";
pub(super) const IN_TRIAGE: &str =
    "SELECT count(*) FROM complaint WHERE is_open AND handler IS NULL";

impl HubStore for PostgresStore {
    fn open_session(&self, party: &PartyId, token: SessionToken) -> Answer<'_, Heads> {
        let party = party.clone();
        async move {
            // Behind the writer: a server that can't commit now, for want of a
            // standby, is not asked by a thousand parties at once, each of
            // which would leave a connection there that waits.
            self.probe().await?;
            let reader = self.small_write().await?;
            // On the connection that is held: whoever waits for a second one
            // while all are held by such as he waits for himself.
            if !directory::has_begun(&reader, &party).await? {
                directory::begin_party(&reader, &self.shared, &party).await?;
            }
            execute(
                &reader,
                "UPDATE submission_head SET token = $2 WHERE party = $1",
                &[&party.as_str(), &token.0.as_slice()],
            )
            .await?;
            journal::heads(&reader, &party).await
        }
        .boxed()
    }

    fn accept(&self, party: &PartyId, batch: AcceptBatch) -> Answer<'_, Place> {
        let done = self.write(Work::Accept(party.clone(), batch));
        done.map(|done| done?.place()).boxed()
    }

    fn ended_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, Option<EndedEpoch>> {
        let party = party.clone();
        async move { epoch::ended(&*self.reader().await?, &party, epoch).await }.boxed()
    }

    fn catch_up(&self, party: &PartyId, node_epoch: u64, received: u64) -> Answer<'_, ()> {
        let party = party.clone();
        async move {
            self.tell_what_is_lacking(&party, node_epoch, received)
                .await
        }
        .boxed()
    }

    fn decide_again(
        &self,
        party: &PartyId,
        place: (u64, u64),
        event: Event,
        now: Micros,
    ) -> Answer<'_, Option<Decision>> {
        self.settle(Settling {
            party: party.clone(),
            place,
            how: How::Decide(Box::new(event)),
            now,
        })
    }

    fn drop_parked(
        &self,
        party: &PartyId,
        place: (u64, u64),
        rejection: Rejection,
        now: Micros,
    ) -> Answer<'_, Option<Decision>> {
        self.settle(Settling {
            party: party.clone(),
            place,
            how: How::Reject(rejection),
            now,
        })
    }

    fn mark(&self, party: &PartyId, place: Place) -> Answer<'_, ()> {
        let party = party.clone();
        async move { journal::mark(&*self.reader().await?, &party, place).await }.boxed()
    }

    fn registry(&self) -> watch::Receiver<Arc<Registry>> {
        self.shared.registry.subscribe()
    }

    fn change_directory(&self, change: DirectoryChange) -> Answer<'_, ()> {
        let store = self.clone();
        self.outliving(async move { store.change(&change).await })
    }

    fn retell(&self) -> Answer<'_, ()> {
        self.retell_all().boxed()
    }

    fn revoke(&self, serial: String, note: String, now: Micros) -> Answer<'_, ()> {
        let store = self.clone();
        self.outliving(async move { store.add_revoked(&serial, &note, now).await })
    }

    fn orphans(&self) -> Answer<'_, Vec<(ComplaintId, Option<InstitutionCode>)>> {
        async move {
            let reader = self.reader().await?;
            let registry = self.shared.registry.borrow().clone();
            let directory = &registry.directory;
            let mut orphans = Vec::new();
            for row in rows(&reader, OWNERS, &[]).await? {
                let owner: Option<&str> = row.try_get(0)?;
                let handler = owner
                    .map(InstitutionCode::parse)
                    .transpose()
                    .map_err(|_| damaged("an institution's code"))?;
                let is_read = match &handler {
                    Some(handler) => directory.reader_of(handler).is_some(),
                    None => directory.triage_reader().is_some(),
                };
                if is_read {
                    continue;
                }
                for found in rows(&reader, OPEN, &[&owner]).await? {
                    let id = ComplaintId::from_bytes(id16(found.try_get(0)?)?);
                    orphans.push((id, handler.clone()));
                }
            }
            Ok(orphans)
        }
        .boxed()
    }

    fn in_triage(&self) -> Answer<'_, u64> {
        async move {
            let reader = self.reader().await?;
            number(&one(&reader, IN_TRIAGE, &[]).await?, 0)
        }
        .boxed()
    }

    fn put_invitation(&self, invitation: Invitation) -> Answer<'_, ()> {
        let shared = self.shared.clone();
        self.outliving(async move { enrolment::put(&shared.database, &invitation).await })
    }

    fn invitation(&self, id: &str) -> Answer<'_, Option<Invitation>> {
        let id = id.to_owned();
        async move { enrolment::invitation(&*self.reader().await?, &id).await }.boxed()
    }

    fn invitations(&self) -> Answer<'_, Vec<Invitation>> {
        async move { enrolment::invitations(&*self.reader().await?).await }.boxed()
    }

    fn revoke_invitation(&self, id: &str, now: Micros) -> Answer<'_, bool> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        self.outliving(async move { enrolment::revoke(&shared.database, &id, now).await })
    }

    fn record_issued(
        &self,
        certificate: IssuedCertificate,
        used: Option<InvitationUse>,
    ) -> Answer<'_, bool> {
        let shared = self.shared.clone();
        self.outliving(async move {
            enrolment::record_issued(&shared.database, &certificate, used.as_ref()).await
        })
    }

    fn issued_to(&self, party: &PartyId) -> Answer<'_, Vec<IssuedCertificate>> {
        let party = party.clone();
        async move { enrolment::issued_to(&*self.reader().await?, &party).await }.boxed()
    }

    fn note_refused_join(&self, refused: RefusedJoin) -> Answer<'_, ()> {
        async move { enrolment::note_refused(&*self.reader().await?, &refused).await }.boxed()
    }

    fn refused_joins(&self) -> Answer<'_, Vec<RefusedJoin>> {
        async move { enrolment::refused_joins(&*self.reader().await?).await }.boxed()
    }
}

impl PostgresStore {
    fn settle(&self, settling: Settling) -> Answer<'_, Option<Decision>> {
        let done = self.write(Work::Settle(Box::new(settling)));
        done.map(|done| done?.decision()).boxed()
    }
}
