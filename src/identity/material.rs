//! A checked set of certificate, key, roots and CRLs, and the TLS settings
//! that it makes.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::domain::{Micros, PartyId};

use super::{
    IdentityError, PeerIdentity, PeerRole, TrustDomain,
    crl::{self, Crl},
    files::{read_certificates, read_key},
    refusal,
    witness::{Presented, Witness},
};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate and, after it, its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA certificates that are trusted.
    pub roots: PathBuf,
    /// Certificate revocation lists.
    pub crls: Vec<PathBuf>,
}

/// Who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The hub.
    Hub,
    /// A party; the certificate must name it, or nobody of the trust domain
    /// (then the hub knows it by its fingerprint).
    Party(PartyId),
}

/// A set that has been checked as a whole.
pub struct Material {
    identity: PeerIdentity,
    pub(super) key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    pub(super) root_certificates: Vec<CertificateDer<'static>>,
    root_names: Vec<String>,
    /// By the roots and the lists, which all handshakes share: they may be long.
    pub(super) client_verifier: Arc<dyn ClientCertVerifier>,
    pub(super) server_verifier: Arc<WebPkiServerVerifier>,
    lists: Vec<Crl>,
    pub(super) provider: Arc<CryptoProvider>,
    /// Which of the roots is above our own certificate, once somebody has asked.
    pub(super) own_root: OnceLock<Option<usize>>,
    pub(super) visitor_config: OnceLock<Result<Arc<ServerConfig>, IdentityError>>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("serial", &self.identity.serial)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// Reads and checks: the key fits the certificate, the chain verifies
    /// against our own roots at `now`, our own name is in it, CRLs are
    /// readable.
    ///
    /// # Errors
    /// What is wrong, in which file, and what to do.
    pub fn load(
        files: &Files,
        purpose: &Purpose,
        trust_domain: &TrustDomain,
        now: Micros,
    ) -> Result<Self, IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = read_certificates(&files.certificate)?;
        let private = read_key(&files.key)?;
        let mut roots = RootCertStore::empty();
        let mut root_names = Vec::new();
        let root_certificates = read_certificates(&files.roots)?;
        for root in root_certificates.iter().cloned() {
            if let Ok((_, parsed)) = X509Certificate::from_der(&root) {
                root_names.push(parsed.subject().to_string());
            }
            roots.add(root).map_err(|error| {
                IdentityError::new(
                    "ROOT_UNUSABLE",
                    format!("{}: a root can't be used: {error}", files.roots.display()),
                )
            })?;
        }
        let mut found = Vec::new();
        for path in &files.crls {
            found.extend(crl::read(path)?);
        }
        let (crls, lists): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let roots = Arc::new(roots);
        let (client_verifier, server_verifier) = verifiers(&roots, crls, &provider)?;
        let key = CertifiedKey::from_der(chain, private, &provider).map_err(|error| {
            IdentityError::new(
                "KEY_MISMATCH",
                format!(
                    "{} is not the key of {}: {error}",
                    files.key.display(),
                    files.certificate.display()
                ),
            )
        })?;
        let leaf = key.cert.first().ok_or_else(|| {
            IdentityError::new("CERTIFICATE_UNREADABLE", "the certificate file is empty")
        })?;
        let identity = PeerIdentity::of(leaf, trust_domain)?;
        let material = Self {
            identity,
            key: Arc::new(key),
            roots,
            root_certificates,
            root_names,
            client_verifier,
            server_verifier,
            lists,
            provider,
            own_root: OnceLock::new(),
            visitor_config: OnceLock::new(),
        };
        material.check_name(files, purpose, trust_domain)?;
        material.check_chain(files, purpose, now)?;
        Ok(material)
    }

    /// Our own certificate.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Names of the CAs that are trusted.
    pub fn root_names(&self) -> &[String] {
        &self.root_names
    }

    /// Whether a certificate, which has been verified before, is on one of the
    /// revocation lists: they may have come after the connection.
    pub fn revokes(&self, peer: &PeerIdentity) -> bool {
        self.lists.iter().any(|list| list.names(peer))
    }

    /// What is wrong with the age of revocation lists, a sentence each. An
    /// expired one stays in force: one forgotten renewal must not stop the
    /// nation.
    pub fn expired_crls(&self, now: Micros) -> Vec<String> {
        self.lists
            .iter()
            .filter_map(|list| list.expired(now))
            .collect()
    }

    /// Settings of a listener: mutual TLS 1.3, nobody without a certificate,
    /// no resumption (a resumed client is not verified again). For one
    /// handshake, whose certificate [`Presented`] keeps.
    ///
    /// # Errors
    /// The settings can't be made.
    pub fn server_config(&self) -> Result<(Arc<ServerConfig>, Presented), IdentityError> {
        let (verifier, presented) = Witness::new(self.client_verifier.clone());
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), presented))
    }

    /// Settings of a dialer, for one handshake, whose certificate
    /// [`Presented`] keeps.
    ///
    /// # Errors
    /// The settings can't be made.
    pub fn client_config(&self) -> Result<(Arc<ClientConfig>, Presented), IdentityError> {
        let (verifier, presented) = Witness::new(self.server_verifier.clone());
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok((Arc::new(config), presented))
    }

    fn check_name(
        &self,
        files: &Files,
        purpose: &Purpose,
        trust_domain: &TrustDomain,
    ) -> Result<(), IdentityError> {
        let expected = match purpose {
            Purpose::Hub => trust_domain.hub_uri(),
            Purpose::Party(party) => trust_domain.party_uri(party),
        };
        let fits = match (purpose, &self.identity.role) {
            (Purpose::Hub, Some(PeerRole::Hub)) => true,
            (Purpose::Party(party), Some(PeerRole::Party(named))) => named == party,
            (Purpose::Party(_), None) => self.identity.uris.is_empty(),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let found = match self.identity.uris.as_slice() {
            [] => "no URI at all".to_owned(),
            uris => uris.join(", "),
        };
        Err(IdentityError::new(
            "WRONG_NAME",
            format!(
                "{} names {found}, but this node is {expected}: check which certificate is configured",
                files.certificate.display()
            ),
        ))
    }

    fn check_chain(
        &self,
        files: &Files,
        purpose: &Purpose,
        now: Micros,
    ) -> Result<(), IdentityError> {
        let at = moment(now);
        let (leaf, intermediates) = self
            .key
            .cert
            .split_first()
            .ok_or_else(|| IdentityError::new("CERTIFICATE_UNREADABLE", "no certificate"))?;
        let outcome = match purpose {
            Purpose::Hub => {
                let name = self.identity.names.first().ok_or_else(|| {
                    IdentityError::new(
                        "WRONG_NAME",
                        format!(
                            "{} has no DNS name and no IP address beside its URI: Java, Go and Python clients would refuse it",
                            files.certificate.display()
                        ),
                    )
                })?;
                let name = ServerName::try_from(name.clone()).map_err(|error| {
                    IdentityError::new("WRONG_NAME", format!("{name:?}: {error}"))
                })?;
                self.server_verifier
                    .verify_server_cert(leaf, intermediates, &name, &[], at)
                    .map(drop)
            }
            Purpose::Party(_) => self.verify_party(leaf, intermediates, at)?,
        };
        outcome.map_err(|error| {
            let found = refusal(&error, "this node");
            IdentityError::new(
                found.reason,
                format!("{}: {}", files.certificate.display(), found.why),
            )
        })
    }

    /// Whether our roots know a party's certificate.
    pub(super) fn verify_party(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<Result<(), rustls::Error>, IdentityError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
                .build()
                .map_err(unusable)?;
        Ok(verifier
            .verify_client_cert(leaf, intermediates, at)
            .map(drop))
    }

    /// The certificates that are sent.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

type Verifiers = (Arc<dyn ClientCertVerifier>, Arc<WebPkiServerVerifier>);

fn verifiers(
    roots: &Arc<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifiers, IdentityError> {
    let mut clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    if !crls.is_empty() {
        clients = clients
            .with_crls(crls.clone())
            .only_check_end_entity_revocation();
        servers = servers.with_crls(crls).only_check_end_entity_revocation();
    }
    Ok((
        clients.build().map_err(unusable)?,
        servers.build().map_err(unusable)?,
    ))
}

pub(super) fn moment(now: Micros) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(now.0.max(0).unsigned_abs()))
}

pub(super) fn unusable(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::new(
        "ROOT_UNUSABLE",
        format!("the roots or CRLs can't be used: {error}"),
    )
}
