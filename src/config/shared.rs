//! Settings that both roles have.

use std::{fmt, net::SocketAddr, path::Path, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::domain::{Limits, PartyId, Policy, SystemName, is_day};

/// The door for local systems. It speaks without TLS, so it listens on
/// loopback only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// gRPC: the gateway service.
    #[serde(deserialize_with = "loopback")]
    pub grpc: SocketAddr,
    /// Plain HTTP with JSON.
    #[serde(deserialize_with = "loopback")]
    pub http: SocketAddr,
    /// Who may come in. Empty: whoever is on this machine, with every scope.
    #[serde(rename = "token")]
    pub tokens: Vec<DoorToken>,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            grpc: SocketAddr::from(([127, 0, 0, 1], 7070)),
            http: SocketAddr::from(([127, 0, 0, 1], 7080)),
            tokens: Vec::new(),
        }
    }
}

impl DoorConfig {
    /// Once one token is listed, every call needs one.
    pub fn needs_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    pub(super) fn check(&self, parties: &[&PartyId]) -> Result<(), (String, String)> {
        if self.grpc == self.http && self.grpc.port() != 0 {
            return wrong("door.http", "is the same address as door.grpc");
        }
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

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// `/healthz`, `/readyz` and `/metrics`; `None`: at the HTTP door.
    #[serde(deserialize_with = "some_loopback")]
    pub http: Option<SocketAddr>,
}

/// How a node stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// Longest time from the signal to the end, over all stages, seconds.
    pub timeout_seconds: u32,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        // Below the TimeoutStopSec of deploy/*.service, so that the node says
        // itself what had to be cut.
        Self {
            timeout_seconds: 30,
        }
    }
}

/// What a node writes about itself, to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least important that is written.
    pub level: LogLevel,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Degraded, but safe.
    Warn,
    /// A state changed.
    #[default]
    Info,
    /// Every message.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word for a filter, for example `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

pub(super) fn check_limits(limits: &Limits) -> Result<(), (String, String)> {
    let zero = [
        ("limits.window_entries", u64::from(limits.window_entries)),
        ("limits.window_bytes", limits.window_bytes),
        ("limits.frame_bytes", u64::from(limits.frame_bytes)),
        (
            "limits.heartbeat_interval_ms",
            u64::from(limits.heartbeat_interval_ms),
        ),
    ];
    if let Some((key, _)) = zero.iter().find(|(_, value)| *value == 0) {
        return wrong(*key, "must be at least 1");
    }
    // Heartbeats are spread by up to a fifth, and one may be lost in a stall.
    if u64::from(limits.dead_after_ms) < 2 * u64::from(limits.heartbeat_interval_ms) {
        return wrong(
            "limits.dead_after_ms",
            "must be at least twice heartbeat_interval_ms: one late heartbeat is no death",
        );
    }
    Ok(())
}

pub(super) fn check_policy(policy: &Policy) -> Result<(), (String, String)> {
    if policy.events_per_complaint == 0 {
        return wrong("policy.events_per_complaint", "must be at least 1");
    }
    if policy.version.len() > 64 {
        return wrong("policy.version", "has more than 64 bytes");
    }
    match policy.effective_on.as_str() {
        "" => Ok(()),
        day if is_day(day) => Ok(()),
        _ => wrong("policy.effective_on", "must be a day such as 2026-11-24"),
    }
}

pub(super) fn wrong<T>(
    key: impl Into<String>,
    problem: impl Into<String>,
) -> Result<T, (String, String)> {
    Err((key.into(), problem.into()))
}

pub(super) fn resolve(directory: &Path, path: &mut PathBuf) {
    *path = directory.join(&*path);
}

fn loopback<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let address: SocketAddr = text.parse().map_err(|_| {
        D::Error::custom(format!(
            "\"{text}\" is not an address and a port such as 127.0.0.1:7070"
        ))
    })?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(D::Error::custom(format!(
            "{address} is not a loopback address: in this version doors listen on 127.0.0.1 or [::1] only, because they speak without TLS"
        ))),
    }
}

fn some_loopback<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    loopback(from).map(Some)
}

/// `host:port`, as a text: names are looked up when they are dialled.
pub(super) fn host_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("\"{text}\" is not a host and a port such as hub.example:8443");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    match port {
        Some(port) if is_host => Ok((host, port)),
        _ => Err(wrong()),
    }
}
