//! What the hub's store does besides: sessions, acceptance, the directory.

use futures_util::FutureExt as _;
use std::sync::Arc;

use rusqlite::params;
use tokio::sync::watch;

use crate::{
    domain::{ComplaintId, Decision, Event, EventId, InstitutionCode, Micros, PartyId, Rejection},
    exchange::{Direction, Entry, Place},
    store::{
        AcceptBatch, Answer, DirectoryChange, EndedEpoch, Heads, HubStore, IncomingEntry,
        Invitation, InvitationUse, IssuedCertificate, NewSubmission, Receipt, RefusedJoin,
        Registry, SessionToken, StoreError, SubmitRefusal, told::Pending,
    },
};

use super::{
    SqliteStore, damaged, enrolment, epoch,
    journal::row_id,
    lookup::{Whose, complaint_row},
    writer::Tx,
};

impl HubStore for SqliteStore {
    fn open_session(&self, party: &PartyId, token: SessionToken) -> Answer<'_, Heads> {
        let party = party.clone();
        self.write(move |tx| {
            tx.state(&party)?.token = Some(token);
            let state = tx.state(&party)?.clone();
            state.heads(tx.connection, true)
        })
    }

    fn accept(&self, party: &PartyId, batch: AcceptBatch) -> Answer<'_, Place> {
        let party = party.clone();
        self.write(move |tx| {
            let state = tx.state(&party)?;
            if state.token != Some(batch.token) {
                return Err(StoreError::Fenced);
            }
            if state.head != batch.expected {
                return Err(StoreError::Mismatch(format!(
                    "submissions stand at {}, not at {}",
                    state.head.position, batch.expected.position
                )));
            }
            let mut pending = None;
            for incoming in &batch.entries {
                tx.accept_one(&party, incoming, batch.now, &mut pending)?;
            }
            tx.flush_pending(pending, batch.now)?;
            let head = tx.state(&party)?.head;
            if head != batch.head {
                return Err(StoreError::Mismatch(
                    "the entries do not end in the chain that was named".to_owned(),
                ));
            }
            Ok(head)
        })
    }

    fn ended_epoch(&self, party: &PartyId, epoch: u64) -> Answer<'_, Option<EndedEpoch>> {
        let party = party.clone();
        self.read(move |connection, _| epoch::ended(connection, &party, epoch))
    }

    fn catch_up(&self, party: &PartyId, node_epoch: u64, received: u64) -> Answer<'_, ()> {
        let party = party.clone();
        async move {
            let name = party.clone();
            let all = self
                .read(move |connection, _| epoch::lacking(connection, &name, node_epoch, received));
            for lacking in all.await? {
                let mut next = Some(lacking.after());
                while let Some(done) = next {
                    let name = party.clone();
                    let page = self.write(move |tx| tx.catch_up(&name, lacking, done));
                    next = page.await?;
                }
            }
            Ok(())
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
        let party = party.clone();
        self.write(move |tx| tx.decide_again(&party, place, &event, now))
    }

    fn drop_parked(
        &self,
        party: &PartyId,
        place: (u64, u64),
        rejection: Rejection,
        now: Micros,
    ) -> Answer<'_, Option<Decision>> {
        let party = party.clone();
        self.write(move |tx| tx.drop_parked(&party, place, rejection, now))
    }

    fn mark(&self, party: &PartyId, place: Place) -> Answer<'_, ()> {
        let party = party.clone();
        self.write(move |tx| tx.mark(&party, place))
    }

    fn registry(&self) -> watch::Receiver<Arc<Registry>> {
        self.shared.registry.subscribe()
    }

    fn change_directory(&self, change: DirectoryChange) -> Answer<'_, ()> {
        async move {
            let is_left = self.write(move |tx| tx.change_directory(change)).await?;
            match is_left {
                true => self.retell().await,
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn retell(&self) -> Answer<'_, ()> {
        async move {
            let mut after = None;
            loop {
                let now = self.shared.now();
                let next = self.write(move |tx| tx.retell_page(after, now)).await?;
                if next.is_none() {
                    return Ok(());
                }
                after = next;
            }
        }
        .boxed()
    }

    fn revoke(&self, serial: String, note: String, now: Micros) -> Answer<'_, ()> {
        self.write(move |tx| {
            tx.connection.execute(
                "INSERT OR IGNORE INTO revoked (serial, note, revoked_at) VALUES (?1, ?2, ?3)",
                params![serial, note, now.0],
            )?;
            // The code that led to it leads to no other certificate.
            tx.connection.execute(
                "UPDATE invitation SET revoked_at = coalesce(revoked_at, ?2) WHERE id = \
                 (SELECT invitation FROM issued_certificate WHERE serial = ?1)",
                params![serial, now.0],
            )?;
            tx.registry_changed();
            Ok(())
        })
    }

    fn orphans(&self) -> Answer<'_, Vec<(ComplaintId, Option<InstitutionCode>)>> {
        self.read(|connection, shared| {
            let registry = shared.registry.borrow().clone();
            let directory = &registry.directory;
            let mut owners = connection
                .prepare_cached("SELECT DISTINCT handler FROM complaint WHERE is_open = 1")?;
            let owners: Vec<Option<String>> = owners
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut orphans = Vec::new();
            for owner in owners {
                let handler = owner
                    .as_deref()
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
                let mut statement = connection.prepare_cached(
                    "SELECT complaint_id FROM complaint WHERE is_open = 1 AND handler IS ?1 \
                     LIMIT 1000",
                )?;
                let mut rows = statement.query([&owner])?;
                while let Some(row) = rows.next()? {
                    let id = super::blob16(&row.get::<_, Vec<u8>>(0)?)?;
                    orphans.push((ComplaintId::from_bytes(id), handler.clone()));
                }
            }
            Ok(orphans)
        })
    }

    fn in_triage(&self) -> Answer<'_, u64> {
        self.read(|connection, _| {
            let count: i64 = connection
                .prepare_cached(
                    "SELECT count(*) FROM complaint WHERE is_open = 1 AND handler IS NULL",
                )?
                .query_row([], |row| row.get(0))?;
            Ok(count as u64)
        })
    }

    fn put_invitation(&self, invitation: Invitation) -> Answer<'_, ()> {
        self.write(move |tx| tx.put_invitation(&invitation))
    }

    fn invitation(&self, id: &str) -> Answer<'_, Option<Invitation>> {
        let id = id.to_owned();
        self.read(move |connection, _| enrolment::invitation(connection, &id))
    }

    fn invitations(&self) -> Answer<'_, Vec<Invitation>> {
        self.read(|connection, _| enrolment::invitations(connection))
    }

    fn revoke_invitation(&self, id: &str, now: Micros) -> Answer<'_, bool> {
        let id = id.to_owned();
        self.write(move |tx| tx.revoke_invitation(&id, now))
    }

    fn record_issued(
        &self,
        certificate: IssuedCertificate,
        used: Option<InvitationUse>,
    ) -> Answer<'_, bool> {
        self.write(move |tx| tx.record_issued(&certificate, used.as_ref()))
    }

    fn issued_to(&self, party: &PartyId) -> Answer<'_, Vec<IssuedCertificate>> {
        let party = party.clone();
        self.read(move |connection, _| enrolment::issued_to(connection, &party))
    }

    fn note_refused_join(&self, refused: RefusedJoin) -> Answer<'_, ()> {
        self.write(move |tx| tx.note_refused_join(&refused))
    }

    fn refused_joins(&self) -> Answer<'_, Vec<RefusedJoin>> {
        self.read(|connection, _| enrolment::refused_joins(connection))
    }
}

