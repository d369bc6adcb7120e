//! Puts a renewed certificate and its key in the place of the old ones, so that
//! a crash at any moment leaves a pair that fits.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::domain::Micros;

use super::{
    Files, IdentityError, Material, PeerIdentity, Purpose, TrustDomain,
    files::{read_text, write_new},
};

/// Takes a key and its chain (one PEM text, the key first) into use: they are
/// checked as a node checks its files, and only then put in place.
///
/// Where certificate and key are one file that is one rename. Where they are
/// two, the new pair is first kept as a whole beside the certificate; if a crash
/// comes in between, [`finish_install`] goes on from there.
///
/// # Errors
/// The pair can't be used, and nothing was changed; or a file can't be written.
pub fn install(
    files: &Files,
    pair: &str,
    purpose: &Purpose,
    trust_domain: &TrustDomain,
    now: Micros,
) -> Result<PeerIdentity, IdentityError> {
    let unchecked = beside(&files.certificate, "unchecked");
    write_new(&unchecked, pair, true, true)?;
    let together = Files {
        certificate: unchecked.clone(),
        key: unchecked.clone(),
        ..files.clone()
    };
    let material = Material::load(&together, purpose, trust_domain, now);
    let identity = match material {
        Ok(material) => material.identity().clone(),
        Err(error) => {
            let _ = fs::remove_file(&unchecked);
            return Err(error);
        }
    };
    rename(&unchecked, &beside(&files.certificate, "next"))?;
    finish_install(files)?;
    Ok(identity)
}

/// Goes on with an installation that a crash has cut; does nothing if there is
/// none.
///
/// # Errors
/// A file can't be read or written.
pub fn finish_install(files: &Files) -> Result<(), IdentityError> {
    let next = beside(&files.certificate, "next");
    if !next.exists() {
        return Ok(());
    }
    if files.certificate == files.key {
        return rename(&next, &files.certificate);
    }
    let pair = read_text(&next)?;
    let begin = pair.find("-----BEGIN CERTIFICATE").ok_or_else(|| {
        IdentityError::new(
            "FILE_UNREADABLE",
            format!("{} holds no certificate", next.display()),
        )
    })?;
    let (key, chain) = pair.split_at(begin);
    write_new(&files.key, key, true, true)?;
    write_new(&files.certificate, chain, false, true)?;
    fs::remove_file(&next).map_err(|error| not_written(&next, &error))
}

/// `<path>.<ending>`: in the same directory, so that a rename is one step.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), IdentityError> {
    fs::rename(from, to).map_err(|error| not_written(to, &error))
}

fn not_written(path: &Path, error: &std::io::Error) -> IdentityError {
    IdentityError::new(
        "FILE_NOT_WRITTEN",
        format!("{} can't be written: {error}", path.display()),
    )
}
