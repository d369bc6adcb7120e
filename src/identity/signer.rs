//! The CA with which a hub signs the certificates of parties that join or
//! renew. Its key is read for each signature and never kept: it may lie on a
//! medium that is there only while somebody joins.

use std::{path::PathBuf, sync::Arc};

use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair, PublicKeyData as _};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::domain::{Digest, Micros, PartyId};

use super::{
    IdentityError, Lifetime, PeerIdentity, Subject, TrustDomain,
    authority::{failed, params},
    files::{read_certificates, read_key},
    material::moment,
};

/// Largest signing request that is read; one with a 4096-bit RSA key has 1.7
/// KiB.
const REQUEST_BYTES: usize = 16 * 1024;
/// RSA keys that are signed, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// Where a CA's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A CA that can sign now.
pub struct Signer {
    certificate: CertificateDer<'static>,
    is_root: bool,
    not_after: Micros,
    issuer: Issuer<'static, KeyPair>,
    trust_domain: TrustDomain,
}

/// A certificate that was made.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What is in it.
    pub identity: PeerIdentity,
}

/// A request that proves to own its key, which is of a kind that is signed.
pub struct SigningRequest {
    params: CertificateSigningRequestParams,
    key_info: Vec<u8>,
}

impl Signer {
    /// Reads the CA's files; the key must be the certificate's, which must be
    /// a CA's and valid at `now`.
    ///
    /// # Errors
    /// `CA_UNAVAILABLE`, with what is wrong and what to do.
    pub fn load(
        files: &CaFiles,
        trust_domain: &TrustDomain,
        now: Micros,
    ) -> Result<Self, IdentityError> {
        let unavailable = |why: String| IdentityError::new("CA_UNAVAILABLE", why);
        let file = files.certificate.display();
        let certificate = read_certificates(&files.certificate)
            .map_err(|error| unavailable(error.why))?
            .swap_remove(0);
        let key = read_key(&files.key).map_err(|error| unavailable(error.why))?;
        let key = KeyPair::try_from(&key)
            .map_err(|error| unavailable(format!("{}: {error}", files.key.display())))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| unavailable(format!("{file}: {error}")))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(unavailable(format!(
                "{} is not the key of {file}",
                files.key.display()
            )));
        }
        let validity = parsed.validity();
        let [not_before, not_after] = [validity.not_before, validity.not_after]
            .map(|moment| Micros(moment.timestamp() * 1_000_000));
        if !parsed.is_ca() || now < not_before || now > not_after {
            return Err(unavailable(format!(
                "{file} is not a CA's certificate that is valid now"
            )));
        }
        let is_root = parsed.subject() == parsed.issuer();
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| unavailable(format!("{file}: {error}")))?;
        Ok(Self {
            is_root,
            not_after,
            issuer,
            trust_domain: trust_domain.clone(),
            certificate,
        })
    }

    /// Whether a party's certificate is of this CA, by its signature: CAs may
    /// have the same name.
    pub fn has_issued(&self, leaf: &CertificateDer<'_>, now: Micros) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(self.certificate.clone()).is_err() {
            return false;
        }
        WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        )
        .build()
        .is_ok_and(|verifier| verifier.verify_client_cert(leaf, &[], moment(now)).is_ok())
    }

    /// The CA's own certificate, if it is a root and no intermediate.
    pub fn root(&self) -> Option<&CertificateDer<'static>> {
        Some(&self.certificate).filter(|_| self.is_root)
    }

    /// Makes the certificate of a party. Every name comes from `party`; of the
    /// request only the public key counts. It never outlives the CA.
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn sign(
        &self,
        request: &SigningRequest,
        party: &PartyId,
        lifetime: Lifetime,
    ) -> Result<Signed, IdentityError> {
        let lifetime = Lifetime {
            not_after: lifetime.not_after.min(self.not_after),
            ..lifetime
        };
        let params = params(&self.trust_domain, &Subject::Party(party.clone()), lifetime)?;
        let made = params
            .signed_by(&request.params.public_key, &self.issuer)
            .map_err(failed)?;
        let leaf = made.der().clone();
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(failed)?;
        // A curve that the signature's algorithm does not tell would end here.
        if parsed.public_key().raw != request.key_info {
            return Err(unusable("its key and its signature do not go together"));
        }
        let identity = PeerIdentity::of(&leaf, &self.trust_domain)?;
        let mut chain = vec![leaf];
        if !self.is_root {
            chain.push(self.certificate.clone());
        }
        Ok(Signed { chain, identity })
    }
}

impl SigningRequest {
    /// Reads a PKCS #10 request, DER.
    ///
    /// # Errors
    /// `REQUEST_UNUSABLE`: it can't be read, its signature does not fit, or its
    /// key is of a kind that is not signed.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        if der.len() > REQUEST_BYTES {
            return Err(unusable("it is larger than 16 KiB"));
        }
        let (rest, parsed) =
            X509CertificationRequest::from_der(der).map_err(|_| unusable("it is no PKCS #10"))?;
        if !rest.is_empty() {
            return Err(unusable("something follows it"));
        }
        let key_info = &parsed.certification_request_info.subject_pki;
        if !is_strong(key_info) {
            return Err(unusable(
                "its key is none of ECDSA P-256 or P-384, Ed25519, RSA with 2048 to 4096 bits",
            ));
        }
        let params = CertificateSigningRequestParams::from_der(&der.into())
            .map_err(|error| unusable(&error.to_string()))?;
        Ok(Self {
            params,
            key_info: key_info.raw.to_vec(),
        })
    }

    /// SHA-256 of the public key.
    pub fn key_digest(&self) -> Digest {
        Digest::of(&self.key_info)
    }
}

fn is_strong(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let kind = &key.algorithm.algorithm;
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref();
        let curve = curve.and_then(|found| found.as_oid().ok());
        return curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384);
    }
    if *kind == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(found)) => RSA_BITS.contains(&found.key_size()),
            _ => false,
        };
    }
    *kind == OID_SIG_ED25519
}

fn unusable(why: &str) -> IdentityError {
    IdentityError::new(
        "REQUEST_UNUSABLE",
        format!("the signing request can't be used: {why}"),
    )
}
