//! Joining and renewing at the hub. Whoever comes without certificate can join
//! and nothing else; whoever has one can renew it while it is good.
//!
//! Invariants: names come from the invitation, or from the certificate that was
//! verified, never from the request; what was signed is kept before it is
//! given; an unknown code and a wrong one look the same.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::Status;

use crate::{
    domain::{Digest, InvitationCode, Limits, Micros, Party, PartyId, PartyMode},
    door::{DoorError, EnrolmentError, Offer, OfferNow},
    identity::{
        CaFiles, IdentityError, Lifetime, Material, PeerIdentity, PeerRole, Signed, Signer,
        SigningRequest, TrustDomain, check_chain, new_key, request_for,
    },
    runtime::Clock,
    store::{HubStore, Invitation, InvitationUse, IssuedCertificate, RefusedJoin, StoreError},
    transport::{PeerInfo, VisitorInfo},
    wire::{self, v1},
};

use super::{
    patience::{Culprit, Patience},
    peers::resolve,
};

/// What a hub needs to sign.
#[derive(Clone)]
pub(super) struct Enrolment {
    pub(super) store: Arc<dyn HubStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) material: watch::Receiver<Arc<Material>>,
    pub(super) trust_domain: TrustDomain,
    /// `None`: joining is off.
    pub(super) ca: Option<CaFiles>,
    pub(super) addresses: Vec<String>,
    pub(super) lifetime_seconds: u32,
    pub(super) limits: Limits,
    pub(super) wrong_codes: Arc<Patience<Culprit>>,
    pub(super) renewals: Arc<Patience<PartyId>>,
    /// Certificates by invitation.
    pub(super) joins: Arc<Patience<PartyId>>,
}

/// Why a call was refused: by the rules, or because the store can't.
pub(super) enum Refused {
    Rule(EnrolmentError),
    Door(DoorError),
}

impl From<EnrolmentError> for Refused {
    fn from(error: EnrolmentError) -> Self {
        Self::Rule(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Door(error.into())
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rule(error) => error.for_outside(),
            Refused::Door(error) => error.into(),
        }
    }
}

impl Enrolment {
    /// Whether parties may join by themselves.
    pub(super) fn is_on(&self) -> bool {
        self.ca.is_some()
    }

    /// What an invitation says of this hub, if somebody could join now.
    pub(super) fn offer(&self) -> OfferNow {
        let this = self.clone();
        Arc::new(move || {
            let signer = this.signer()?;
            this.try_to_sign(&signer)?;
            let material = this.material.borrow().clone();
            let root = material
                .own_root()
                .map_err(|error| EnrolmentError::CaUnavailable(error.why))?;
            Ok(Offer {
                addresses: this.addresses.clone(),
                root: Digest::of(root),
            })
        })
    }

    /// Says in the log at the start what would keep everybody from joining. A
    /// key that is not there is no fault: it may lie on a medium that is put in
    /// while somebody joins.
    pub(super) fn look_at_ca(&self) {
        let has_key = self.ca.as_ref().is_some_and(|files| files.key.exists());
        if has_key && let Ok(signer) = self.signer() {
            // Whoever is told why is the log.
            let _ = self.try_to_sign(&signer);
        }
    }

