//! Settings that both roles have.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::{Limits, Policy, is_day};

use super::DoorAddress;

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// `/healthz`, `/readyz` and `/metrics`; `None`: at the HTTP door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<DoorAddress>,
}

impl HealthConfig {
    pub(super) fn resolve(&mut self, directory: &Path) {
        if let Some(address) = &mut self.http {
            address.resolve(directory);
        }
    }

    /// Whoever measures does so without token and TLS, so it must be near.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        match &self.http {
            Some(address) if !address.is_local() => wrong(
                "health.http",
                format!(
                    "{address} can be reached from other machines, and health answers without TLS and token: use 127.0.0.1 or unix:/path, or leave it out (then it stands at door.http, under the door's TLS and tokens)"
                ),
            ),
            _ => Ok(()),
        }
    }
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
    // A frame, and a page of a copy, must stay readable at the other end.
    if limits.frame_bytes > 1024 * 1024 {
        return wrong("limits.frame_bytes", "must be at most 1048576");
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