impl Tx<'_> {
    /// Takes a hand-over of a party that stands behind the hub's own door, or
    /// is unary, and decides it at once.
    pub(super) fn submit_at_hub(
        &mut self,
        new: &NewSubmission,
        now: Micros,
        pending: &mut Option<Pending>,
    ) -> Result<Result<Receipt, SubmitRefusal>, StoreError> {
        let mac = self.shared.mac(&new.handover_digest);
        let complaint = complaint_row(self.connection, Whose::Hub, &new.event.complaint_id)?;
        if let Some(repeated) = self.repeated(new, &mac, complaint)? {
            return Ok(repeated);
        }
        let incoming = IncomingEntry {
            entry: Entry {
                header: bytes::Bytes::new(),
                event: new.event_bytes.clone(),
                parts: new.parts.clone(),
                handover_digest: Some(new.handover_digest),
            },
            event: Ok(new.event.clone()),
        };
        let decision = self.accept_one(&new.party, &incoming, now, pending)?;
        let event_id: EventId = new.event.event_id;
        Ok(Ok(Receipt {
            event_id,
            complaint_id: new.event.complaint_id,
            progress: decision.outcome.progress(),
            repeated: false,
            decision: Some(decision),
        }))
    }

    /// `false`: once more, there is more to be appended again.
    pub(super) fn acknowledge(
        &mut self,
        party: &PartyId,
        direction: Direction,
        place: Place,
    ) -> Result<bool, StoreError> {
        let is_hub = self.shared.is_hub;
        // Each link that opens says what the hub holds: what was set aside before a
        // crash, and not appended again, need not wait for a hand-over.
        let is_done = is_hub || direction == Direction::Deliveries || self.reappend_page(party)?;
        let state = self.state(party)?;
        let (acknowledged, head) = match (direction, is_hub) {
            (Direction::Submissions, false) => (&mut state.acknowledged, state.head.position),
            (Direction::Deliveries, true) => (&mut state.delivered_acknowledged, state.delivered),
            _ => return Ok(is_done),
        };
        if place.position <= acknowledged.position || place.position > head {
            return Ok(is_done);
        }
        *acknowledged = place;
        self.touch(party);
        if is_hub {
            self.mark(party, place)?;
        }
        Ok(is_done)
    }

    pub(super) fn mark(&mut self, party: &PartyId, place: Place) -> Result<(), StoreError> {
        let deliveries = self.state(party)?.deliveries;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO mark (id, chain) VALUES (?1, ?2)")?
            .execute(params![
                row_id(deliveries, place.position),
                place.chain.as_bytes()
            ])?;
        Ok(())
    }
}
