//! Keeps the certificate that the other side presented, also if it is refused:
//! rustls says only why, and an operator wants to know whose it was.
//!
//! Whatever is kept here has **not** been verified. It serves words for our
//! own operator and decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{PeerIdentity, TrustDomain};

/// What was presented in one handshake.
#[derive(Debug, Clone, Default)]
pub struct Presented(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl Presented {
    /// The certificate as far as it can be read. Not verified.
    pub fn claimed(&self, trust_domain: &TrustDomain) -> Option<PeerIdentity> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PeerIdentity::of(kept.as_ref()?, trust_domain).ok()
    }

    /// Who issued it, as far as it can be read, cut to a line. Not verified.
    pub fn issuer(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, parsed) = X509Certificate::from_der(kept.as_ref()?).ok()?;
        Some(parsed.issuer().to_string().chars().take(200).collect())
    }

    fn keep(&self, certificate: &CertificateDer<'_>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(certificate.clone().into_owned());
    }
}

/// A verifier, and what it was shown. All judging is the inner one's.
#[derive(Debug)]
pub(super) struct Witness<V: ?Sized> {
    presented: Presented,
    inner: Arc<V>,
}

impl<V: ?Sized> Witness<V> {
    pub(super) fn new(inner: Arc<V>) -> (Arc<Self>, Presented) {
        let presented = Presented::default();
        let witness = Self {
            presented: presented.clone(),
            inner,
        };
        (Arc::new(witness), presented)
    }
}

impl<V: ServerCertVerifier + ?Sized> ServerCertVerifier for Witness<V> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.presented.keep(end_entity);
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Witness<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.presented.keep(end_entity);
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