    /// Signs for nobody, with a key that is thrown away: a CA that signs what
    /// nobody can use is found before a code is.
    fn try_to_sign(&self, signer: &Signer) -> Result<(), EnrolmentError> {
        let request = new_key()
            .and_then(|key| request_for(&key, "trial"))
            .and_then(|request| SigningRequest::read(&request))
            .map_err(unavailable)?;
        let nobody = PartyId::parse("trial").map_err(|error| {
            EnrolmentError::CaUnavailable(format!("no trial could be made: {error}"))
        })?;
        self.sign(signer, &request, &nobody).map(drop)
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    fn signer(&self) -> Result<Signer, EnrolmentError> {
        let files = self.ca.as_ref().ok_or(EnrolmentError::Off)?;
        Signer::load(files, &self.trust_domain, self.now()).map_err(unavailable)
    }

    /// Signs, and looks whether this hub would let the result in, and whether
    /// its party can verify it with the roots that it is given.
    fn sign(
        &self,
        signer: &Signer,
        request: &SigningRequest,
        party: &PartyId,
    ) -> Result<Signed, EnrolmentError> {
        let now = self.now();
        let lifetime = Lifetime::seconds(now, self.lifetime_seconds);
        let signed = match signer.sign(request, party, lifetime) {
            Ok(signed) => signed,
            Err(error) if error.reason == "REQUEST_UNUSABLE" => {
                return Err(EnrolmentError::RequestUnusable(error.why));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let material = self.material.borrow().clone();
        material.check_party(&signed.chain, now).map_err(|error| {
            unavailable(IdentityError {
                reason: "CA_UNAVAILABLE",
                why: format!(
                    "this hub's own roots do not know what its CA signs ({}): the CA, or the root above it, has to stand in tls.roots",
                    error.why
                ),
            })
        })?;
        let roots = roots(&material, signer)?;
        check_chain(&signed.chain, &roots, now).map_err(|error| {
            unavailable(IdentityError {
                reason: "CA_UNAVAILABLE",
                why: format!(
                    "whoever joins could not verify what the CA of [enrolment] signs ({}): it is an intermediate under another root than this hub's own certificate; use a CA under the hub's root, or one that is a root itself",
                    error.why
                ),
            })
        })?;
        Ok(signed)
    }

    fn roots(&self, signer: &Signer) -> Result<Vec<bytes::Bytes>, EnrolmentError> {
        let material = self.material.borrow().clone();
        let roots = roots(&material, signer)?;
        Ok(roots.iter().map(|root| root.to_vec().into()).collect())
    }

    /// A visitor trades a code for a certificate.
    pub(super) async fn join(
        &self,
        request: v1::JoinRequest,
        visitor: VisitorInfo,
    ) -> Result<v1::JoinResponse, Refused> {
        let address = Culprit::at(visitor.remote.ip());
        if let Some(wait) = self.wrong_codes.wait(&address) {
            tracing::warn!(event = "join_put_off", remote = %visitor.remote, wait = ?wait);
            return Err(EnrolmentError::TooManyWrongCodes(wait).into());
        }
        let said = request.party.chars().take(PartyId::MAX_BYTES).collect();
        let mut invitation = None;
        let outcome = self.judge_and_sign(request, visitor, &mut invitation).await;
        if let Err(Refused::Rule(error)) = &outcome {
            let is_guess = matches!(
                error,
                EnrolmentError::CodeUnknown | EnrolmentError::WrongParty
            );
            if is_guess {
                self.wrong_codes.count(&address);
            }
            let known = invitation.map(|found: Invitation| {
                if is_guess {
                    self.wrong_codes.count(&Culprit::Party(found.party.clone()));
                }
                found.id
            });
            self.note(error, visitor, said, known).await;
        }
        outcome
    }

    async fn judge_and_sign(
        &self,
        request: v1::JoinRequest,
        visitor: VisitorInfo,
        known: &mut Option<Invitation>,
    ) -> Result<v1::JoinResponse, Refused> {
        let v1::JoinRequest {
            code,
            signing_request,
            party,
        } = request;
        let code = InvitationCode::parse(&code).map_err(|_| EnrolmentError::CodeUnknown)?;
        let found = self.store.invitation(&code.id()).await?;
        let invitation = known.insert(found.ok_or(EnrolmentError::CodeUnknown)?);
        let culprit = Culprit::Party(invitation.party.clone());
        if let Some(wait) = self.wrong_codes.wait(&culprit) {
            return Err(EnrolmentError::TooManyWrongCodes(wait).into());
        }
        if invitation.code_digest != code.digest() {
            return Err(EnrolmentError::CodeUnknown.into());
        }
        if invitation.party.as_str() != party {
            return Err(EnrolmentError::WrongParty.into());
        }
        let request = SigningRequest::read(&signing_request)
            .map_err(|error| EnrolmentError::RequestUnusable(error.why))?;
        let registered = self.check(invitation, &request.key_digest())?;
        // A line may be used again with its key, but not to fill the disk.
        if let Some(wait) = self.joins.wait(&invitation.party) {
            return Err(EnrolmentError::TooManyRenewals(wait).into());
        }
        let signer = self.signer()?;
        self.joins.count(&invitation.party);
        let signed = self.sign(&signer, &request, &invitation.party)?;
        let roots = self.roots(&signer)?;
        let used = InvitationUse {
            at: self.now(),
            from: visitor.remote.ip().to_string(),
            key_digest: request.key_digest(),
            serial: signed.identity.serial.clone(),
        };
        let issued = self.issued(&signed, &invitation.party, Some(invitation.id.clone()));
        if !self.store.record_issued(issued, Some(used)).await? {
            // Somebody was quicker, or it was taken back in between.
            return Err(EnrolmentError::CodeUsed.into());
        }
        tracing::info!(
            event = "party_joined",
            party = %invitation.party,
            invitation = %invitation.id,
            serial = %signed.identity.serial,
            remote = %visitor.remote
        );
        Ok(v1::JoinResponse {
            certificate_chain: der(&signed),
            roots,
            party: invitation.party.to_string(),
            party_name: registered.name.clone(),
            mode: wire::party_to_proto(&registered).mode,
            limits: Some(wire::limits_to_proto(&self.limits)),
            hub_time: Some(wire::timestamp(self.now())),
        })
    }

    /// Whether this invitation may lead to a certificate for this key now.
    fn check(&self, invitation: &Invitation, key: &Digest) -> Result<Party, EnrolmentError> {
        let registry = self.store.registry().borrow().clone();
        if invitation.revoked_at.is_some() {
            return Err(EnrolmentError::CodeRevoked);
        }
        if let Some(used) = &invitation.used {
            if used.key_digest != *key {
                return Err(EnrolmentError::CodeUsed);
            }
            if registry.revoked_serials.contains(&used.serial) {
                return Err(EnrolmentError::CodeRevoked);
            }
        }
        if self.now() >= invitation.expires_at {
            return Err(EnrolmentError::CodeExpired);
        }
        match registry.directory.parties.get(&invitation.party) {
            Some(party) if party.mode == PartyMode::Local => Err(EnrolmentError::PartyHasNoLink),
            Some(party) if party.enabled => Ok(party.clone()),
            _ => Err(EnrolmentError::PartyDisabled),
        }
    }

    async fn note(
        &self,
        error: &EnrolmentError,
        visitor: VisitorInfo,
        said: String,
        invitation: Option<String>,
    ) {
        let reason = error.reason();
        tracing::warn!(event = "join_refused", remote = %visitor.remote, party = ?said, invitation, reason, why = %error);
        let refused = RefusedJoin {
            at: self.now(),
            remote: visitor.remote.ip().to_string(),
            party: said,
            invitation,
            reason: reason.to_owned(),
        };
        if let Err(error) = self.store.note_refused_join(refused).await {
            tracing::warn!(event = "refusal_not_kept", %error);
        }
    }

    /// A party trades a good certificate for the next one.
    pub(super) async fn renew(
        &self,
        request: v1::RenewRequest,
        peer: PeerInfo,
    ) -> Result<v1::RenewResponse, Refused> {
        let party = self.may_renew(&peer)?;
        let signer = self.signer()?;
        let is_named = matches!(peer.identity.role, Some(PeerRole::Party(_)));
        if !is_named || !self.has_issued(&signer, &peer, &party).await? {
            return Err(EnrolmentError::NotFromEnrolment.into());
        }
        let request = SigningRequest::read(&request.signing_request)
            .map_err(|error| EnrolmentError::RequestUnusable(error.why))?;
        if let Some(wait) = self.renewals.wait(&party) {
            return Err(EnrolmentError::TooManyRenewals(wait).into());
        }
        self.renewals.count(&party);
        let signed = self.sign(&signer, &request, &party)?;
        let roots = self.roots(&signer)?;
        let issued = self.issued(&signed, &party, None);
        self.store.record_issued(issued, None).await?;
        tracing::info!(
            event = "certificate_renewed",
            %party,
            serial = %signed.identity.serial,
            replaces = %peer.identity.serial
        );
        Ok(v1::RenewResponse {
            certificate_chain: der(&signed),
            roots,
        })
    }

    /// Whether this hub has issued a party's certificate: its CA of today has
    /// signed it, or it stands among those that were issued to the party, by the
    /// CA that stood here before. It has been verified either way. Whoever holds
    /// the key of another CA that is trusted can give a certificate of its own any
    /// serial number, so that alone counts only where nothing else was kept.
    async fn has_issued(
        &self,
        signer: &Signer,
        peer: &PeerInfo,
        party: &PartyId,
    ) -> Result<bool, StoreError> {
        if signer.has_issued(&peer.certificate, self.now()) {
            return Ok(true);
        }
        let digest = Digest::of(&peer.certificate);
        let issued = self.store.issued_to(party).await?;
        Ok(issued.iter().any(|known| {
            known.serial == peer.identity.serial && known.digest.is_none_or(|kept| kept == digest)
        }))
    }

    /// The party of a certificate that is good at this moment.
    fn may_renew(&self, peer: &PeerInfo) -> Result<PartyId, Refused> {
        if self.now() > peer.identity.not_after {
            return Err(Refused::Door(DoorError::CertificateExpired));
        }
        let registry = self.store.registry().borrow().clone();
        let material = self.material.borrow().clone();
        let as_mode = |mode| resolve(&peer.identity, &registry, &material, mode);
        let found = as_mode(PartyMode::Stream).or_else(|_| as_mode(PartyMode::Unary));
        found.map(|(party, _)| party).map_err(|refused| {
            let party = refused.party.as_ref().map(PartyId::as_str);
            tracing::warn!(event = "renewal_refused", remote = %peer.remote, party, reason = refused.reason, why = %refused.why);
            Refused::Door(DoorError::NotRegistered)
        })
    }

    fn issued(
        &self,
        signed: &Signed,
        party: &PartyId,
        invitation: Option<String>,
    ) -> IssuedCertificate {
        let PeerIdentity {
            serial, not_after, ..
        } = &signed.identity;
        IssuedCertificate {
            serial: serial.clone(),
            digest: signed.chain.first().map(|leaf| Digest::of(leaf)),
            party: party.clone(),
            issued_at: self.now(),
            ends_at: *not_after,
            invitation,
        }
    }
}

/// The roots that a party is given: the one above this hub's own certificate,
/// and the CA, if it is a root and another one.
fn roots(
    material: &Material,
    signer: &Signer,
) -> Result<Vec<CertificateDer<'static>>, EnrolmentError> {
    let own = material.own_root().map_err(unavailable)?;
    let mut roots = vec![own.clone()];
    roots.extend(signer.root().filter(|root| *root != own).cloned());
    Ok(roots)
}

/// What is wrong with the CA is said here; the caller is not told.
fn unavailable(error: IdentityError) -> EnrolmentError {
    tracing::error!(event = "ca_unavailable", reason = error.reason, why = %error.why);
    EnrolmentError::CaUnavailable(error.why)
}

fn der(signed: &Signed) -> Vec<bytes::Bytes> {
    let chain = signed.chain.iter();
    chain.map(|found| found.to_vec().into()).collect()
}
