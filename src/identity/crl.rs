//! Certificate revocation lists as facts: what each names, and until when its
//! CA promised to renew it. TLS judges new connections by the lists
//! themselves; these facts judge the connections that are there already.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use crate::domain::Micros;

use super::{
    IdentityError, PeerIdentity,
    files::{crls_of, read_text},
};

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crl {
    path: PathBuf,
    issuer: String,
    next_update: Option<Micros>,
    serials: HashSet<String>,
}

impl Crl {
    /// Whether a certificate is on it: serial numbers are unique within one CA
    /// only.
    pub(super) fn names(&self, peer: &PeerIdentity) -> bool {
        self.issuer == peer.issuer && self.serials.contains(&peer.serial)
    }

    /// What is wrong with its age; `None`: nothing.
    pub(super) fn expired(&self, now: Micros) -> Option<String> {
        let next_update = self.next_update.filter(|next| next.0 < now.0)?;
        Some(format!(
            "the CRL {} of \"{}\" was to be renewed {} hours ago: it stays in force, but what its CA has revoked since is not on it; fetch the new list and put it there",
            self.path.display(),
            self.issuer,
            (now.0 - next_update.0) / 3_600_000_000
        ))
    }
}

/// How many lists a file holds whose text this is.
///
/// # Errors
/// They can't be read; names the file.
pub fn lists_in(path: &Path, text: &str) -> Result<usize, IdentityError> {
    Ok(parse(path, text)?.len())
}

/// The lists of a file, as TLS takes them and as facts.
pub(super) fn read(path: &Path) -> Result<Vec<List>, IdentityError> {
    parse(path, &read_text(path)?)
}

type List = (CertificateRevocationListDer<'static>, Crl);

fn parse(path: &Path, text: &str) -> Result<Vec<List>, IdentityError> {
    let mut found = Vec::new();
    for list in crls_of(path, text)? {
        let (_, parsed) = CertificateRevocationList::from_der(&list).map_err(|error| {
            IdentityError::new(
                "FILE_UNREADABLE",
                format!("{}: a CRL can't be read: {error}", path.display()),
            )
        })?;
        let next_update = parsed
            .next_update()
            .map(|next| Micros(next.timestamp() * 1_000_000));
        let crl = Crl {
            path: path.to_owned(),
            issuer: parsed.issuer().to_string(),
            next_update,
            serials: parsed
                .iter_revoked_certificates()
                .map(|revoked| super::peer::serial_text(revoked.raw_serial()))
                .collect(),
        };
        found.push((list, crl));
    }
    Ok(found)
}
