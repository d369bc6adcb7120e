//! `jembatan pki`: certificates for labs and pilots. One convention for files:
//! `<name>.key`, `<name>.csr`, `<name>.crt`; what comes next stands beside it
//! as `<name>.next.*` until `install` swaps it in. `ca.pem` and `crl.pem` are
//! lists that travel to every node.

mod issue;
mod renew;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::{
    domain::PartyId,
    identity::{Authority, PeerRole, Subject, TrustDomain, show},
};

use super::{
    Done, now,
    output::{Output, json, line},
};

/// Certificates for labs and pilots.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  (hub)    jembatan pki init --dir ca
  (hub)    jembatan pki issue --dir ca --hub --name hub.example --name 127.0.0.1
  (hub)    jembatan pki issue --dir ca --door --name hub.example      for [door.tls]
A private key that never leaves its region:
  (region) jembatan pki csr --party pemda-33.74
  (hub)    jembatan pki sign --dir ca --party pemda-33.74 --csr pemda-33.74.csr
Before it ends, with a fresh key, while the node runs:
  (region) jembatan pki renew --certificate /etc/jembatan/pemda-33.74.crt
  (hub)    jembatan pki sign --dir ca --party pemda-33.74 --csr pemda-33.74.next.csr
  (region) jembatan pki install --certificate /etc/jembatan/pemda-33.74.crt
For the hub's own, where the authority is at hand:
  (hub)    jembatan pki renew --certificate /etc/jembatan/hub.crt --dir ca
  (hub)    jembatan pki install --certificate /etc/jembatan/hub.crt")]
pub(super) enum Pki {
    /// Make a certificate authority: ca.pem, ca.key, crl.pem
    Init(Init),
    /// Issue a certificate with a fresh key
    Issue(issue::Issue),
    /// The next key beside the live one, with a request, or signed at once
    Renew(renew::Renew),
    /// Swap the next key and its signed certificate in; a running node takes them
    Install(renew::Install),
    /// Make a key here and a request for its certificate
    Csr(issue::Csr),
    /// Sign a request; the names are what you say here, not what it asks for
    Sign(issue::Sign),
    /// Revoke a certificate and write a new crl.pem
    Revoke(Revoke),
    /// Show what is in a certificate
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Directory of the authority
    #[arg(long, default_value = "ca")]
    dir: PathBuf,
    /// Trust domain of all names
    #[arg(long, default_value = "jembatan.example")]
    trust_domain: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki init --dir ca --trust-domain jembatan.example")]
pub(super) struct Init {
    #[command(flatten)]
    common: Common,
    /// Replace an authority that is there: every certificate of it dies
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "subject")]
pub(super) struct Whose {
    /// For this party
    #[arg(long, group = "subject")]
    party: Option<String>,
    /// For the hub
    #[arg(long, group = "subject")]
    hub: bool,
    /// For the doors of a node, beyond loopback: good for nothing on a link
    #[arg(long, group = "subject")]
    door: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki revoke --dir ca pemda-33.74.crt
  jembatan pki revoke --dir ca 4f0a1b...")]
pub(super) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// A certificate file, or a serial number in hexadecimal
    certificate: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki show /etc/jembatan/pemda-33.74.crt
  jembatan pki show /etc/jembatan/hub.crt --output json")]
pub(super) struct Show {
    /// The certificate file
    certificate: PathBuf,
    /// Trust domain of the names
    #[arg(long, default_value = "jembatan.example")]
    trust_domain: String,
}

impl Pki {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Done> {
        let written = match self {
            Self::Init(init) => {
                let domain = TrustDomain::parse(&init.common.trust_domain)?;
                Authority::init(&init.common.dir, &domain, now(), init.force)?;
                eprintln!(
                    "The key {} stays here; ca.pem goes to every node as `roots`.",
                    init.common.dir.join("ca.key").display()
                );
                init.common.dir.join("ca.pem")
            }
            Self::Issue(issue) => issue.run()?,
            Self::Renew(renew) => renew.run()?,
            Self::Install(install) => install.run()?,
            Self::Csr(csr) => csr.run()?,
            Self::Sign(sign) => sign.run()?,
            Self::Revoke(revoke) => {
                let serial = revoke.run()?;
                if output.is_json(false) {
                    json(&serde_json::json!({"revoked": serial}))?;
                } else {
                    line(serial)?;
                }
                return Ok(Done::All);
            }
            Self::Show(show) => {
                show.run(output)?;
                return Ok(Done::All);
            }
        };
        if output.is_json(false) {
            json(&serde_json::json!({"file": written}))?;
        } else {
            line(written.display().to_string())?;
        }
        Ok(Done::All)
    }
}

/// `path` with another ending: ids have dots, so that only a known ending is
/// one.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let text = path.as_os_str().to_string_lossy();
    let stem = [".crt", ".pem", ".csr", ".key"]
        .iter()
        .find_map(|known| text.strip_suffix(known))
        .unwrap_or(&text);
    PathBuf::from(format!("{stem}.{ending}"))
}

