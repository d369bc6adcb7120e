//! `jembatan parties` and `jembatan institutions`: the directory of a hub.

use clap::{Subcommand, ValueEnum};

use crate::wire::v1;

use super::{
    Done,
    client::{DoorArgs, refused},
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
  jembatan parties add pemda-33.74 --name 'Kota Semarang'
  jembatan parties disable pemda-33.74      its live session ends within seconds
  jembatan parties revoke 4f0a...           a certificate, by its serial number")]
pub(super) enum Parties {
    /// List them
    List {
        #[command(flatten)]
        door: DoorArgs,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Add one, or replace what is known of it
    Add {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id, as certificates name it
        id: String,
        /// Name for people
        #[arg(long, default_value = "")]
        name: String,
        /// How it speaks with the hub
        #[arg(long, default_value = "stream")]
        mode: Mode,
        /// SHA-256 fingerprint of a certificate that names no party
        #[arg(long)]
        fingerprint: Vec<String>,
        /// Sees every complaint, read only
        #[arg(long)]
        observes_all: bool,
    },
    /// Let it connect again
    Enable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id
        id: String,
    },
    /// End its session and let it in no more
    Disable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its id
        id: String,
    },
    /// Revoke a certificate
    Revoke {
        #[command(flatten)]
        door: DoorArgs,
        /// Serial number in hexadecimal
        serial: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// Institutions, and the party through which each is reached.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan institutions list
  jembatan institutions add pemda-33.74 --through pemda-33.74 --region 33.74")]
pub(super) enum Institutions {
    /// List them
    List {
        #[command(flatten)]
        door: DoorArgs,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Add one, or replace what is known of it
    Add {
        #[command(flatten)]
        door: DoorArgs,
        /// Its code
        code: String,
        /// Name for people
        #[arg(long, default_value = "")]
        name: String,
        /// The party through which it is reached
        #[arg(long)]
        through: String,
        /// The institution above it
        #[arg(long, default_value = "")]
        parent: String,
        /// Kemendagri region code
        #[arg(long, default_value = "")]
        region: String,
    },
}

impl Parties {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        match self {
            Self::List { door, json } => {
                let answer = door
                    .directory()
                    .await?
                    .list_parties(v1::ListPartiesRequest {})
                    .await
                    .map_err(refused)?
                    .into_inner();
                if json {
                    println!("{}", serde_json::to_string(&answer.parties)?);
                    return Ok(Done::All);
                }
                println!("{:<24} {:<8} {:<9} name", "party", "mode", "enabled");
                for party in answer.parties {
                    println!(
                        "{:<24} {:<8} {:<9} {}",
                        party.id,
                        mode_name(party.mode),
                        party.enabled,
                        party.name
                    );
                }
            }
            Self::Add {
                door,
                id,
                name,
                mode,
                fingerprint,
                observes_all,
            } => {
                let mode = match mode {
                    Mode::Stream => v1::PartyMode::Stream,
                    Mode::Unary => v1::PartyMode::Unary,
                    Mode::Local => v1::PartyMode::Local,
                };
                let party = v1::Party {
                    id,
                    name,
                    mode: mode as i32,
                    enabled: true,
                    certificate_fingerprints: fingerprint,
                    observes_all,
                    observes_institutions: Vec::new(),
                };
                let request = v1::PutPartyRequest { party: Some(party) };
                let answer = door.directory().await?.put_party(request).await;
                print_party(answer.map_err(refused)?.into_inner().party)?;
            }
            Self::Enable { door, id } => set_enabled(&door, id, true).await?,
            Self::Disable { door, id } => set_enabled(&door, id, false).await?,
            Self::Revoke { door, serial, note } => {
                let request = v1::RevokeCertificateRequest {
                    serial: serial.clone(),
                    note,
                };
                door.directory()
                    .await?
                    .revoke_certificate(request)
                    .await
                    .map_err(refused)?;
                println!("{serial}");
            }
        }
        Ok(Done::All)
    }
}

async fn set_enabled(door: &DoorArgs, party: String, enabled: bool) -> anyhow::Result<()> {
    let request = v1::SetPartyEnabledRequest { party, enabled };
    let answer = door.directory().await?.set_party_enabled(request).await;
    print_party(answer.map_err(refused)?.into_inner().party)
}

fn print_party(party: Option<v1::Party>) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&party.unwrap_or_default())?);
    Ok(())
}

fn mode_name(mode: i32) -> String {
    v1::PartyMode::try_from(mode)
        .unwrap_or_default()
        .as_str_name()
        .trim_start_matches("PARTY_MODE_")
        .to_lowercase()
}

impl Institutions {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        match self {
            Self::List { door, json } => {
                let answer = door
                    .directory()
                    .await?
                    .list_institutions(v1::ListInstitutionsRequest {})
                    .await
                    .map_err(refused)?
                    .into_inner();
                if json {
                    println!("{}", serde_json::to_string(&answer.institutions)?);
                    return Ok(Done::All);
                }
                println!(
                    "{:<24} {:<24} {:<8} name",
                    "institution", "through", "region"
                );
                for found in answer.institutions {
                    println!(
                        "{:<24} {:<24} {:<8} {}",
                        found.code, found.party, found.region, found.name
                    );
                }
            }
            Self::Add {
                door,
                code,
                name,
                through,
                parent,
                region,
            } => {
                let institution = v1::Institution {
                    code,
                    name,
                    parent,
                    party: through,
                    region,
                };
                let request = v1::PutInstitutionRequest {
                    institution: Some(institution),
                };
                let answer = door
                    .directory()
                    .await?
                    .put_institution(request)
                    .await
                    .map_err(refused)?
                    .into_inner();
                println!(
                    "{}",
                    serde_json::to_string(&answer.institution.unwrap_or_default())?
                );
            }
        }
        Ok(Done::All)
    }
}
