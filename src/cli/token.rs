//! `jembatan token`: a secret for a local system.

use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::runtime::random_bytes;

use super::Done;

/// Makes a token. It is printed once; only its SHA-256 goes into the
/// configuration.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Name for people and logs
    name: String,
    /// The local system that it speaks for
    #[arg(long, default_value = "default")]
    system: String,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<Done> {
        let token = format!("jmb_{}", hex::encode(random_bytes::<24>()));
        println!("{token}");
        eprintln!("Keep it: it is shown this once. Into the node's configuration goes:\n");
        eprintln!("[[door.token]]");
        eprintln!("name = {:?}", self.name);
        eprintln!("sha256 = {:?}", hex::encode(Sha256::digest(&token)));
        eprintln!("system = {:?}", self.system);
        eprintln!("scopes = [\"submit\", \"read\", \"inbox\"]");
        Ok(Done::All)
    }
}