impl Whose {
    fn subject(&self, names: &[String]) -> anyhow::Result<(Subject, String)> {
        match &self.party {
            Some(party) => {
                anyhow::ensure!(names.is_empty(), "--name is for the hub and for doors only");
                let party = PartyId::parse(party)?;
                Ok((Subject::Party(party.clone()), party.to_string()))
            }
            None if self.door => {
                anyhow::ensure!(
                    !names.is_empty(),
                    "a door needs --name: the DNS name or IP address by which local systems call it"
                );
                Ok((Subject::Door(names.to_vec()), "door".to_owned()))
            }
            None => {
                anyhow::ensure!(
                    !names.is_empty(),
                    "the hub needs --name: the DNS name or IP address by which nodes dial it"
                );
                Ok((Subject::Hub(names.to_vec()), "hub".to_owned()))
            }
        }
    }
}

impl Revoke {
    fn run(self) -> anyhow::Result<String> {
        let domain = TrustDomain::parse(&self.common.trust_domain)?;
        let authority = Authority::open(&self.common.dir, &domain)?;
        let path = PathBuf::from(&self.certificate);
        let serial = if path.exists() {
            show(&path, &domain)?.0.serial
        } else {
            let text = self.certificate.to_lowercase().replace(':', "");
            anyhow::ensure!(
                !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit()),
                "{:?} is neither a file nor a serial number in hexadecimal",
                self.certificate
            );
            text.trim_start_matches('0').to_owned()
        };
        authority.revoke(&serial, now())?;
        eprintln!(
            "New list: {}. At the hub it works within seconds, without it too: jembatan parties revoke {serial}",
            authority.directory().join("crl.pem").display()
        );
        Ok(serial)
    }
}

impl Show {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let domain = TrustDomain::parse(&self.trust_domain)?;
        let (identity, what) = show(&self.certificate, &domain)?;
        let who = match &identity.role {
            Some(PeerRole::Party(party)) => format!("{what} {party}"),
            _ => what.to_owned(),
        };
        let at = |micros: crate::domain::Micros| {
            jiff::Timestamp::from_microsecond(micros.0)
                .map_or_else(|_| "?".to_owned(), |time| time.to_string())
        };
        let days_left = identity.days_left(now());
        if output.is_json(false) {
            return json(&serde_json::json!({
                "names": who, "uris": identity.uris, "hosts": identity.names,
                "serial": identity.serial, "fingerprint": identity.fingerprint,
                "validFrom": at(identity.not_before), "validUntil": at(identity.not_after),
                "daysLeft": days_left,
            }));
        }
        for (what, text) in [
            ("names", who),
            ("uris", identity.uris.join(", ")),
            ("hosts", identity.names.join(", ")),
            ("serial", identity.serial.clone()),
            ("fingerprint", identity.fingerprint.clone()),
            ("valid from", at(identity.not_before)),
            (
                "valid until",
                format!("{} ({days_left} days left)", at(identity.not_after)),
            ),
        ] {
            line(format!("{what:<13}{text}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: files of a party whose id has a dot, with and without ending.
    /// Guarantee: the id stays whole.
    #[test]
    fn ids_have_dots() {
        let named = |text: &str| with_ending(Path::new(text), "crt").display().to_string();
        assert_eq!(named("in/pemda-33.74.csr"), "in/pemda-33.74.crt");
        assert_eq!(named("pemda-33.74"), "pemda-33.74.crt");
        assert_eq!(named("pemda-33.74.next.csr"), "pemda-33.74.next.crt");
    }
}
