//! What is in a certificate, for people.

use std::path::Path;

use crate::domain::Micros;

use super::{IdentityError, PeerIdentity, TrustDomain, files::read_certificates};

/// What a PEM file's first certificate says.
///
/// # Errors
/// The file can't be read, or holds no certificate.
pub fn show(
    path: &Path,
    trust_domain: &TrustDomain,
) -> Result<(PeerIdentity, &'static str), IdentityError> {
    let certificates = read_certificates(path)?;
    let identity = PeerIdentity::of(&certificates[0], trust_domain)?;
    let what = match (&identity.role, identity.uris.is_empty()) {
        (Some(super::PeerRole::Hub), _) => "hub",
        (Some(super::PeerRole::Party(_)), _) => "party",
        (None, true) if !identity.names.is_empty() => {
            "no URI: a door's, or known by its fingerprint only"
        }
        (None, true) => "no URI: known by its fingerprint only, or a CA",
        (None, false) => "of another trust domain",
    };
    Ok((identity, what))
}

impl PeerIdentity {
    /// Whole days from `now` until it ends; negative once it has ended.
    pub fn days_left(&self, now: Micros) -> i64 {
        (self.not_after.0 - now.0).div_euclid(86_400_000_000)
    }
}
