//! Invitations and issued certificates, as plain values.

use crate::domain::{Digest, Micros, PartyId};

/// An invitation to join. The code itself is known to nobody here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Names it; no secret.
    pub id: String,
    /// Who is invited.
    pub party: PartyId,
    /// [`crate::domain::InvitationCode::digest`].
    pub code_digest: Digest,
    /// Made then.
    pub made_at: Micros,
    /// Can be used until then.
    pub expires_at: Micros,
    /// Taken back then.
    pub revoked_at: Option<Micros>,
    /// How it was used last.
    pub used: Option<InvitationUse>,
}

/// How an invitation was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationUse {
    /// When.
    pub at: Micros,
    /// From which address.
    pub from: String,
    /// SHA-256 of the public key: only the same one may come again.
    pub key_digest: Digest,
    /// Serial number of the certificate that it led to.
    pub serial: String,
}

/// A certificate that this hub has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// SHA-256 of the certificate; `None`: issued by a version that did not keep
    /// it.
    pub digest: Option<Digest>,
    /// The party that it names.
    pub party: PartyId,
    /// Issued then.
    pub issued_at: Micros,
    /// Ends then.
    pub ends_at: Micros,
    /// The invitation that it was issued for; `None`: a renewal.
    pub invitation: Option<String>,
}

/// An attempt to join that was refused. What the caller says of itself is not
/// verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedJoin {
    /// When.
    pub at: Micros,
    /// From which address.
    pub remote: String,
    /// The party that it said to be.
    pub party: String,
    /// The invitation whose code it named, if there is one.
    pub invitation: Option<String>,
    /// For machines.
    pub reason: String,
}
