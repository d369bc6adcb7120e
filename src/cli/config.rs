//! `jembatan config`: the documented default files, and checking.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::config::{ADAPTER_FILE, DIRECTORY_FILE, DirectoryFile, HUB_FILE, load};

use super::{
    Done, certificate_files,
    node_file::{load_adapter, load_hub},
    output::{Output, json, write},
};

/// Which file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// Settings of the national node
    Hub,
    /// Settings of a region's node
    Adapter,
    /// Parties, institutions and rules of a hub
    Directory,
}

/// Write, check and show configuration files.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan config init adapter > adapter.toml
  jembatan config check adapter adapter.toml        names file, line and key of what is wrong
  jembatan config show hub hub.toml                 with all defaults
  jembatan config show hub hub.toml --output json")]
pub(super) enum Config {
    /// Print the documented default file
    #[command(
        after_help = "Examples:\n  jembatan config init hub > hub.toml\n  jembatan config init adapter > adapter.toml\n  jembatan config init directory > directory.toml"
    )]
    Init {
        /// Which
        kind: Kind,
    },
    /// Check a file: every key, every limit, and the certificate files that it names
    #[command(
        after_help = "Examples:\n  jembatan config check adapter adapter.toml\n  jembatan config check adapter adapter.toml --settings-only      before there are certificates\nRun it as the node's own user, or as root: it reads the keys."
    )]
    Check {
        /// Which
        kind: Kind,
        /// The file
        file: PathBuf,
        /// Look at the settings alone, not at the certificate files that they name
        #[arg(long)]
        settings_only: bool,
    },
    /// Show what a file means, with all defaults
    #[command(
        after_help = "Examples:\n  jembatan config show hub hub.toml\n  jembatan config show adapter adapter.toml --output json"
    )]
    Show {
        /// Which
        kind: Kind,
        /// The file
        file: PathBuf,
    },
}

impl Config {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Done> {
        match self {
            Self::Init { kind } => write(match kind {
                Kind::Hub => HUB_FILE,
                Kind::Adapter => ADAPTER_FILE,
                Kind::Directory => DIRECTORY_FILE,
            })?,
            Self::Check {
                kind,
                file,
                settings_only,
            } => {
                text(kind, &file)?;
                let wrong = match kind {
                    _ if settings_only => Vec::new(),
                    Kind::Hub => certificate_files::of_hub(&load_hub(&file)?)?,
                    Kind::Adapter => certificate_files::of_adapter(&load_adapter(&file)?)?,
                    Kind::Directory => Vec::new(),
                };
                anyhow::ensure!(
                    wrong.is_empty(),
                    "{} is good, but not the certificate files that it names (to look at the settings alone: --settings-only):\n- {}",
                    file.display(),
                    wrong.join("\n- ")
                );
                eprintln!("{} is good", file.display());
            }
            Self::Show { kind, file } if output.is_json(false) => match kind {
                Kind::Hub => json(&load_hub(&file)?)?,
                Kind::Adapter => json(&load_adapter(&file)?)?,
                Kind::Directory => json(&load::<DirectoryFile>(&file)?)?,
            },
            Self::Show { kind, file } => write(&text(kind, &file)?)?,
        }
        Ok(Done::All)
    }
}

fn text(kind: Kind, file: &std::path::Path) -> anyhow::Result<String> {
    Ok(match kind {
        Kind::Hub => toml::to_string(&load_hub(file)?)?,
        Kind::Adapter => toml::to_string(&load_adapter(file)?)?,
        Kind::Directory => toml::to_string(&load::<DirectoryFile>(file)?)?,
    })
}
