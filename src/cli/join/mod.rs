//! `jembatan join`: a region trades the hub's line for a certificate and gets
//! settings that work.
//!
//! In this order, so that whatever fails can be run again: the key is made and
//! kept; the hub signs; the certificate is checked and kept; the hub lets us in
//! with it; only then are settings written.

mod ask;
mod owner;
mod settings;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    config::ProxyAddress,
    domain::{Digest, InvitationLine, Micros},
    identity::{
        Files, Material, PeerIdentity, Purpose, TrustDomain, certificates_pem, make_directory,
        new_key, put_in_place, request_for, write_new,
    },
    transport::{DialOptions, Proxy},
    wire::{micros, v1},
};

use owner::Owner;

use super::{
    Done, now,
    output::{Output, json, line, moment},
};

/// A difference of clocks that is worth a word.
const SKEW_MICROS: i64 = 300_000_000;

/// Joins a hub: makes the key here (it never leaves this machine), has it
/// signed by the hub that the line names and by no other, writes settings, and
/// looks whether the hub lets this node in. Whatever stops in the middle can be
/// run again with the same line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan join 'jembatan1/pemda-33.74/hub.example:8443/…'
  jembatan join 'jembatan1/…' --config adapter.toml --data-dir data      to try it
  jembatan join 'jembatan1/…' --proxy http://user:password@proxy.example:3128
Then: jembatan adapter --config /etc/jembatan/adapter.toml")]
pub(super) struct Join {
    /// The line that the hub's operator sent, in quotes
    line: String,
    /// Where the settings go
    #[arg(
        long,
        default_value = "/etc/jembatan/adapter.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Where the node keeps its store; key and certificate go below it
    #[arg(
        long,
        default_value = "/var/lib/jembatan/adapter",
        value_name = "DIRECTORY"
    )]
    data_dir: PathBuf,
    /// HTTP CONNECT proxy on the way out: host:port, or http://user:password@host:port
    #[arg(long)]
    proxy: Option<String>,
    /// Name that the hub's certificate carries, if it is not the address's host
    #[arg(long, value_name = "NAME")]
    hub_name: Option<String>,
    /// Zone in which the region counts days: Asia/Jakarta, Asia/Makassar, Asia/Jayapura
    #[arg(long, default_value = "Asia/Jakarta")]
    time_zone: String,
    /// Replace settings that are there; they are kept beside as .old
    #[arg(long)]
    force: bool,
    /// Make a new key although one is there
    #[arg(long)]
    new_key: bool,
}

/// What the hub gave, and where it is kept.
pub(super) struct Joined {
    pub(super) line: InvitationLine,
    pub(super) trust_domain: TrustDomain,
    pub(super) data_dir: PathBuf,
    pub(super) pair: PathBuf,
    pub(super) roots: PathBuf,
    pub(super) proxy: Option<String>,
    pub(super) hub_name: Option<String>,
    pub(super) time_zone: String,
}

