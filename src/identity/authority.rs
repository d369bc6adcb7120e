//! A small certificate authority for labs and pilots: one directory with a CA,
//! its list of revocations, and what it issues.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    domain::{Micros, PartyId},
    runtime::random_bytes,
};

use super::{
    IdentityError, TrustDomain,
    files::{make_directory, read_text, write_new},
};

const DAY_MICROS: i64 = 86_400_000_000;
/// Clocks of small machines are off by minutes: a fresh certificate must work
/// at once everywhere.
const BACKDATE_MICROS: i64 = 3_600_000_000;
/// How long a CA lasts.
const CA_DAYS: i64 = 3_650;
/// How long a CRL is promised to be renewed within.
const CRL_DAYS: i64 = 30;

/// Whose certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The hub, with the DNS names and IP addresses by which it is dialled.
    Hub(Vec<String>),
    /// A party.
    Party(PartyId),
    /// The doors of a node, with the DNS names and IP addresses by which local
    /// systems call them: a server's and nothing else, so that whoever takes it
    /// from such a machine is nobody on a link.
    Door(Vec<String>),
}

/// From when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From.
    pub not_before: Micros,
    /// Until.
    pub not_after: Micros,
}

impl Lifetime {
    /// From now (an hour ago, for clocks that are off) for so many days.
    pub fn days(now: Micros, days: i64) -> Self {
        Self {
            not_before: Micros(now.0 - BACKDATE_MICROS),
            not_after: Micros(now.0 + days * DAY_MICROS),
        }
    }

    /// As [`Lifetime::days`], but never for a tenth of it before now: a third
    /// of a short life must not be over when it begins.
    pub fn seconds(now: Micros, seconds: u32) -> Self {
        let micros = i64::from(seconds) * 1_000_000;
        Self {
            not_before: Micros(now.0 - BACKDATE_MICROS.min(micros / 10)),
            not_after: Micros(now.0 + micros),
        }
    }
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM; `None` if it was made elsewhere and never came here.
    pub key: Option<String>,
}

/// A CA in its directory.
pub struct Authority {
    directory: PathBuf,
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Revocations {
    number: u64,
    #[serde(default)]
    serials: Vec<(String, i64)>,
}

impl Authority {
    /// Makes a CA: `ca.pem`, `ca.key`, and an empty `crl.pem`.
    ///
    /// # Errors
    /// There is one already, or the directory can't be written.
    pub fn init(
        directory: &Path,
        trust_domain: &TrustDomain,
        now: Micros,
        force: bool,
    ) -> Result<Self, IdentityError> {
        make_directory(directory)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Jembatan CA {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let lifetime = Lifetime::days(now, CA_DAYS);
        params.not_before = date(lifetime.not_before)?;
        params.not_after = date(lifetime.not_after)?;
        params.serial_number = Some(serial());
        let certificate = params.self_signed(&key).map_err(failed)?;
        write_new(&directory.join("ca.key"), &key.serialize_pem(), true, force)?;
        write_new(&directory.join("ca.pem"), &certificate.pem(), false, force)?;
        let authority = Self::open(directory, trust_domain)?;
        authority.write_crl(&Revocations::default(), now)?;
        Ok(authority)
    }

    /// Opens a CA that was made before.
    ///
    /// # Errors
    /// It is not there, or can't be read.
    pub fn open(directory: &Path, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let certificate = read_text(&directory.join("ca.pem")).map_err(|error| {
            IdentityError::new(
                error.reason,
                format!("{}; make a CA with `jembatan pki init`", error.why),
            )
        })?;
        let key = KeyPair::from_pem(&read_text(&directory.join("ca.key"))?).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(failed)?;
        Ok(Self {
            directory: directory.to_owned(),
            trust_domain: trust_domain.clone(),
            issuer,
        })
    }

    /// Issues a certificate with a fresh key.
    ///
    /// # Errors
    /// A name is not valid.
    pub fn issue(&self, subject: &Subject, lifetime: Lifetime) -> Result<Issued, IdentityError> {
        let key = KeyPair::generate().map_err(failed)?;
        let params = params(&self.trust_domain, subject, lifetime)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: Some(key.serialize_pem()),
        })
    }

