//! `jembatan parties`: who may connect to the hub.

use clap::{Args, Subcommand, ValueEnum};

use crate::wire::v1;

use super::{
    Done,
    client::{Directory, DoorArgs, refused},
    invitations::{Invite, Invites},
    output::{Output, Table, json, line, or_dash, time, word},
};

/// How a party speaks with the hub.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Mode {
    /// Keeps journals and a stream: an adapter
    Stream,
    /// Calls the gateway service itself
    Unary,
    /// Stands behind the hub's own door
    Local,
}

/// Parties that may connect to the hub.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan parties list
  jembatan parties list --output json
  jembatan parties add pemda-33.74 --name 'Kota Semarang'
  jembatan parties add pemda-33 --observes pemda-33     sees what stands under it
  jembatan parties disable pemda-33.74      its live session ends within seconds
  jembatan parties enable pemda-33.74
  jembatan parties invite pemda-33.74       one line with which the region joins
  jembatan parties invites                  what came of the lines
  jembatan parties show pemda-33.74         its certificates, to be revoked by serial
  jembatan parties revoke 4f0a...           a certificate, by its serial number
They work at the hub's own door: see --door.")]
pub(super) enum Parties {
    /// List them
    #[command(
        after_help = "Examples:\n  jembatan parties list\n  jembatan parties list --output json"
    )]
    List {
        #[command(flatten)]
        door: DoorArgs,
        /// The same as --output json
        #[arg(long)]
        json: bool,
    },
    /// Add one, or change what is said here of one that is there
    Add(Add),
    /// One line with which a region joins by itself, or take one back
    Invite(Invite),
    /// Invitations: open, used, expired, and attempts that were refused
    Invites(Invites),
    /// Show one, with the certificates that this hub has issued to it
    #[command(
        after_help = "Examples:\n  jembatan parties show pemda-33.74\n  jembatan parties show pemda-33.74 --output json"
    )]
    Show {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id
        id: String,
    },
    /// Let it connect again
    #[command(after_help = "Examples:\n  jembatan parties enable pemda-33.74")]
    Enable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id
        id: String,
    },
    /// End its session and let it in no more
    #[command(
        after_help = "Examples:\n  jembatan parties disable pemda-33.74      its live session ends within seconds"
    )]
    Disable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id
        id: String,
    },
    /// Revoke a certificate
    #[command(after_help = "Examples:\n  jembatan parties revoke 4f0a... --note 'Kunci hilang.'")]
    Revoke {
        #[command(flatten)]
        door: DoorArgs,
        /// Serial number in hexadecimal, as `jembatan pki show` prints it
        serial: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// Adds a party. Of one that is there only what is said changes: a name,
/// fingerprints and observed institutions stay, and a disabled party stays
/// disabled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan parties add pemda-33.74 --name 'Kota Semarang'
  jembatan parties add kl-pu --mode unary
  jembatan parties add pemda-33 --observes pemda-33 --observes pemda-33.74
  jembatan parties add pemda-33 --observes-all=false --observes-no-more pemda-33.74
  jembatan parties add pemda-12 --fingerprint 9f86d081884c7d65...")]
pub(super) struct Add {
    #[command(flatten)]
    door: DoorArgs,
    /// Its id, as certificates name it
    id: String,
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// How it speaks with the hub [default for a new one: stream]
    #[arg(long)]
    mode: Option<Mode>,
    /// SHA-256 fingerprint of a certificate that names no party (may be repeated)
    #[arg(long, value_name = "SHA-256")]
    fingerprint: Vec<String>,
    /// Take such a fingerprint away
    #[arg(long, value_name = "SHA-256")]
    drop_fingerprint: Vec<String>,
    /// Sees every complaint, read only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    observes_all: Option<bool>,
    /// Sees every complaint that this institution, or one under it, handles, read only (may be repeated)
    #[arg(long, value_name = "INSTITUTION")]
    observes: Vec<String>,
    /// Observe this institution no more
    #[arg(long, value_name = "INSTITUTION")]
    observes_no_more: Vec<String>,
}

impl Parties {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        match self {
            Self::List { door, json: alias } => {
                let parties = list(&mut door.directory().await?).await?;
                if output.is_json(alias) {
                    json(&parties)?;
                    return Ok(Done::All);
                }
                let mut table = Table::new(["party", "mode", "enabled", "observes", "name"]);
                for party in parties {
                    table.row(row(party));
                }
                table.print()?;
            }
            Self::Add(add) => add.run(output).await?,
            Self::Invite(invite) => invite.run(output).await?,
            Self::Invites(invites) => invites.run(output).await?,
            Self::Show { door, id } => show(&door, id, output).await?,
            Self::Enable { door, id } => set_enabled(&door, id, true, output).await?,
            Self::Disable { door, id } => set_enabled(&door, id, false, output).await?,
            Self::Revoke { door, serial, note } => {
                let request = v1::RevokeCertificateRequest {
                    serial: serial.clone(),
                    note,
                };
                let mut directory = door.directory().await?;
                let outcome = directory.revoke_certificate(request).await;
                outcome.map_err(refused)?;
                if output.is_json(false) {
                    json(&serde_json::json!({"revoked": serial}))?;
                } else {
                    line(serial)?;
                }
            }
        }
        Ok(Done::All)
    }
}

