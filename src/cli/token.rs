//! `jembatan token`: a secret for a local system.

use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::runtime::random_bytes;

use super::{
    Done,
    output::{Output, json, line},
};

/// Makes a token. It is printed once; only its SHA-256 goes into the
/// configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan token lapor-semar-web --system lapor-semar
  jembatan token monitoring --scope operate      may see `jembatan status`, and at a hub the directory
The lines for the node's settings go to standard error.")]
pub(super) struct Token {
    /// Name for people and logs
    name: String,
    /// The local system that it speaks for
    #[arg(long, default_value = "default")]
    system: String,
    /// What it may do: submit, read, inbox, operate [default: submit, read, inbox]
    #[arg(long)]
    scope: Vec<String>,
}

/// What a local system needs.
const SCOPES: [&str; 3] = ["submit", "read", "inbox"];

impl Token {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Done> {
        let token = format!("jmb_{}", hex::encode(random_bytes::<24>()));
        let sha256 = hex::encode(Sha256::digest(&token));
        let mut scopes = self.scope;
        if scopes.is_empty() {
            scopes = SCOPES.map(str::to_owned).to_vec();
        }
        for scope in &scopes {
            anyhow::ensure!(
                SCOPES.contains(&scope.as_str()) || scope == "operate",
                "{scope:?} is not submit, read, inbox or operate"
            );
        }
        if output.is_json(false) {
            json(&serde_json::json!({
                "token": token, "name": self.name, "sha256": sha256,
                "system": self.system, "scopes": scopes,
            }))?;
            return Ok(Done::All);
        }
        line(token)?;
        eprintln!("Keep it: it is shown this once. Into the node's configuration goes:\n");
        eprintln!("[[door.token]]");
        eprintln!("name = {:?}", self.name);
        eprintln!("sha256 = {sha256:?}");
        eprintln!("system = {:?}", self.system);
        eprintln!("scopes = {scopes:?}");
        Ok(Done::All)
    }
}
