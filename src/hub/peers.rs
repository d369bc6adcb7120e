//! Which party a verified connection is: by the name in its certificate, or by
//! its registered fingerprint. Deny by default; "unknown" and "not yours" look
//! the same to the caller, and different in our log.

use tokio::sync::watch;

use std::sync::Arc;

use crate::{
    domain::{PartyId, PartyMode},
    door::{Access, Caller, DoorError, Scope},
    identity::{PeerIdentity, PeerRole},
    runtime::Clock,
    store::Registry,
    transport::PeerInfo,
};

use super::behind::Behind;

/// A connection that no party may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For our log.
    pub why: String,
}

/// The party of a connection, and whether its certificate names it.
///
/// # Errors
/// Nobody, or nobody who may.
pub fn resolve(
    identity: &PeerIdentity,
    registry: &Registry,
    mode: PartyMode,
) -> Result<(PartyId, bool), Refused> {
    let refused = |why: String| Err(Refused { why });
    if registry.revoked_serials.contains(&identity.serial) {
        return refused(format!("certificate {} is revoked", identity.serial));
    }
    let (party, named) = match &identity.role {
        Some(PeerRole::Party(party)) => (party.clone(), true),
        Some(PeerRole::Hub) => return refused("a hub's certificate is no party's".to_owned()),
        None => {
            let by_fingerprint = registry.directory.parties.values().find(|party| {
                party
                    .certificate_fingerprints
                    .contains(&identity.fingerprint)
            });
            match by_fingerprint {
                Some(party) => (party.id.clone(), false),
                None => {
                    return refused(format!(
                        "its certificate names no party, and its fingerprint {} is not registered",
                        identity.fingerprint
                    ));
                }
            }
        }
    };
    match registry.directory.parties.get(&party) {
        None => refused(format!("party {party} is not registered")),
        Some(found) if !found.enabled => refused(format!("party {party} is disabled")),
        Some(found) if found.mode != mode => refused(format!(
            "party {party} is registered as {:?}, not as {mode:?}",
            found.mode
        )),
        Some(_) => Ok((party, named)),
    }
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
        match resolve(&peer.identity, &registry, PartyMode::Unary) {
            Ok((party, _)) => Ok(self.behind.caller(party, None)),
            Err(Refused { why }) => {
                tracing::warn!(event = "party_refused", remote = %peer.remote, why);
                Err(DoorError::NotRegistered)
            }
        }
    }
}
