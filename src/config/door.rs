//! The door's settings: where it stands, and who may come in.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::domain::{PartyId, SystemName};

use super::shared::{resolve, wrong};

/// The door for local systems: on loopback or a Unix socket without ceremony,
/// elsewhere only with TLS and a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// gRPC: the gateway service.
    pub grpc: DoorAddress,
    /// Plain HTTP with JSON.
    pub http: DoorAddress,
    /// Single hand-overs that are being stored at once, over both doors. What
    /// comes beyond is refused as overload: not processed, safe to retry.
    /// Streams have four times as much room of their own, and wait for it.
    pub max_in_flight: u32,
    /// Certificate of the doors on TCP; `None`: they speak in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<DoorTls>,
    /// Who may come in. Empty: whoever is on this machine, with every scope.
    #[serde(rename = "token")]
    pub tokens: Vec<DoorToken>,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            grpc: DoorAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7070))),
            http: DoorAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7080))),
            // As many as may wait for the store's writer.
            max_in_flight: 1_024,
            tls: None,
            tokens: Vec::new(),
        }
    }
}

/// Where a door stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DoorAddress {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `unix:` and the path of a socket, mode 0660.
    Unix(PathBuf),
}

impl DoorAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        if let Self::Unix(path) = self {
            resolve(directory, path);
        }
    }
}

impl fmt::Display for DoorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for DoorAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs the path of a socket behind it".to_owned()),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "\"{text}\" is neither an address and a port such as 127.0.0.1:7070 nor a socket such as unix:/run/jembatan/grpc.sock"
                )
            }),
        }
    }
}

impl From<DoorAddress> for String {
    fn from(address: DoorAddress) -> String {
        address.to_string()
    }
}

/// The certificate of the doors on TCP. Clients need none: their token says
/// who they are. Both files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorTls {
    /// Certificate, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl DoorConfig {
    /// Once one token is listed, every call needs one.
    pub fn needs_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        self.grpc.resolve(directory);
        self.http.resolve(directory);
        if let Some(tls) = &mut self.tls {
            resolve(directory, &mut tls.certificate);
            resolve(directory, &mut tls.key);
        }
    }

    fn check_addresses(&self) -> Result<(), (String, String)> {
        let is_free_port = matches!(&self.grpc, DoorAddress::Tcp(address) if address.port() == 0);
        if self.grpc == self.http && !is_free_port {
            return wrong("door.http", "is the same address as door.grpc");
        }
        for (key, address) in [("door.grpc", &self.grpc), ("door.http", &self.http)] {
            let missing = match (address.is_local(), &self.tls, self.needs_token()) {
                (true, _, _) | (false, Some(_), true) => continue,
                (false, None, false) => "[door.tls] with certificate and key, and a [[door.token]]",
                (false, None, true) => "[door.tls] with certificate and key",
                (false, Some(_), false) => "a [[door.token]] (see: jembatan token)",
            };
            return wrong(
                key,
                format!(
                    "{address} can be reached from other machines and needs {missing}; without, use 127.0.0.1, [::1] or unix:/path"
                ),
            );
        }
        if self.max_in_flight == 0 {
            return wrong("door.max_in_flight", "must be at least 1");
        }
        Ok(())
    }

    pub(super) fn check(&self, parties: &[&PartyId]) -> Result<(), (String, String)> {
        self.check_addresses()?;
        for (index, token) in self.tokens.iter().enumerate() {
            let earlier = &self.tokens[..index];
            let key = |field: &str| format!("door.token \"{}\", {field}", token.name);
            if earlier.iter().any(|other| other.name == token.name) {
                return wrong(key("name"), "is used twice");
            }
            if earlier.iter().any(|other| other.sha256 == token.sha256) {
                return wrong(key("sha256"), "is another token's as well");
            }
            if token.scopes.is_empty() {
                return wrong(key("scopes"), "is empty: the token would open nothing");
            }
            match &token.party {
                Some(party) if !parties.contains(&party) => {
                    return wrong(
                        key("party"),
                        format!("{party} is not a party behind this door"),
                    );
                }
                None if parties.len() > 1 => {
                    return wrong(key("party"), "is missing: this node serves several parties");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A token that opens the door to one local system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorToken {
    /// For people and logs; the token itself stands nowhere.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: TokenDigest,
    /// The party that it speaks for; needed where a node serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<PartyId>,
    /// The local system that it means: keys and references are unique in it.
    pub system: SystemName,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Hand over complaints and events.
    Submit,
    /// Read complaints.
    Read,
    /// Read and acknowledge the inbox.
    Inbox,
    /// Status, journals and, at the hub, the directory.
    Operate,
}

/// SHA-256 of a token: 64 hex digits in a file.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenDigest(pub [u8; 32]);

impl TryFrom<String> for TokenDigest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| {
            "is not a SHA-256 in 64 hex digits; make one with: printf %s \"$TOKEN\" | sha256sum"
                .to_owned()
        })?;
        Ok(Self(bytes))
    }
}

impl From<TokenDigest> for String {
    fn from(digest: TokenDigest) -> String {
        hex::encode(digest.0)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}
