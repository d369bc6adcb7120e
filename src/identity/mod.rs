//! Who is who: certificates, their loading, checking and reloading, the party
//! that a certificate names, and the small CA for labs and pilots.
//!
//! Invariants: a set of files is used only after it has been checked as a
//! whole, and the old one stays in force until then; private keys are written
//! for their owner alone and never overwritten by accident. This room must
//! not know gRPC, the store, or what a party may do.

mod authority;
mod crl;
mod door;
mod files;
mod install;
mod material;
mod peer;
mod refusal;
mod reload;
mod show;
mod signer;
mod visit;
mod witness;

#[cfg(test)]
mod tests;

pub use authority::{Authority, Issued, Lifetime, Subject, new_key, request, request_for};
pub use crl::lists_in;
pub use door::{DoorFiles, DoorMaterial, door_client_config, watch_door_files};
pub use files::{Rights, certificates_pem, make_directory, put_in_place, write_for, write_new};
pub use install::{can_install, finish_install, install};
pub use material::{Files, Material, Purpose};
pub use peer::{PeerIdentity, PeerRole, TrustDomain, hub_domain};
pub use refusal::{Refusal, intercepted, refusal, refused_caller, refused_hub};
pub use reload::{ReloadState, watch_files};
pub use show::show;
pub use signer::{CaFiles, Signed, Signer, SigningRequest};
pub use visit::{JOIN_PROTOCOL, check_chain, visitor_client_config};
pub use witness::Presented;

/// Why certificates, keys or roots can't be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct IdentityError {
    /// For machines, for example `CERTIFICATE_EXPIRED`.
    pub reason: &'static str,
    /// What is wrong, where, and what to do.
    pub why: String,
}

impl IdentityError {
    pub(crate) fn new(reason: &'static str, why: impl Into<String>) -> Self {
        Self {
            reason,
            why: why.into(),
        }
    }
}
