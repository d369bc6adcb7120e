//! The enrolment service of the hub's own door: its operator invites parties,
//! and looks at what came of it.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use crate::{
    domain::{Digest, FieldError, InvitationCode, InvitationLine, Micros, PartyId, PartyMode},
    runtime::{Clock, random_bytes},
    store::{HubStore, Invitation, IssuedCertificate, RefusedJoin},
    wire::{
        timestamp,
        v1::{self, enrolment_service_server::EnrolmentService},
    },
};

use super::{DoorError, EnrolmentError, MayOperate};

/// How long a code can be used, if nothing is said.
const USUAL: Duration = Duration::from_secs(72 * 3_600);
/// The longest that a code can be used.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What a line says of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// `host:port` each.
    pub addresses: Vec<String>,
    /// SHA-256 of its root certificate.
    pub root: Digest,
}

/// Whether somebody could join now, and what a line would say.
pub type OfferNow = Arc<dyn Fn() -> Result<Offer, EnrolmentError> + Send + Sync>;

/// The service.
#[derive(Clone)]
pub struct EnrolmentDoor {
    /// The hub's store.
    pub store: Arc<dyn HubStore>,
    /// Who may.
    pub may_operate: MayOperate,
    /// The hub's clock.
    pub clock: Arc<dyn Clock>,
    /// What a line says.
    pub offer: OfferNow,
}

impl EnrolmentDoor {
    fn allow<T>(&self, request: Request<T>) -> Result<T, Status> {
        (self.may_operate)(request.metadata())?;
        Ok(request.into_inner())
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// Whoever may be invited: registered, enabled, with a certificate.
    fn check_party(&self, id: &PartyId) -> Result<(), EnrolmentError> {
        let registry = self.store.registry().borrow().clone();
        match registry.directory.parties.get(id) {
            None => Err(EnrolmentError::PartyUnknown(id.clone())),
            Some(party) if !party.enabled => Err(EnrolmentError::PartyDisabled),
            Some(party) if party.mode == PartyMode::Local => Err(EnrolmentError::PartyHasNoLink),
            Some(_) => Ok(()),
        }
    }
}

fn wrong(error: FieldError) -> Status {
    DoorError::Invalid(vec![error]).into()
}

fn elsewhere(place: &str) -> Status {
    Status::unimplemented(format!("this is served {place}, not at this door"))
}

#[tonic::async_trait]
impl EnrolmentService for EnrolmentDoor {
    async fn invite(
        &self,
        request: Request<v1::InviteRequest>,
    ) -> Result<Response<v1::InviteResponse>, Status> {
        let v1::InviteRequest {
            party,
            valid_seconds,
        } = self.allow(request)?;
        let party = PartyId::parse(&party).map_err(wrong)?;
        let valid = match valid_seconds {
            0 => USUAL,
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        if valid > LONGEST {
            return Err(wrong(FieldError::new(
                "valid_seconds",
                "must be at most 2592000 (30 days)",
            )));
        }
        let offer = (self.offer)()?;
        self.check_party(&party)?;
        let code = InvitationCode::of(random_bytes());
        let now = self.now();
        // A line carries whole seconds.
        let until = (now.0 + valid.as_micros() as i64).div_euclid(1_000_000);
        let line = InvitationLine {
            party: party.clone(),
            addresses: offer.addresses,
            root: offer.root,
            code: code.clone(),
            expires_at: Micros(until * 1_000_000),
        };
        let invitation = Invitation {
            id: code.id(),
            party: party.clone(),
            code_digest: code.digest(),
            made_at: now,
            expires_at: line.expires_at,
            revoked_at: None,
            used: None,
        };
        self.store
            .put_invitation(invitation)
            .await
            .map_err(DoorError::from)?;
        tracing::info!(event = "party_invited", %party, invitation = %code.id(), valid_seconds = valid.as_secs());
        Ok(Response::new(v1::InviteResponse {
            line: line.to_string(),
            expires_at: Some(timestamp(line.expires_at)),
            id: code.id(),
        }))
    }

    async fn list_invitations(
        &self,
        request: Request<v1::ListInvitationsRequest>,
    ) -> Result<Response<v1::ListInvitationsResponse>, Status> {
        self.allow(request)?;
        let now = self.now();
        let invitations = self.store.invitations().await.map_err(DoorError::from)?;
        let refused = self.store.refused_joins().await.map_err(DoorError::from)?;
        Ok(Response::new(v1::ListInvitationsResponse {
            invitations: invitations.into_iter().map(|i| shown(i, now)).collect(),
            refused: refused.into_iter().map(refused_shown).collect(),
        }))
    }

    async fn revoke_invitation(
        &self,
        request: Request<v1::RevokeInvitationRequest>,
    ) -> Result<Response<v1::RevokeInvitationResponse>, Status> {
        let id = self.allow(request)?.id.to_ascii_lowercase();
        let revoked = self.store.revoke_invitation(&id, self.now()).await;
        if !revoked.map_err(DoorError::from)? {
            return Err(Status::not_found(format!(
                "no invitation {id:?}: jembatan parties invites lists them"
            )));
        }
        tracing::info!(event = "invitation_revoked", invitation = %id);
        Ok(Response::new(v1::RevokeInvitationResponse {}))
    }

    async fn list_certificates(
        &self,
        request: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        let party = PartyId::parse(&self.allow(request)?.party).map_err(wrong)?;
        let issued = self
            .store
            .issued_to(&party)
            .await
            .map_err(DoorError::from)?;
        let registry = self.store.registry().borrow().clone();
        let certificates = issued.into_iter().map(|found| {
            let IssuedCertificate {
                serial,
                digest: _,
                party,
                issued_at,
                ends_at,
                invitation,
            } = found;
            v1::IssuedCertificate {
                revoked: registry.revoked_serials.contains(&serial),
                serial,
                party: party.to_string(),
                issued_at: Some(timestamp(issued_at)),
                ends_at: Some(timestamp(ends_at)),
                invitation: invitation.unwrap_or_default(),
            }
        });
        Ok(Response::new(v1::ListCertificatesResponse {
            certificates: certificates.collect(),
        }))
    }

    async fn join(
        &self,
        _: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(elsewhere(
            "at the hub's mutual-TLS port, without certificate",
        ))
    }

    async fn renew(
        &self,
        _: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        Err(elsewhere("over mutual TLS"))
    }
}

fn shown(invitation: Invitation, now: Micros) -> v1::Invitation {
    let Invitation {
        id,
        party,
        code_digest: _,
        made_at,
        expires_at,
        revoked_at,
        used,
    } = invitation;
    let state = if revoked_at.is_some() {
        v1::InvitationState::Revoked
    } else if used.is_some() {
        v1::InvitationState::Used
    } else if now >= expires_at {
        v1::InvitationState::Expired
    } else {
        v1::InvitationState::Open
    };
    let (used_at, used_from, serial) = match used {
        None => (None, String::new(), String::new()),
        Some(used) => (Some(timestamp(used.at)), used.from, used.serial),
    };
    v1::Invitation {
        id,
        party: party.to_string(),
        state: state as i32,
        made_at: Some(timestamp(made_at)),
        expires_at: Some(timestamp(expires_at)),
        used_at,
        used_from,
        serial,
    }
}

fn refused_shown(refused: RefusedJoin) -> v1::RefusedJoin {
    let RefusedJoin {
        at,
        remote,
        party,
        invitation,
        reason,
    } = refused;
    v1::RefusedJoin {
        at: Some(timestamp(at)),
        remote,
        party,
        invitation: invitation.unwrap_or_default(),
        reason,
    }
}
