//! Which party a verified connection is: by the name in its certificate, or by
//! its registered fingerprint. Deny by default; "unknown" and "not yours" look
//! the same to the caller, and different in our log.

use tokio::sync::watch;

use std::sync::Arc;

use crate::{
    domain::{PartyId, PartyMode},
    door::{Access, Caller, DoorError, Scope},
    identity::{Material, PeerIdentity, PeerRole},
    runtime::Clock,
    store::Registry,
    transport::PeerInfo,
};

use super::behind::Behind;

/// A connection that no party may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The party that its verified certificate names.
    pub party: Option<PartyId>,
    /// For machines.
    pub reason: &'static str,
    /// For our log and our own status page.
    pub why: String,
}

/// The party of a connection, and whether its certificate names it.
///
/// # Errors
/// Nobody, or nobody who may.
pub fn resolve(
    identity: &PeerIdentity,
    registry: &Registry,
    material: &Material,
    mode: PartyMode,
) -> Result<(PartyId, bool), Refused> {
    let (party, named) = match &identity.role {
        Some(PeerRole::Party(party)) => (Some(party.clone()), true),
        Some(PeerRole::Hub) => (None, false),
        None => {
            let by_fingerprint = registry.directory.parties.values().find(|party| {
                party
                    .certificate_fingerprints
                    .contains(&identity.fingerprint)
            });
            (by_fingerprint.map(|party| party.id.clone()), false)
        }
    };
    let refused = |reason, why: String| {
        Err(Refused {
            party: party.clone(),
            reason,
            why,
        })
    };
    let serial = &identity.serial;
    if registry.revoked_serials.contains(serial) {
        return refused(
            "CERTIFICATE_REVOKED",
            format!("certificate {serial} is revoked at this hub: its party needs a new one"),
        );
    }
    if material.revokes(identity) {
        return refused(
            "CERTIFICATE_REVOKED",
            format!("certificate {serial} is revoked by its CA (CRL): its party needs a new one"),
        );
    }
    let Some(party) = &party else {
        return match identity.role {
            Some(_) => refused(
                "NOT_A_PARTY",
                "a hub's certificate is no party's".to_owned(),
            ),
            None => refused(
                "FINGERPRINT_UNKNOWN",
                format!(
                    "its certificate names no party of this trust domain, and its fingerprint {} is not registered",
                    identity.fingerprint
                ),
            ),
        };
    };
    match registry.directory.parties.get(party) {
        None => refused(
            "PARTY_UNKNOWN",
            format!("party {party} is not registered: register it, or ask who dials"),
        ),
        Some(found) if !found.enabled => refused(
            "PARTY_DISABLED",
            format!("party {party} is disabled at this hub, and its node dials"),
        ),
        Some(found) if found.mode != mode => refused(
            "WRONG_MODE",
            format!(
                "party {party} is registered as {:?}, not as {mode:?}, which its software speaks",
                found.mode
            ),
        ),
        Some(_) => Ok((party.clone(), named)),
    }
}

/// Whether nobody may use a connection of this certificate any more.
pub fn is_out(identity: &PeerIdentity, registry: &Registry, material: &Material) -> bool {
    [PartyMode::Stream, PartyMode::Unary]
        .into_iter()
        .all(|mode| resolve(identity, registry, material, mode).is_err())
}

/// Access of unary parties on the mutual-TLS port: by certificate.
#[derive(Clone)]
pub struct ByCertificate {
    /// Who may.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// How their days are counted, and their codes read.
    pub behind: Behind,
    /// The hub's clock.
    pub clock: Arc<dyn Clock>,
    /// Whose certificates the CAs have revoked.
    pub material: watch::Receiver<Arc<Material>>,
}

impl Access for ByCertificate {
    fn caller(
        &self,
        _metadata: &tonic::metadata::MetadataMap,
        extensions: &http::Extensions,
        scope: Scope,
    ) -> Result<Caller, DoorError> {
        let peer = extensions
            .get::<PeerInfo>()
            .ok_or_else(|| DoorError::Unauthenticated("no client certificate".to_owned()))?;
        if scope == Scope::Operate {
            return Err(DoorError::Forbidden(
                "that is for the hub's own door".to_owned(),
            ));
        }
        // TLS looked at it when the connection was made, which may be long ago.
        if self.clock.now_micros() > peer.identity.not_after.0 {
            tracing::warn!(event = "certificate_expired", remote = %peer.remote, serial = %peer.identity.serial);
            return Err(DoorError::CertificateExpired);
        }
        let registry = self.registry.borrow().clone();
        let material = self.material.borrow().clone();
        match resolve(&peer.identity, &registry, &material, PartyMode::Unary) {
            Ok((party, _)) => Ok(self.behind.caller(party, None)),
            Err(Refused { party, reason, why }) => {
                let party = party.as_ref().map(PartyId::as_str);
                tracing::warn!(event = "party_refused", remote = %peer.remote, party, reason, why);
                Err(DoorError::NotRegistered)
            }
        }
    }
}
