//! The certificate of a node's own door, and whom a caller of such a door
//! trusts. Unlike links these are one-sided: the caller's token says who it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{domain::Micros, runtime::Clock};

use super::{
    IdentityError, PeerIdentity, ReloadState, TrustDomain,
    files::{read_certificates, read_key},
    reload::Reloading,
};

/// Local systems are older than links: 1.2, of which rustls speaks the
/// forward-secret suites only, is taken too.
const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Where a door's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorFiles {
    /// The certificate and, after it, its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A door's certificate and key, checked.
pub struct DoorMaterial {
    identity: PeerIdentity,
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for DoorMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoorMaterial")
            .field("serial", &self.identity.serial)
            .finish_non_exhaustive()
    }
}

impl DoorMaterial {
    /// Reads and checks: the key fits the certificate, which is valid at `now`
    /// and has a name that a caller can check.
    ///
    /// # Errors
    /// What is wrong, in which file, and what to do.
    pub fn load(
        files: &DoorFiles,
        trust_domain: &TrustDomain,
        now: Micros,
    ) -> Result<Self, IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = read_certificates(&files.certificate)?;
        let private = read_key(&files.key)?;
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
        let wrong = |reason, why: &str| {
            Err(IdentityError::new(
                reason,
                format!("{}: {why}", files.certificate.display()),
            ))
        };
        if now.0 > identity.not_after.0 {
            return wrong("CERTIFICATE_EXPIRED", "it has expired: renew it");
        }
        if now.0 < identity.not_before.0 {
            return wrong(
                "CERTIFICATE_NOT_YET_VALID",
                "it is not valid yet: check this machine's clock",
            );
        }
        if identity.names.is_empty() {
            return wrong(
                "WRONG_NAME",
                "it has no DNS name and no IP address that a caller could check",
            );
        }
        Ok(Self {
            identity,
            key: Arc::new(key),
            provider,
        })
    }

    /// The certificate.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Settings of a listener that speaks `protocol` (ALPN).
    ///
    /// # Errors
    /// The settings do not fit together.
    pub fn server_config(&self, protocol: &[u8]) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(VERSIONS)
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![protocol.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

/// Looks at a door's files every so often and swaps what has changed, until it
/// is told to stop; on any failure the old ones stay.
pub async fn watch_door_files(
    current: watch::Sender<Arc<DoorMaterial>>,
    state: watch::Sender<ReloadState>,
    (files, trust_domain): (DoorFiles, TrustDomain),
    clock: Arc<dyn Clock>,
    every: Duration,
    stop: CancellationToken,
) {
    let reloading = Reloading {
        paths: vec![files.certificate.clone(), files.key.clone()],
        load: |now| DoorMaterial::load(&files, &trust_domain, now),
        serial: |material: &DoorMaterial| &material.identity.serial,
        look: |_: &DoorMaterial, _: &watch::Sender<ReloadState>, _| {},
        reloaded: "door_tls_reloaded",
        failed: "door_tls_reload_failed",
    };
    reloading.run((current, state), clock, every, stop).await;
}

/// Settings of a caller that trusts the CA certificates of one file.
///
/// # Errors
/// The file can't be read, or holds no CA certificate.
pub fn door_client_config(ca: &Path) -> Result<Arc<ClientConfig>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for root in read_certificates(ca)? {
        roots.add(root).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn unusable(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::new("ROOT_UNUSABLE", format!("TLS of the door: {error}"))
}
