//! Puts a renewed certificate and its key in the place of the old ones, so that
//! a crash at any moment leaves a pair that fits.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::domain::Micros;

use super::{
    Files, IdentityError, Material, PeerIdentity, Purpose, TrustDomain,
    files::{not_written, put_in_place, read_text, write_new},
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
    let identity = match check(files, &unchecked, purpose, trust_domain, now) {
        Ok(identity) => identity,
        Err(error) => {
            let _ = fs::remove_file(&unchecked);
            return Err(error);
        }
    };
    let next = beside(&files.certificate, "next");
    put_in_place(&unchecked, &next)?;
    swap_in(files, &next)?;
    Ok(identity)
}

/// Whether a renewed pair could be put in place now: both directories can be
/// written. To be asked before a key is signed.
///
/// # Errors
/// Which file can't be written.
pub fn can_install(files: &Files) -> Result<(), IdentityError> {
    // What a renewal writes first, and what it writes beside the key.
    let mut places = vec![beside(&files.certificate, "unchecked")];
    if files.key != files.certificate {
        places.push(beside(&files.key, "unchecked"));
    }
    for place in places {
        write_new(&place, "", true, true)?;
        fs::remove_file(&place).map_err(|error| not_written(&place, &error))?;
    }
    Ok(())
}

/// Goes on with an installation that a crash has cut; does nothing if there is
/// none. What lies there is checked as a new pair is: it may be of another time,
/// another party, or no pair at all. One that can't be used stays where it is,
/// as does what is in use; one that is no newer than what is in use is removed.
///
/// # Errors
/// The pair can't be used, or a file can't be read or written.
pub fn finish_install(
    files: &Files,
    purpose: &Purpose,
    trust_domain: &TrustDomain,
    now: Micros,
) -> Result<(), IdentityError> {
    let next = beside(&files.certificate, "next");
    if !next.exists() {
        return Ok(());
    }
    let found = check(files, &next, purpose, trust_domain, now).map_err(|error| {
        IdentityError::new(
            error.reason,
            format!(
                "{} was left by a renewal that was cut, and can't be used: {}; remove it, what is in use stays",
                next.display(),
                error.why
            ),
        )
    })?;
    let in_use = Material::load(files, purpose, trust_domain, now);
    if in_use.is_ok_and(|in_use| in_use.identity().not_after >= found.not_after) {
        return fs::remove_file(&next).map_err(|error| not_written(&next, &error));
    }
    swap_in(files, &next)
}

/// Checks key and chain in one file as a node checks its own.
fn check(
    files: &Files,
    pair: &Path,
    purpose: &Purpose,
    trust_domain: &TrustDomain,
    now: Micros,
) -> Result<PeerIdentity, IdentityError> {
    let together = Files {
        certificate: pair.to_owned(),
        key: pair.to_owned(),
        ..files.clone()
    };
    let material = Material::load(&together, purpose, trust_domain, now)?;
    Ok(material.identity().clone())
}

/// Puts a pair that has been checked in the place of what is in use.
fn swap_in(files: &Files, next: &Path) -> Result<(), IdentityError> {
    if files.certificate == files.key {
        return put_in_place(next, &files.certificate);
    }
    let pair = read_text(next)?;
    let begin = pair.find("-----BEGIN CERTIFICATE").ok_or_else(|| {
        IdentityError::new(
            "FILE_UNREADABLE",
            format!("{} holds no certificate", next.display()),
        )
    })?;
    let (key, chain) = pair.split_at(begin);
    write_new(&files.key, key, true, true)?;
    write_new(&files.certificate, chain, false, true)?;
    fs::remove_file(next).map_err(|error| not_written(next, &error))
}

/// `<path>.<ending>`: in the same directory, so that a rename is one step.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
