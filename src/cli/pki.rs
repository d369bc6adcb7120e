//! `jembatan pki`: certificates for labs and pilots.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    domain::PartyId,
    identity::{
        Authority, Issued, Lifetime, PeerRole, Subject, TrustDomain, request, show, write_new,
    },
};

use super::{Done, now};

/// Certificates for labs and pilots.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan pki init --dir ca
  jembatan pki issue --dir ca --hub --name hub.example --name 127.0.0.1
  jembatan pki issue --dir ca --party pemda-33.74
A private key that never leaves its region:
  (region) jembatan pki csr --party pemda-33.74
  (hub)    jembatan pki sign --dir ca --party pemda-33.74 --csr pemda-33.74.csr")]
pub(super) enum Pki {
    /// Make a certificate authority: ca.pem, ca.key, crl.pem
    Init(Init),
    /// Issue a certificate with a fresh key
    Issue(Issue),
    /// Issue again, over what is there: the same names, a fresh key
    Renew(Issue),
    /// Make a key here and a request for its certificate
    Csr(Csr),
    /// Sign a request; the names are what you say here, not what it asks for
    Sign(Sign),
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
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    whose: Whose,
    /// DNS name or IP address of the hub (may be repeated)
    #[arg(long)]
    name: Vec<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Where <name>.pem and <name>.key go [default: the authority's directory]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Csr {
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
pub(super) struct Sign {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    whose: Whose,
    /// DNS name or IP address of the hub (may be repeated)
    #[arg(long)]
    name: Vec<String>,
    /// The request
    #[arg(long)]
    csr: PathBuf,
    /// Days that it is valid
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Where the certificate goes [default: beside the request, .pem]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// A certificate file, or a serial number in hexadecimal
    certificate: String,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The certificate file
    certificate: PathBuf,
    /// Trust domain of the names
    #[arg(long, default_value = "jembatan.example")]
    trust_domain: String,
}

impl Pki {
    pub(super) fn run(self) -> anyhow::Result<Done> {
        match self {
            Self::Init(init) => {
                let domain = TrustDomain::parse(&init.common.trust_domain)?;
                Authority::init(&init.common.dir, &domain, now(), init.force)?;
                println!("{}", init.common.dir.join("ca.pem").display());
                eprintln!(
                    "The key {} stays here; ca.pem goes to every node as `roots`.",
                    init.common.dir.join("ca.key").display()
                );
            }
            Self::Issue(issue) => issue.run(false)?,
            Self::Renew(issue) => issue.run(true)?,
            Self::Csr(csr) => csr.run()?,
            Self::Sign(sign) => sign.run()?,
            Self::Revoke(revoke) => revoke.run()?,
            Self::Show(show) => show.run()?,
        }
        Ok(Done::All)
    }
}

impl Whose {
    fn subject(&self, names: &[String]) -> anyhow::Result<(Subject, String)> {
        match &self.party {
            Some(party) => {
                anyhow::ensure!(names.is_empty(), "--name is for the hub only");
                let party = PartyId::parse(party)?;
                Ok((Subject::Party(party.clone()), party.to_string()))
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

impl Issue {
    fn run(self, is_renewal: bool) -> anyhow::Result<()> {
        let (subject, name) = self.whose.subject(&self.name)?;
        let domain = TrustDomain::parse(&self.common.trust_domain)?;
        let authority = Authority::open(&self.common.dir, &domain)?;
        let issued = authority.issue(&subject, Lifetime::days(now(), self.days))?;
        let out = self.out.unwrap_or(self.common.dir);
        std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        let force = self.force || is_renewal;
        let Issued { certificate, key } = issued;
        if let Some(key) = key {
            write_new(&out.join(format!("{name}.key")), &key, true, force)?;
        }
        let path = out.join(format!("{name}.pem"));
        write_new(&path, &certificate, false, force)?;
        println!("{}", path.display());
        Ok(())
    }
}

impl Csr {
    fn run(self) -> anyhow::Result<()> {
        let party = PartyId::parse(&self.party)?;
        let (csr, key) = request(party.as_str())?;
        let at = |ending: &str| self.out.join(format!("{party}.{ending}"));
        write_new(&at("key"), &key, true, self.force)?;
        write_new(&at("csr"), &csr, false, self.force)?;
        println!("{}", at("csr").display());
        eprintln!(
            "Send {} to the hub's operator; {} never leaves this machine.",
            at("csr").display(),
            at("key").display()
        );
        Ok(())
    }
}

impl Sign {
    fn run(self) -> anyhow::Result<()> {
        let (subject, _) = self.whose.subject(&self.name)?;
        let domain = TrustDomain::parse(&self.common.trust_domain)?;
        let authority = Authority::open(&self.common.dir, &domain)?;
        let csr = std::fs::read_to_string(&self.csr)
            .with_context(|| format!("{} can't be read", self.csr.display()))?;
        let issued = authority.sign(&csr, &subject, Lifetime::days(now(), self.days))?;
        let path = self.out.unwrap_or_else(|| self.csr.with_extension("pem"));
        write_new(&path, &issued.certificate, false, self.force)?;
        println!("{}", path.display());
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> anyhow::Result<()> {
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
        println!("{serial}");
        eprintln!(
            "New list: {}. At the hub it works within seconds, without it too: jembatan parties revoke {serial}",
            authority.directory().join("crl.pem").display()
        );
        Ok(())
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
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
        println!("names        {who}");
        println!("uris         {}", identity.uris.join(", "));
        println!("hosts        {}", identity.names.join(", "));
        println!("serial       {}", identity.serial);
        println!("fingerprint  {}", identity.fingerprint);
        println!("valid from   {}", at(identity.not_before));
        println!(
            "valid until  {} ({} days left)",
            at(identity.not_after),
            identity.days_left(now())
        );
        Ok(())
    }
}
