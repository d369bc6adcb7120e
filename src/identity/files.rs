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

/// Whose a file becomes when it is written, and who may read it: whoever writes,
/// unless something else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Its user.
    pub user: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// Its mode.
    pub mode: u32,
}

impl Rights {
    /// Of whoever writes: readable for that user alone if it is a secret, else
    /// for everybody.
    fn own(secret: bool) -> Self {
        Self {
            user: None,
            group: None,
            mode: if secret { 0o600 } else { 0o644 },
        }
    }
}

/// Writes a file that must not be there yet, unless `force` says that it may
/// be replaced. A secret is readable for its owner only. Once this has
/// returned, the file is there after a loss of power as well.
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
    write_for(path, content, Rights::own(secret))
}

/// Writes or replaces a file, which has these rights before it has its name:
/// at no moment is it another one's, or readable for others.
///
/// # Errors
/// It can't be written, or can't be given away.
pub fn write_for(path: &Path, content: &str, rights: Rights) -> Result<(), IdentityError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let _ = fs::remove_file(&temporary);
    write_beside(&temporary, content, rights)
        .map_err(|error| not_written(path, &error))
        .and_then(|()| put_in_place(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
}

fn write_beside(temporary: &Path, content: &str, rights: Rights) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
    let mut options = fs::OpenOptions::new();
    // With `create_new` no link is followed, whoever may write in the directory.
    options.write(true).create_new(true);
    let is_given = rights.user.is_some() || rights.group.is_some();
    options.mode(if is_given { 0o600 } else { rights.mode });
    let mut file = options.open(temporary)?;
    if is_given {
        let is = file.metadata()?;
        // To say what is so already takes no right.
        let user = rights.user.filter(|user| *user != is.uid());
        let group = rights.group.filter(|group| *group != is.gid());
        if user.is_some() || group.is_some() {
            fchown(&file, user, group)?;
        }
        file.set_permissions(fs::Permissions::from_mode(rights.mode))?;
    }
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Renames a file onto a name in the same directory, and returns when that
/// outlives a loss of power.
///
/// # Errors
/// It can't be renamed, or its directory can't be written to the disk.
pub fn put_in_place(from: &Path, to: &Path) -> Result<(), IdentityError> {
    fs::rename(from, to)
        .and_then(|()| sync_directory_of(to))
        .map_err(|error| not_written(to, &error))
}

/// Writes a name in a directory to the disk: the file's own bytes are not
/// enough.
fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|found| !found.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    sync_directory_of(directory).map_err(failed)
}

pub(super) fn not_written(path: &Path, error: &std::io::Error) -> IdentityError {
    IdentityError::new(
        "FILE_NOT_WRITTEN",
        format!("{} can't be written: {error}", path.display()),
    )
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
pub(super) fn crls_of(
    path: &Path,
    text: &str,
) -> Result<Vec<CertificateRevocationListDer<'static>>, IdentityError> {
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