impl Join {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let invitation = InvitationLine::parse(&self.line)?;
        anyhow::ensure!(
            self.force || !self.config.exists(),
            "{} is there already and is not overwritten: say --force (it is kept as .old), or choose another place with --config",
            self.config.display()
        );
        let owner = Owner::of(&self.data_dir)?;
        let directory = std::path::absolute(self.data_dir.join("identity"))?;
        owner.doing(|| {
            make_directory(&self.data_dir)?;
            Ok(make_directory(&directory)?)
        })?;
        let party = &invitation.party;
        let pair = directory.join(format!("{party}.pem"));
        let roots = directory.join("roots.pem");
        // Nothing that works is touched before what is new was looked at.
        let new_pair = directory.join(format!("{party}.pem.joining"));
        let new_roots = directory.join("roots.pem.joining");
        let mut joined = Joined {
            line: invitation.clone(),
            // Until the hub's certificate has told it.
            trust_domain: TrustDomain::parse("jembatan.example")?,
            data_dir: std::path::absolute(&self.data_dir)?,
            pair: pair.clone(),
            roots: roots.clone(),
            proxy: self.proxy.clone(),
            hub_name: self.hub_name.clone(),
            time_zone: self.time_zone.clone(),
        };
        // What is wrong with what was said here is told before the code is used.
        settings::check(&joined, &self.config)?;
        let key = owner.doing(|| self.key(&pair, &new_pair))?;
        let request = request_for(&key, party.as_str())?;
        let ways = self.ways(&invitation)?;
        let (answer, trust_domain) = ask::ask(&ways, &invitation, request).await?;
        let hub_time = answer.hub_time.as_ref();
        let skew = hub_time.and_then(|time| micros("hub_time", time).ok());
        let skew = skew.map_or(0, |hub: Micros| now().0 - hub.0);
        if skew.abs() > SKEW_MICROS {
            eprintln!(
                "This machine's clock is {} minutes {} the hub's: correct it (time synchronisation).",
                skew.abs() / 60_000_000,
                if skew > 0 { "ahead of" } else { "behind" }
            );
        }
        let files = Files {
            certificate: new_pair.clone(),
            key: new_pair.clone(),
            roots: new_roots.clone(),
            crls: Vec::new(),
        };
        let purpose = Purpose::Party(party.clone());
        let material = owner.doing(|| {
            keep(&invitation, &answer, &key, (&new_pair, &new_roots))?;
            let material = Material::load(&files, &purpose, &trust_domain, now());
            let material = material.with_context(|| {
                format!(
                    "the hub has issued a certificate that can't be used here now (this machine's clock is {} s off the hub's); correct what is wrong and run the same line again",
                    skew / 1_000_000
                )
            })?;
            for (new, place) in [(&new_roots, &roots), (&new_pair, &pair)] {
                put_in_place(new, place)?;
            }
            Ok(material)
        })?;
        let is_unary = answer.mode == v1::PartyMode::Unary as i32;
        ask::try_out(&ways, &material, &trust_domain, is_unary).await?;
        joined.trust_domain = trust_domain;
        let config = match is_unary {
            true => None,
            false => Some(settings::write(&joined, &self.config)?),
        };
        say(&joined, &answer, material.identity(), config, output)?;
        Ok(Done::All)
    }

    /// The key that is there, or a new one, kept before it is used: an answer
    /// that is lost costs nothing then.
    fn key(&self, pair: &Path, begun: &Path) -> anyhow::Result<String> {
        let found = [begun, pair].into_iter().find(|path| path.exists());
        if let Some(path) = found.filter(|path| *path == begun || !self.new_key) {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let end = text.find("-----BEGIN CERTIFICATE").unwrap_or(text.len());
            return Ok(text[..end].to_owned());
        }
        let key = new_key()?;
        write_new(begun, &key, true, true)?;
        Ok(key)
    }

    fn ways(&self, invitation: &InvitationLine) -> anyhow::Result<Vec<DialOptions>> {
        let proxy = self.proxy.clone().map(ProxyAddress::try_from).transpose();
        let proxy = proxy.map_err(anyhow::Error::msg)?.map(|found| Proxy {
            address: found.address,
            credentials: found.credentials,
        });
        let ways = invitation.addresses.iter().map(|address| {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let host = host.trim_matches(['[', ']']);
            DialOptions {
                address: address.clone(),
                name: self.hub_name.clone().unwrap_or_else(|| host.to_owned()),
                proxy: proxy.clone(),
                connect_timeout: ask::CONNECT,
            }
        });
        Ok(ways.collect())
    }
}

/// Keeps what the hub gave, if it hangs together.
fn keep(
    line: &InvitationLine,
    answer: &v1::JoinResponse,
    key: &str,
    (pair, roots): (&Path, &Path),
) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer.party == line.party.as_str(),
        "the hub gave a certificate of {:?}, not of {}: tell its operator",
        answer.party,
        line.party
    );
    let has_root = answer
        .roots
        .iter()
        .any(|root| Digest::of(root) == line.root);
    anyhow::ensure!(
        has_root,
        "the hub gave roots among which that of the line is missing: tell its operator"
    );
    let chain = certificates_pem(&answer.certificate_chain);
    write_new(pair, &format!("{key}{chain}"), true, true)?;
    write_new(roots, &certificates_pem(&answer.roots), false, true)?;
    Ok(())
}

fn say(
    joined: &Joined,
    answer: &v1::JoinResponse,
    identity: &PeerIdentity,
    config: Option<PathBuf>,
    output: Output,
) -> anyhow::Result<()> {
    let party = &joined.line.party;
    let name = match answer.party_name.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    eprintln!(
        "Joined as {party}{name}: the hub lets it in. The certificate is good until {}.",
        moment(identity.not_after)
    );
    match &config {
        Some(config) => eprintln!(
            "Next: jembatan adapter --config {0}   (as a service: systemctl enable --now jembatan-adapter). It renews its certificate by itself.",
            config.display()
        ),
        None => eprintln!(
            "It is registered as unary: its own software calls the hub with the key and certificate in {} and the roots in {}, and renews the certificate with EnrolmentService.Renew before it ends.",
            joined.pair.display(),
            joined.roots.display()
        ),
    }
    if output.is_json(false) {
        return json(&serde_json::json!({
            "party": party.as_str(), "config": config, "certificate": joined.pair,
            "roots": joined.roots, "serial": identity.serial,
            "validUntil": moment(identity.not_after),
        }));
    }
    line(
        config
            .unwrap_or_else(|| joined.pair.clone())
            .display()
            .to_string(),
    )
}