impl Add {
    async fn run(self, output: Output) -> anyhow::Result<()> {
        let mut directory = self.door.directory().await?;
        let known = list(&mut directory).await?;
        let known = known.into_iter().find(|party| party.id == self.id);
        let party = self.merge(known);
        if !party.enabled {
            eprintln!(
                "{0} is disabled and stays so: jembatan parties enable {0} lets it in again",
                party.id
            );
        }
        let request = v1::PutPartyRequest { party: Some(party) };
        let answer = directory.put_party(request).await.map_err(refused)?;
        print(answer.into_inner().party, output)
    }

    /// What is known, changed by what is said.
    fn merge(self, known: Option<v1::Party>) -> v1::Party {
        let mut party = known.unwrap_or_else(|| v1::Party {
            id: self.id,
            mode: v1::PartyMode::Stream as i32,
            enabled: true,
            ..v1::Party::default()
        });
        if let Some(name) = self.name {
            party.name = name;
        }
        if let Some(mode) = self.mode {
            let mode = match mode {
                Mode::Stream => v1::PartyMode::Stream,
                Mode::Unary => v1::PartyMode::Unary,
                Mode::Local => v1::PartyMode::Local,
            };
            party.mode = mode as i32;
        }
        if let Some(observes_all) = self.observes_all {
            party.observes_all = observes_all;
        }
        change(
            &mut party.certificate_fingerprints,
            self.fingerprint,
            &self.drop_fingerprint,
        );
        change(
            &mut party.observes_institutions,
            self.observes,
            &self.observes_no_more,
        );
        party
    }
}

fn change(known: &mut Vec<String>, more: Vec<String>, less: &[String]) {
    for value in more {
        if !known.contains(&value) {
            known.push(value);
        }
    }
    known.retain(|value| !less.contains(value));
}

async fn list(directory: &mut Directory) -> anyhow::Result<Vec<v1::Party>> {
    let answer = directory.list_parties(v1::ListPartiesRequest {}).await;
    Ok(answer.map_err(refused)?.into_inner().parties)
}

async fn show(door: &DoorArgs, id: String, output: Output) -> anyhow::Result<()> {
    let known = list(&mut door.directory().await?).await?;
    let party = known.into_iter().find(|party| party.id == id);
    let party = party.ok_or_else(|| anyhow::anyhow!("no party {id} is registered"))?;
    let request = v1::ListCertificatesRequest { party: id };
    let answer = door.enrolment().await?.list_certificates(request).await;
    let certificates = answer.map_err(refused)?.into_inner().certificates;
    if output.is_json(false) {
        return json(&serde_json::json!({"party": party, "certificates": certificates}));
    }
    let mut table = Table::new(["party", "mode", "enabled", "observes", "name"]);
    table.row(row(party));
    table.print()?;
    line("")?;
    if certificates.is_empty() {
        // Where one was made by hand, only who made it knows.
        return line(
            "this hub has issued no certificate to it; the serial of one that was made by hand: \
             `jembatan pki show FILE`, or `session_opened` in the hub's log",
        );
    }
    let mut table = Table::new(["serial", "issued", "ends", "revoked", "invitation"]);
    for found in certificates {
        table.row([
            found.serial,
            time(found.issued_at.as_ref()),
            time(found.ends_at.as_ref()),
            if found.revoked { "yes" } else { "no" }.to_owned(),
            or_dash(&found.invitation).to_owned(),
        ]);
    }
    table.print()
}

async fn set_enabled(
    door: &DoorArgs,
    party: String,
    enabled: bool,
    output: Output,
) -> anyhow::Result<()> {
    let request = v1::SetPartyEnabledRequest { party, enabled };
    let answer = door.directory().await?.set_party_enabled(request).await;
    print(answer.map_err(refused)?.into_inner().party, output)
}

fn print(party: Option<v1::Party>, output: Output) -> anyhow::Result<()> {
    let party = party.unwrap_or_default();
    if output.is_json(false) {
        return json(&party);
    }
    let mut table = Table::new(["party", "mode", "enabled", "observes", "name"]);
    table.row(row(party));
    table.print()
}

fn row(party: v1::Party) -> [String; 5] {
    let mode = v1::PartyMode::try_from(party.mode).unwrap_or_default();
    let observes = if party.observes_all {
        "all".to_owned()
    } else if party.observes_institutions.is_empty() {
        "-".to_owned()
    } else {
        party.observes_institutions.join(",")
    };
    [
        party.id,
        word(mode.as_str_name(), "PARTY_MODE_"),
        if party.enabled { "yes" } else { "no" }.to_owned(),
        observes,
        party.name,
    ]
}