    /// Signs a request. Every name comes from the operator's `subject`; of the
    /// request only the public key counts, which it proves to own.
    ///
    /// # Errors
    /// The request can't be read, or its signature does not fit.
    pub fn sign(
        &self,
        request: &str,
        subject: &Subject,
        lifetime: Lifetime,
    ) -> Result<Issued, IdentityError> {
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(|error| {
            IdentityError::new(
                "REQUEST_UNREADABLE",
                format!("the request can't be used: {error}"),
            )
        })?;
        let params = params(&self.trust_domain, subject, lifetime)?;
        let certificate = params
            .signed_by(&asked.public_key, &self.issuer)
            .map_err(failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: None,
        })
    }

    /// Revokes a serial (lower-case hex) and writes a new `crl.pem`.
    ///
    /// # Errors
    /// The list can't be read or written.
    pub fn revoke(&self, serial: &str, now: Micros) -> Result<(), IdentityError> {
        let mut list = self.revocations()?;
        if !list.serials.iter().any(|(known, _)| known == serial) {
            list.serials.push((serial.to_owned(), now.0));
        }
        self.write_crl(&list, now)
    }

    /// Where the CA's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn revocations(&self) -> Result<Revocations, IdentityError> {
        let path = self.directory.join("revoked.json");
        if !path.exists() {
            return Ok(Revocations::default());
        }
        serde_json::from_str(&read_text(&path)?).map_err(|error| {
            IdentityError::new(
                "FILE_UNREADABLE",
                format!("{} can't be read: {error}", path.display()),
            )
        })
    }

    fn write_crl(&self, list: &Revocations, now: Micros) -> Result<(), IdentityError> {
        let number = list.number + 1;
        let revoked = list.serials.iter().map(|(serial, at)| {
            let digits = if serial.len() % 2 == 1 {
                format!("0{serial}")
            } else {
                serial.clone()
            };
            let bytes = hex::decode(digits)
                .map_err(|_| IdentityError::new("FILE_UNREADABLE", "a serial is not hex"))?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes),
                revocation_time: date(Micros(*at))?,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: date(now)?,
            next_update: date(Micros(now.0 + CRL_DAYS * DAY_MICROS))?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect::<Result<_, IdentityError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).map_err(failed)?;
        let list = Revocations {
            number,
            serials: list.serials.clone(),
        };
        let json = serde_json::to_string_pretty(&list).map_err(failed)?;
        write_new(&self.directory.join("revoked.json"), &json, false, true)?;
        let pem = crl.pem().map_err(failed)?;
        write_new(&self.directory.join("crl.pem"), &pem, false, true)
    }
}

/// What a certificate of ours says, whoever signs it.
pub(super) fn params(
    trust_domain: &TrustDomain,
    subject: &Subject,
    lifetime: Lifetime,
) -> Result<CertificateParams, IdentityError> {
    let (names, uri, common_name) = match subject {
        Subject::Hub(names) => (
            names.clone(),
            Some(trust_domain.hub_uri()),
            "hub".to_owned(),
        ),
        Subject::Party(party) => (
            Vec::new(),
            Some(trust_domain.party_uri(party)),
            party.to_string(),
        ),
        Subject::Door(names) => (names.clone(), None, "door".to_owned()),
    };
    let mut params = CertificateParams::new(names).map_err(failed)?;
    if let Some(uri) = uri {
        let uri = uri.try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    params.distinguished_name = named(&common_name);
    params.not_before = date(lifetime.not_before)?;
    params.not_after = date(lifetime.not_after)?;
    params.serial_number = Some(serial());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match subject {
        Subject::Hub(_) => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        Subject::Party(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Subject::Door(_) => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A fresh key and a request for its certificate: the key stays where this
/// runs, only the request travels.
///
/// # Errors
/// The request can't be made.
pub fn request(common_name: &str) -> Result<(String, String), IdentityError> {
    let key = KeyPair::generate().map_err(failed)?;
    let request = request_of(&key, common_name)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem()))
}

/// A fresh key, PEM.
///
/// # Errors
/// It can't be made.
pub fn new_key() -> Result<String, IdentityError> {
    Ok(KeyPair::generate().map_err(failed)?.serialize_pem())
}

/// A request for the certificate of a key (the first in this PEM text), DER.
///
/// # Errors
/// There is no key that can be used.
pub fn request_for(key_pem: &str, common_name: &str) -> Result<Vec<u8>, IdentityError> {
    let found = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let key = found.map_err(|error| failed(format!("no private key in PEM: {error:?}")))?;
    let key = KeyPair::try_from(&key).map_err(failed)?;
    Ok(request_of(&key, common_name)?.der().to_vec())
}

fn request_of(
    key: &KeyPair,
    common_name: &str,
) -> Result<rcgen::CertificateSigningRequest, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.serialize_request(key).map_err(failed)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 126 random bits: positive, and never shorter by chance than 16 bytes.
fn serial() -> SerialNumber {
    let mut bytes = random_bytes::<16>();
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn date(micros: Micros) -> Result<OffsetDateTime, IdentityError> {
    OffsetDateTime::from_unix_timestamp(micros.0.div_euclid(1_000_000)).map_err(failed)
}

pub(super) fn failed(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::new("CERTIFICATE_NOT_MADE", error.to_string())
}
