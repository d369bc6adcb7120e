//! Laboratories: nodes as real processes with fresh certificates in a
//! temporary directory. The demo and the benchmark stand on it.

mod node;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    domain::PartyId,
    identity::{Authority, Lifetime, Subject, TrustDomain, write_new},
};

use super::{now, serve::on_signal};

pub(super) use node::Node;

/// Trust domain of every laboratory.
pub(super) const TRUST_DOMAIN: &str = "jembatan.example";
/// How long killed nodes may take to be gone.
const KILLED: Duration = Duration::from_millis(300);

/// A directory that goes away at the end, unless it is to be kept.
pub(super) struct LabDirectory {
    pub(super) path: PathBuf,
    pub(super) is_kept: bool,
}

impl LabDirectory {
    /// A fresh one: where `keep` says, else among the temporary files.
    pub(super) fn new(keep: Option<&Path>) -> anyhow::Result<Self> {
        let (path, is_kept) = match keep {
            Some(path) => (path.to_owned(), true),
            None => {
                let name = hex::encode(crate::runtime::random_bytes::<6>());
                let path = std::env::temp_dir().join(format!("jembatan-lab-{name}"));
                (path, false)
            }
        };
        if path.exists() {
            anyhow::bail!(
                "{} is there already: choose a directory that is not",
                path.display()
            );
        }
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, is_kept })
    }
}

impl Drop for LabDirectory {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs a benchmark in a directory, which stays for whoever looks why it
/// failed. A signal ends it with all nodes that it has started, and leaves
/// nothing behind.
pub(super) async fn benchmark<T>(
    mut directory: LabDirectory,
    run: impl AsyncFnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let stop = on_signal()?;
    let path = directory.path.clone();
    let outcome = tokio::select! {
        outcome = run(&path) => outcome,
        () = stop.cancelled() => {
            // What ran has been dropped by now, and its nodes were killed with it.
            tokio::time::sleep(KILLED).await;
            anyhow::bail!("interrupted before its end");
        }
    };
    outcome.map_err(|error| {
        directory.is_kept = true;
        error.context(format!(
            "the benchmark failed; stores and logs are in {}",
            path.display()
        ))
    })
}

/// A CA in `pki/`, with certificates for the hub and these parties.
pub(super) fn certificates(directory: &Path, parties: &[&str]) -> anyhow::Result<()> {
    let domain = TrustDomain::parse(TRUST_DOMAIN)?;
    let pki = directory.join("pki");
    let authority = Authority::init(&pki, &domain, now(), false)?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    issue(&authority, &pki, "hub", &Subject::Hub(names))?;
    for party in parties {
        let subject = Subject::Party(PartyId::parse(party)?);
        issue(&authority, &pki, party, &subject)?;
    }
    Ok(())
}

fn issue(authority: &Authority, pki: &Path, name: &str, subject: &Subject) -> anyhow::Result<()> {
    let issued = authority.issue(subject, Lifetime::days(now(), 30))?;
    let key = issued.key.unwrap_or_default();
    write_new(&pki.join(format!("{name}.key")), &key, true, false)?;
    write_new(
        &pki.join(format!("{name}.crt")),
        &issued.certificate,
        false,
        false,
    )?;
    Ok(())
}

pub(super) fn hub_file() -> String {
    r#"trust_domain = "jembatan.example"
directory = "hub-data"

[listen]
links = "127.0.0.1:0"

[door]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"

[tls]
certificate = "pki/hub.crt"
key = "pki/hub.key"
roots = "pki/ca.pem"

[national]
party = "nasional"
system = "lapor"

[directory_file]
path = "directory.toml"
"#
    .to_owned()
}

pub(super) fn adapter_file(party: &str, system: &str, hub: SocketAddr) -> String {
    format!(
        r#"trust_domain = "jembatan.example"
directory = "{party}-data"

[hub]
address = "{hub}"
name = "127.0.0.1"

[[party]]
id = "{party}"
certificate = "pki/{party}.crt"
key = "pki/{party}.key"

[[party.system]]
name = "{system}"

[tls]
roots = "pki/ca.pem"

[door]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"
"#,
    )
}
