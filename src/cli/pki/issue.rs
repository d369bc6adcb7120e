//! Certificates are made: with a fresh key, or of a request whose key stays
//! where it was made.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::{
    domain::PartyId,
    identity::{Authority, Issued, Lifetime, TrustDomain, request, write_new},
};

use super::{super::now, Common, Whose, with_ending};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki issue --dir ca --hub --name hub.example --name 10.0.0.5
  jembatan pki issue --dir lab --party pemda-33.74      for labs: the key is made here
  jembatan pki issue --dir ca --door --name node.kota.example --out /etc/jembatan")]
pub(in crate::cli) struct Issue {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    whose: Whose,
    /// DNS name or IP address of the hub, or of the door (may be repeated)
    #[arg(long)]
    name: Vec<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Where <name>.crt and <name>.key go [default: the authority's directory]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki csr --party pemda-33.74 --out /etc/jembatan")]
pub(in crate::cli) struct Csr {
    /// The party
    #[arg(long)]
    party: String,
    /// Where <party>.csr and <party>.key go
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki sign --dir ca --party pemda-33.74 --csr pemda-33.74.csr
  jembatan pki sign --dir ca --hub --name hub.example --csr hub.csr --days 365")]
pub(in crate::cli) struct Sign {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    whose: Whose,
    /// DNS name or IP address of the hub, or of the door (may be repeated)
    #[arg(long)]
    name: Vec<String>,
    /// The request
    #[arg(long)]
    csr: PathBuf,
    /// Days that it is valid
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Where the certificate goes [default: beside the request, .crt]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

impl Issue {
    pub(super) fn run(self) -> anyhow::Result<PathBuf> {
        let (subject, name) = self.whose.subject(&self.name)?;
        let domain = TrustDomain::parse(&self.common.trust_domain)?;
        let authority = Authority::open(&self.common.dir, &domain)?;
        let issued = authority.issue(&subject, Lifetime::days(now(), self.days))?;
        let out = self.out.unwrap_or(self.common.dir);
        std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        let at = |ending: &str| out.join(format!("{name}.{ending}"));
        write_pair(&issued, &at("key"), &at("crt"), self.force)?;
        Ok(at("crt"))
    }
}

/// Key and certificate: neither is written if one of them would overwrite.
pub(super) fn write_pair(
    issued: &Issued,
    key: &Path,
    certificate: &Path,
    force: bool,
) -> anyhow::Result<()> {
    for path in [key, certificate] {
        anyhow::ensure!(
            force || !path.exists(),
            "{} is there already and is not overwritten: choose another directory, say --force, or renew it: jembatan pki renew --help",
            path.display()
        );
    }
    if let Some(secret) = &issued.key {
        write_new(key, secret, true, force)?;
    }
    write_new(certificate, &issued.certificate, false, force)?;
    Ok(())
}

impl Csr {
    pub(super) fn run(self) -> anyhow::Result<PathBuf> {
        let party = PartyId::parse(&self.party)?;
        let at = |ending: &str| self.out.join(format!("{party}.{ending}"));
        make_request(party.as_str(), &at("key"), &at("csr"), self.force)?;
        eprintln!(
            "Then: jembatan pki sign --party {party} --csr {party}.csr (at the hub), and the .crt that comes back stands beside the key."
        );
        Ok(at("csr"))
    }
}

/// A fresh key and a request for its certificate. A key that is there is the
/// only one of its kind: nothing goes over it unasked.
pub(super) fn make_request(name: &str, key: &Path, csr: &Path, force: bool) -> anyhow::Result<()> {
    for path in [key, csr] {
        anyhow::ensure!(
            force || !path.exists(),
            "{} is there already and is not overwritten: choose another place, say --force, or make the next key beside it: jembatan pki renew --help",
            path.display()
        );
    }
    let (text, secret) = request(name)?;
    write_new(key, &secret, true, force)?;
    write_new(csr, &text, false, force)?;
    eprintln!(
        "Send {} to the hub's operator; {} never leaves this machine.\nSHA-256 of the request, to be compared by telephone: {}",
        csr.display(),
        key.display(),
        digest_of(&text)
    );
    Ok(())
}

impl Sign {
    pub(super) fn run(self) -> anyhow::Result<PathBuf> {
        let (subject, _) = self.whose.subject(&self.name)?;
        let domain = TrustDomain::parse(&self.common.trust_domain)?;
        let authority = Authority::open(&self.common.dir, &domain)?;
        let csr = std::fs::read_to_string(&self.csr)
            .with_context(|| format!("{} can't be read", self.csr.display()))?;
        let issued = authority.sign(&csr, &subject, Lifetime::days(now(), self.days))?;
        let path = self.out.unwrap_or_else(|| with_ending(&self.csr, "crt"));
        write_new(&path, &issued.certificate, false, self.force)?;
        eprintln!(
            "SHA-256 of the request, to be compared by telephone: {}\nSend back {} and, the first time, {} (it is the region's roots.pem).",
            digest_of(&csr),
            path.display(),
            authority.directory().join("ca.pem").display()
        );
        Ok(path)
    }
}

/// What two operators read to each other, so that nobody signs a request that
/// somebody else has put in its place.
fn digest_of(request: &str) -> String {
    hex::encode(Sha256::digest(request.trim()))
}
