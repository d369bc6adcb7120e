//! The party that a certificate names: the URI SAN
//! `spiffe://<trust domain>/party/<party id>`, or `.../hub` for the hub.

use std::fmt;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::domain::{FieldError, Micros, PartyId};

use super::IdentityError;

/// The name under which one hub and its parties stand, for example
/// `jembatan.example`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Accepts a SPIFFE trust domain.
    ///
    /// # Errors
    /// Empty, longer than 255 bytes, or with other characters than lower-case
    /// letters, digits, '.', '-' and '_'.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if text.is_empty() || text.len() > 255 || !text.chars().all(is_allowed) {
            return Err(FieldError::new(
                "trust_domain",
                format!(
                    "{text:?} is not a trust domain: 1 to 255 lower-case letters, digits, '.', '-' and '_'"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The URI of a party.
    pub fn party_uri(&self, party: &PartyId) -> String {
        format!("spiffe://{}/party/{party}", self.0)
    }

    /// The URI of the hub.
    pub fn hub_uri(&self) -> String {
        format!("spiffe://{}/hub", self.0)
    }

    /// What a URI of this trust domain names.
    pub fn role_of(&self, uri: &str) -> Option<PeerRole> {
        let path = uri
            .strip_prefix("spiffe://")?
            .strip_prefix(self.0.as_str())?;
        if path == "/hub" {
            return Some(PeerRole::Hub);
        }
        let id = path.strip_prefix("/party/")?;
        PartyId::parse(id).ok().map(PeerRole::Party)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = FieldError;
    fn try_from(text: String) -> Result<Self, FieldError> {
        Self::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0
    }
}

/// What a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRole {
    /// The hub.
    Hub,
    /// A party.
    Party(PartyId),
}

/// A certificate as far as this software looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// What it names in our trust domain; `None`: nothing, it may be known by
    /// its fingerprint.
    pub role: Option<PeerRole>,
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// Serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// Name of the CA that issued it.
    pub issuer: String,
    /// Valid from.
    pub not_before: Micros,
    /// Valid until.
    pub not_after: Micros,
    /// Every URI in it.
    pub uris: Vec<String>,
    /// Every DNS name and IP address in it.
    pub names: Vec<String>,
}

impl PeerIdentity {
    /// Reads a certificate. Whether it is to be trusted has been checked
    /// before, or is checked elsewhere.
    ///
    /// # Errors
    /// It can't be read, or names two things in our trust domain.
    pub fn of(
        certificate: &CertificateDer<'_>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, IdentityError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
            IdentityError::new(
                "CERTIFICATE_UNREADABLE",
                format!("a certificate can't be read: {error}"),
            )
        })?;
        let mut uris = Vec::new();
        let mut names = Vec::new();
        if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
            for name in &alternative.value.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                    GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => names.extend(ip_text(bytes)),
                    _ => {}
                }
            }
        }
        let mut roles = uris.iter().filter_map(|uri| trust_domain.role_of(uri));
        let role = roles.next();
        if roles.next().is_some() {
            return Err(IdentityError::new(
                "CERTIFICATE_AMBIGUOUS",
                format!("a certificate names more than one party of {trust_domain}"),
            ));
        }
        Ok(Self {
            role,
            fingerprint: hex::encode(Sha256::digest(certificate)),
            serial: serial_text(parsed.raw_serial()),
            issuer: parsed.issuer().to_string(),
            not_before: Micros(parsed.validity().not_before.timestamp() * 1_000_000),
            not_after: Micros(parsed.validity().not_after.timestamp() * 1_000_000),
            uris,
            names,
        })
    }
}

/// The trust domain of a hub's certificate, for whoever has none yet; `None`: it
/// is no hub's.
///
/// # Errors
/// The certificate can't be read.
pub fn hub_domain(certificate: &CertificateDer<'_>) -> Result<Option<TrustDomain>, IdentityError> {
    let nobodys = TrustDomain("-".to_owned());
    let identity = PeerIdentity::of(certificate, &nobodys)?;
    let mut domains = identity.uris.iter().filter_map(|uri| {
        let domain = uri.strip_prefix("spiffe://")?.strip_suffix("/hub")?;
        TrustDomain::parse(domain).ok()
    });
    Ok(domains.next().filter(|_| domains.next().is_none()))
}

/// A serial number as it is written everywhere: lower-case hex without leading
/// zeros.
pub(super) fn serial_text(raw: &[u8]) -> String {
    let digits = hex::encode(raw);
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}
