//! Reading and writing PEM files: keys for their owner alone, nothing
//! overwritten by accident, nothing half written.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _,
};

use super::IdentityError;

/// Characters of a line in PEM.
const PEM_LINE: usize = 64;

/// Writes a file that must not be there yet, unless `force` says that it may
/// be replaced. A secret is readable for its owner only.
///
/// # Errors
/// It is there already, or can't be written.
pub fn write_new(
    path: &Path,
    content: &str,
    secret: bool,
    force: bool,
) -> Result<(), IdentityError> {
    if path.exists() && !force {
        return Err(IdentityError::new(
            "FILE_EXISTS",
            format!(
                "{} is there already and is not overwritten: choose another directory or name, or say --force",
                path.display()
            ),
        ));
    }
    let failed = |error: std::io::Error| {
        IdentityError::new(
            "FILE_NOT_WRITTEN",
            format!("{} can't be written: {error}", path.display()),
        )
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if secret { 0o600 } else { 0o644 });
    }
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(content.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// Makes a directory for secrets, if it is not there.
///
/// # Errors
/// It can't be made.
pub fn make_directory(directory: &Path) -> Result<(), IdentityError> {
    let failed = |error: std::io::Error| {
        IdentityError::new(
            "FILE_NOT_WRITTEN",
            format!("{} can't be made: {error}", directory.display()),
        )
    };
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Certificates in PEM, in order.
pub fn certificates_pem<C: AsRef<[u8]>>(certificates: &[C]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        let digits = base64::engine::general_purpose::STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in digits.as_bytes().chunks(PEM_LINE) {
            text.extend(line.iter().copied().map(char::from));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

pub(super) fn read_text(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|error| {
        IdentityError::new(
            "FILE_UNREADABLE",
            format!("{} can't be read: {error}", path.display()),
        )
    })
}

/// Every certificate of a PEM file, in order; at least one.
pub(super) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = read_text(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(path, "certificates", &format!("{error:?}")))?;
    if found.is_empty() {
        return Err(not_pem(
            path,
            "certificates",
            "there is no BEGIN CERTIFICATE in it",
        ));
    }
    Ok(found)
}

/// The private key of a PEM file, which nobody else may read.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read_text(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        // Group-readable is how many distributions hand keys to services.
        if mode.is_ok_and(|mode| mode & 0o007 != 0) {
            return Err(IdentityError::new(
                "KEY_EXPOSED",
                format!(
                    "the private key {} can be read by everybody on this machine: run chmod 600 {} and consider a new key",
                    path.display(),
                    path.display()
                ),
            ));
        }
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| not_pem(path, "a private key", &format!("{error:?}")))
}

/// Every CRL of a PEM file.
pub(super) fn read_crls(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, IdentityError> {
    let text = read_text(path)?;
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(path, "a CRL", &format!("{error:?}")))?;
    if found.is_empty() {
        return Err(not_pem(path, "a CRL", "there is no BEGIN X509 CRL in it"));
    }
    Ok(found)
}

fn not_pem(path: &Path, what: &str, why: &str) -> IdentityError {
    IdentityError::new(
        "FILE_UNREADABLE",
        format!("{} does not hold {what} in PEM: {why}", path.display()),
    )
}
