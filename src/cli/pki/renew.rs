//! The next certificate, before this one ends: the key that is in use stays as
//! it is until the signed certificate of the next one is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::identity::{
    Authority, DoorFiles, DoorMaterial, Files, Lifetime, Material, PeerIdentity, PeerRole, Purpose,
    Subject, TrustDomain, put_in_place, show,
};

use super::{
    super::now,
    issue::{make_request, write_pair},
    with_ending,
};

/// Makes the next key as <name>.next.key beside the certificate. Without --dir
/// a request for its certificate goes to <name>.next.csr; with --dir, where the
/// authority is at hand, it is signed at once as <name>.next.crt. The live key
/// and certificate are not touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki renew --certificate /etc/jembatan/pemda-33.74.crt
  jembatan pki renew --certificate /etc/jembatan/pemda-33.74.crt --csr-out /tmp/pemda-33.74.csr
  jembatan pki renew --certificate /etc/jembatan/hub.crt --dir ca
Then jembatan pki install.")]
pub(in crate::cli) struct Renew {
    /// The certificate in use; the names are taken from it
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Where the request goes [default: <name>.next.csr beside the certificate]
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    csr_out: Option<PathBuf>,
    /// Directory of the authority, if it is here: sign at once
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Trust domain of all names
    #[arg(long, default_value = "jembatan.example")]
    trust_domain: String,
    /// Days that it is valid, with --dir
    #[arg(long, default_value_t = 90, requires = "dir")]
    days: i64,
    /// Overwrite a next key that is there already; a request for it is then void
    #[arg(long)]
    force: bool,
}

impl Renew {
    pub(super) fn run(self) -> anyhow::Result<PathBuf> {
        let domain = TrustDomain::parse(&self.trust_domain)?;
        let (identity, _) = show(&self.certificate, &domain)?;
        let subject = subject_of(&identity, &self.certificate)?;
        let next = |ending: &str| with_ending(&self.certificate, &format!("next.{ending}"));
        match &self.dir {
            Some(dir) => {
                let authority = Authority::open(dir, &domain)?;
                let issued = authority.issue(&subject, Lifetime::days(now(), self.days))?;
                write_pair(&issued, &next("key"), &next("crt"), self.force)?;
                eprintln!(
                    "Then: jembatan pki install --certificate {}",
                    self.certificate.display()
                );
                Ok(next("crt"))
            }
            None => {
                let name = match &subject {
                    Subject::Party(party) => party.to_string(),
                    Subject::Hub(_) => "hub".to_owned(),
                    Subject::Door(_) => "door".to_owned(),
                };
                let csr = self.csr_out.clone().unwrap_or_else(|| next("csr"));
                make_request(&name, &next("key"), &csr, self.force)?;
                eprintln!(
                    "The certificate that comes back: save it as {}, then jembatan pki install --certificate {}",
                    next("crt").display(),
                    self.certificate.display()
                );
                Ok(csr)
            }
        }
    }
}

fn subject_of(identity: &PeerIdentity, certificate: &Path) -> anyhow::Result<Subject> {
    match &identity.role {
        Some(PeerRole::Party(party)) => Ok(Subject::Party(party.clone())),
        Some(PeerRole::Hub) => Ok(Subject::Hub(identity.names.clone())),
        None if identity.uris.is_empty() && !identity.names.is_empty() => {
            Ok(Subject::Door(identity.names.clone()))
        }
        None => anyhow::bail!(
            "{} names neither a party nor the hub of this trust domain: is --trust-domain right?",
            certificate.display()
        ),
    }
}

/// Swaps <name>.next.key and its signed certificate in. Everything is checked
/// before anything is touched: the key fits, the names are the same, it is
/// and it verifies against the roots. What was in use stays as <name>.old.*.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan pki install --certificate /etc/jembatan/pemda-33.74.crt --roots /etc/jembatan/roots.pem
  jembatan pki install --certificate /etc/jembatan/pemda-33.74.crt --new /tmp/from-the-hub.crt
