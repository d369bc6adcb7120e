//! New certificates, keys, roots and CRLs without a restart: a whole new set
//! is loaded, checked, then swapped; on any failure the old one stays.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{domain::Micros, runtime::Clock};

use super::{Files, IdentityError, Material, Purpose, TrustDomain};

/// How reloading goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadState {
    /// Sets that were taken into use since the start.
    pub reloads: u64,
    /// Sets that were refused since the start.
    pub failures: u64,
    /// Why the files as they stand now are not in use.
    pub last_error: Option<String>,
    /// Revocation lists in use that are older than their CA promised: a
    /// sentence each.
    pub expired_crls: Vec<String>,
    /// Certificates that renewed themselves since the start.
    pub renewals: u64,
    /// Attempts to renew that failed since the start.
    pub renewal_failures: u64,
    /// Why the certificate has not renewed itself, once little of its life is
    /// left.
    pub not_renewed: Option<String>,
}

impl ReloadState {
    /// What somebody must look at: a reason for machines, and a sentence.
    pub fn alarms(&self) -> Vec<(&'static str, String)> {
        let failed = self.last_error.iter().map(|why| {
            let why = format!("changed certificate files are not in use: {why}");
            ("TLS_RELOAD_FAILED", why)
        });
        let expired = self.expired_crls.iter();
        let not_renewed = self.not_renewed.iter();
        failed
            .chain(not_renewed.map(|why| ("CERTIFICATE_NOT_RENEWED", why.clone())))
            .chain(expired.map(|why| ("CRL_EXPIRED", why.clone())))
            .collect()
    }
}

/// How often an expired revocation list is said again: an operator who missed
/// it once reads tomorrow's log.
const SAY_AGAIN: i64 = 86_400_000_000;

/// Looks at the files every so often and swaps what has changed, until it is
/// told to stop.
pub async fn watch_files(
    current: watch::Sender<Arc<Material>>,
    state: watch::Sender<ReloadState>,
    (files, purpose, trust_domain): (Files, Purpose, TrustDomain),
    clock: Arc<dyn Clock>,
    every: Duration,
    stop: CancellationToken,
) {
    let paths = [&files.certificate, &files.key, &files.roots]
        .into_iter()
        .chain(&files.crls)
        .cloned()
        .collect();
    let mut said = None;
    let reloading = Reloading {
        paths,
        load: |now| Material::load(&files, &purpose, &trust_domain, now),
        serial: |material: &Material| &material.identity().serial,
        look: |material: &Material, state: &watch::Sender<ReloadState>, now| {
            look_at_age(material, state, &mut said, now);
        },
        reloaded: "tls_reloaded",
        failed: "tls_reload_failed",
    };
    reloading.run((current, state), clock, every, stop).await;
}

/// Files that are looked at, and what is made of them.
pub(super) struct Reloading<M, L, A> {
    pub(super) paths: Vec<PathBuf>,
    pub(super) load: L,
    pub(super) serial: fn(&M) -> &str,
    /// What else is looked at each time, of what is in use.
    pub(super) look: A,
    /// Names of events in the log.
    pub(super) reloaded: &'static str,
    pub(super) failed: &'static str,
}

impl<M, L, A> Reloading<M, L, A> {
    /// Takes a new set into use when the files have changed and can be used; on
    /// any failure the old one stays. Until it is told to stop.
    pub(super) async fn run(
        mut self,
        (current, state): (watch::Sender<Arc<M>>, watch::Sender<ReloadState>),
        clock: Arc<dyn Clock>,
        every: Duration,
        stop: CancellationToken,
    ) where
        L: Fn(Micros) -> Result<M, IdentityError>,
        A: FnMut(&M, &watch::Sender<ReloadState>, Micros),
    {
        let mut seen = digest_of(&self.paths);
        loop {
            (self.look)(&current.borrow(), &state, Micros(clock.now_micros()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let found = digest_of(&self.paths);
            let is_same = found == seen;
            // A refused set is tried again as it stands: a mode was changed, or
            // the clock has come to its beginning, and no byte tells.
            if is_same && state.borrow().last_error.is_none() {
                continue;
            }
            seen = found;
            match (self.load)(Micros(clock.now_micros())) {
                Ok(material) => {
                    tracing::info!(
                        event = self.reloaded,
                        serial = (self.serial)(&material),
                        "new certificates are in use"
                    );
                    current.send_replace(Arc::new(material));
                    state.send_modify(|state| {
                        state.reloads += 1;
                        state.last_error = None;
                    });
                }
                Err(error) if is_same => say_why(&state, &error),
                Err(error) => {
                    tracing::error!(
                        event = self.failed,
                        reason = error.reason,
                        why = %error.why,
                        "the files have changed but can't be used: the old ones stay in use"
                    );
                    state.send_modify(|state| state.failures += 1);
                    say_why(&state, &error);
                }
            }
        }
    }
}

/// Keeps why the files as they stand are not in use.
fn say_why(state: &watch::Sender<ReloadState>, error: &IdentityError) {
    state.send_if_modified(|state| {
        let is_new = state.last_error.as_ref() != Some(&error.why);
        state.last_error = Some(error.why.clone());
        is_new
    });
}

/// Alarms while a revocation list is expired.
fn look_at_age(
    material: &Material,
    state: &watch::Sender<ReloadState>,
    said: &mut Option<Micros>,
    now: Micros,
) {
    let expired = material.expired_crls(now);
    let is_due = said.is_none_or(|said| now.0 - said.0 > SAY_AGAIN);
    match (expired.is_empty(), *said) {
        (true, None) => return,
        (true, Some(_)) => {
            tracing::info!(
                event = "crl_renewed",
                "every revocation list is fresh again"
            );
            *said = None;
        }
        (false, _) if is_due => {
            for why in &expired {
                tracing::error!(event = "crl_expired", reason = "CRL_EXPIRED", why);
            }
            *said = Some(now);
        }
        (false, _) => {}
    }
    state.send_if_modified(|state| {
        let is_new = state.expired_crls.len() != expired.len();
        state.expired_crls = expired;
        is_new
    });
}

/// A digest of all files, as they stand.
fn digest_of(paths: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in paths {
        let content = std::fs::read(path).unwrap_or_default();
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(&content);
    }
    hash.finalize().into()
}
