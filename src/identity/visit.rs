//! TLS without a client certificate, for whoever joins. The caller has no
//! roots yet: it knows one root by its fingerprint, so the hub shows that root
//! too, and everything else is verified as always.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature,
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::domain::{Digest, Micros};

use super::{
    IdentityError, Material, Presented,
    material::{moment, unusable},
    refusal,
    witness::Witness,
};

/// ALPN of a connection on which somebody joins: it says, before anything else,
/// that the caller has no certificate, and is part of what TLS protects.
pub const JOIN_PROTOCOL: &[u8] = b"jembatan-join/1";

impl Material {
    /// The root under which our own (a hub's) certificate stands.
    ///
    /// # Errors
    /// None of the roots is it.
    pub fn own_root(&self) -> Result<&CertificateDer<'static>, IdentityError> {
        let found = self.own_root.get_or_init(|| self.find_own_root());
        found
            .and_then(|index| self.root_certificates.get(index))
            .ok_or_else(|| {
                IdentityError::new("UNKNOWN_CA", "no root verifies the hub's certificate")
            })
    }

    fn find_own_root(&self) -> Option<usize> {
        let (leaf, intermediates) = self.key.cert.split_first()?;
        let name = self.identity().names.first()?;
        let name = ServerName::try_from(name.as_str()).ok()?;
        // Which root it is does not depend on the time of day: whether it is
        // valid now is the caller's to check.
        let Micros(begin) = self.identity().not_before;
        let middle = Micros(begin + (self.identity().not_after.0 - begin) / 2);
        let is_above = |root: &CertificateDer<'static>| {
            verifier_of(root, self.provider.clone()).is_ok_and(|verifier| {
                verifier
                    .verify_server_cert(leaf, intermediates, &name, &[], moment(middle))
                    .is_ok()
            })
        };
        self.root_certificates.iter().position(is_above)
    }

    /// Whether our roots know a party's chain, leaf first.
    ///
    /// # Errors
    /// They don't, or it is not valid at `now`.
    pub fn check_party(
        &self,
        chain: &[CertificateDer<'_>],
        now: Micros,
    ) -> Result<(), IdentityError> {
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or_else(|| IdentityError::new("CERTIFICATE_UNREADABLE", "no certificate"))?;
        self.verify_party(leaf, intermediates, moment(now))?
            .map_err(|error| {
                let found = refusal(&error, "the party");
                IdentityError::new(found.reason, found.why)
            })
    }

    /// Settings of a listener for whoever joins: TLS 1.3, our root shown beside
    /// our chain, no certificate asked for, no resumption. Made once: anybody can
    /// say hello, as often as they like.
    ///
    /// # Errors
    /// No root verifies our own certificate.
    pub fn visitor_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let made = self.visitor_config.get_or_init(|| self.for_visitors());
        made.clone()
    }

    fn for_visitors(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let root = self.own_root()?;
        let mut chain = self.key.cert.clone();
        if !chain.contains(root) {
            chain.push(root.clone());
        }
        let key = CertifiedKey::new(chain, self.key.key.clone());
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::new(key))));
        config.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Whether a party's chain, leaf first, stands under one of these roots.
///
/// # Errors
/// It does not, or is not valid at `now`.
pub fn check_chain(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    now: Micros,
) -> Result<(), IdentityError> {
    let (leaf, intermediates) = chain
        .split_first()
        .ok_or_else(|| IdentityError::new("CERTIFICATE_UNREADABLE", "no certificate"))?;
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(unusable)?;
    }
    let provider = Arc::new(default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(unusable)?
        .verify_client_cert(leaf, intermediates, moment(now))
        .map(drop)
        .map_err(|error| {
            let found = refusal(&error, "the party");
            IdentityError::new(found.reason, found.why)
        })
}

/// Settings of a caller that joins: only a hub under the root of this
/// fingerprint is talked to. For one handshake, whose certificate
/// [`Presented`] keeps.
///
/// # Errors
/// TLS can't be set up.
pub fn visitor_client_config(
    root: &Digest,
) -> Result<(Arc<ClientConfig>, Presented), IdentityError> {
    let provider = Arc::new(default_provider());
    let pinned = PinnedRoot {
        fingerprint: *root,
        provider: provider.clone(),
    };
    let (verifier, presented) = Witness::new(Arc::new(pinned));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), presented))
}

/// Verifies as always, against the one root that has this fingerprint and that
/// the hub shows by itself.
#[derive(Debug)]
struct PinnedRoot {
    fingerprint: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned =
            |shown: &&CertificateDer<'_>| Digest::of(shown.as_ref()) == self.fingerprint;
        let root = intermediates
            .iter()
            .find(is_pinned)
            .ok_or(rustls::CertificateError::UnknownIssuer)?;
        verifier_of(root, self.provider.clone())?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn verifier_of(
    root: &CertificateDer<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}