A node that runs takes them into use by itself; nothing has to be restarted. If
it was interrupted, run it again.")]
pub(in crate::cli) struct Install {
    /// The certificate in use
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its key [default: the same name with .key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The signed certificate [default: <name>.next.crt]
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
    /// Roots that it must verify against [default: roots.pem beside the certificate]
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Trust domain of all names
    #[arg(long, default_value = "jembatan.example")]
    trust_domain: String,
}

impl Install {
    pub(super) fn run(self) -> anyhow::Result<PathBuf> {
        let domain = TrustDomain::parse(&self.trust_domain)?;
        let live = &self.certificate;
        let live_key = self.key.clone().unwrap_or_else(|| with_ending(live, "key"));
        let next_key = with_ending(live, "next.key");
        let signed = self
            .new
            .clone()
            .unwrap_or_else(|| with_ending(live, "next.crt"));
        let (now_used, _) = show(live, &domain)?;
        let (next, _) = show(&signed, &domain)
            .with_context(|| "the hub's operator sends it back: jembatan pki sign".to_owned())?;
        anyhow::ensure!(
            now_used.uris == next.uris && same(&now_used.names, &next.names),
            "{} is for {}, {} for {}: this is another one's certificate",
            live.display(),
            names(&now_used),
            signed.display(),
            names(&next)
        );
        // The key was moved before an interruption: go on with the certificate.
        let was_interrupted = !next_key.exists();
        let key = if was_interrupted {
            &live_key
        } else {
            &next_key
        };
        self.check(&domain, &next, &signed, key)?;
        keep(live, "old.crt")?;
        if !was_interrupted {
            keep(&live_key, "old.key")?;
            take_over_rights(&live_key, &next_key)?;
            put_in_place(&next_key, &live_key)?;
        }
        let beside = with_ending(live, "installing.crt");
        fs::copy(&signed, &beside).with_context(|| beside.display().to_string())?;
        take_over_rights(live, &beside)?;
        fs::File::open(&beside)
            .and_then(|file| file.sync_all())
            .with_context(|| beside.display().to_string())?;
        put_in_place(&beside, live)?;
        if self.new.is_none() {
            let _ = fs::remove_file(&signed);
        }
        let _ = fs::remove_file(with_ending(live, "next.csr"));
        eprintln!(
            "In use: serial {}, {} days left. The old one stays beside it as *.old.*; delete it once the node is connected.",
            next.serial,
            next.days_left(now())
        );
        Ok(self.certificate)
    }

    /// By the same check that a node makes.
    fn check(
        &self,
        domain: &TrustDomain,
        next: &PeerIdentity,
        signed: &Path,
        key: &Path,
    ) -> anyhow::Result<()> {
        if next.role.is_none() && next.uris.is_empty() {
            let files = DoorFiles {
                certificate: signed.to_owned(),
                key: key.to_owned(),
            };
            return DoorMaterial::load(&files, domain, now())
                .map(drop)
                .context("nothing was changed: the next certificate can't be used");
        }
        let purpose = match &next.role {
            Some(PeerRole::Party(party)) => Purpose::Party(party.clone()),
            _ => Purpose::Hub,
        };
        let beside = self.certificate.with_file_name("roots.pem");
        let files = Files {
            certificate: signed.to_owned(),
            key: key.to_owned(),
            roots: self.roots.clone().unwrap_or(beside),
            crls: Vec::new(),
        };
        let outcome = Material::load(&files, &purpose, domain, now());
        outcome
            .map(drop)
            .context("nothing was changed: the next certificate can't be used")
    }
}

fn names(identity: &PeerIdentity) -> String {
    let all = identity.uris.iter().chain(&identity.names);
    all.cloned().collect::<Vec<_>>().join(", ")
}

fn same(one: &[String], other: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    sorted(one) == sorted(other)
}

/// A copy of what is in use, with its rights.
fn keep(live: &Path, ending: &str) -> anyhow::Result<()> {
    let kept = with_ending(live, ending);
    fs::copy(live, &kept)
        .map(drop)
        .with_context(|| format!("{} can't be kept as {}", live.display(), kept.display()))
}

/// The node must be able to read what its operator wrote: the same owner,
/// group and mode as the file that is replaced.
fn take_over_rights(of: &Path, to: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let found = fs::metadata(of).with_context(|| of.display().to_string())?;
    let mine = fs::metadata(to).with_context(|| to.display().to_string())?;
    if (found.uid(), found.gid()) != (mine.uid(), mine.gid()) {
        chown(to, Some(found.uid()), Some(found.gid())).with_context(|| {
            format!(
                "{} can't get the owner of {}: do this as root",
                to.display(),
                of.display()
            )
        })?;
    }
    fs::set_permissions(to, found.permissions()).with_context(|| to.display().to_string())
}
