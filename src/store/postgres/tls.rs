//! The line to the server: TLS, checked against roots that the operator names,
//! with a client certificate where there is one.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

use super::connect::Settings;

/// What connections are made with. The files are read for each of them, so that
/// new ones need no restart; if they can't be used, the last ones that could
/// be are.
pub(super) struct Tls {
    settings: Settings,
    last: Mutex<MakeRustlsConnect>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]: which file, and why.
    pub(super) fn new(settings: &Settings) -> Result<Self, StoreError> {
        Ok(Self {
            last: Mutex::new(connector(settings)?),
            settings: settings.clone(),
        })
    }

    /// For the next connection.
    pub(super) fn connector(&self) -> MakeRustlsConnect {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match connector(&self.settings) {
            Ok(newest) => last.clone_from(&newest),
            Err(error) => {
                tracing::error!(
                    event = "postgres_tls_files_unusable", %error,
                    "the earlier ones stay in use; the next start would fail"
                );
            }
        }
        last.clone()
    }
}

/// A connector that lets nobody stand in between.
fn connector(settings: &Settings) -> Result<MakeRustlsConnect, StoreError> {
    let path = settings.roots.as_deref().ok_or_else(|| {
        StoreError::Invalid(
            "[store] roots is missing: name the PEM file of the roots that sign the database \
             server's certificate, or say sslmode=disable in the url if the line needs no TLS"
                .to_owned(),
        )
    })?;
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        roots.add(root).map_err(|error| wrong(path, &error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(path, &error))?
        .with_root_certificates(roots);
    let config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| wrong(key, &error))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(StoreError::Invalid(
                "[store] certificate and key belong together: name both or none".to_owned(),
            ));
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(path, &error))?
        .collect();
    let found = found.map_err(|error| wrong(path, &error))?;
    if found.is_empty() {
        return Err(StoreError::Invalid(format!(
            "{} holds no certificate in PEM",
            path.display()
        )));
    }
    Ok(found)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Invalid(format!("{} can't be used: {error}", path.display()))
}
