//! A node as a process of its own, which can really be killed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::cli::client::{DoorArgs, Gateway, Health};

/// Longest start: a hub may have thousands of parties to register.
const START: Duration = Duration::from_secs(60);
/// Longest stop.
const STOP: Duration = Duration::from_secs(10);

/// What a node prints once it serves.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Addresses {
    pub(in crate::cli) links: Option<SocketAddr>,
    pub(in crate::cli) grpc: SocketAddr,
    pub(in crate::cli) http: SocketAddr,
}

/// A running node.
pub(in crate::cli) struct Node {
    role: &'static str,
    config: PathBuf,
    log: PathBuf,
    child: Child,
    pub(in crate::cli) addresses: Addresses,
}

impl Node {
    pub(in crate::cli) async fn start(role: &'static str, config: &Path) -> anyhow::Result<Self> {
        let log = config.with_extension("log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([role, "--config"])
            .arg(config)
            // The other end of its input is ours: when we are gone, however that
            // came, it ends, and nobody is left behind.
            .arg("--until-input-ends")
            .env_remove("JEMBATAN_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(START, lines.next_line()).await;
        let line = match first {
            Ok(Ok(Some(line))) => line,
            _ => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                anyhow::bail!("the {role} did not start: {}", last.join(" / "));
            }
        };
        let addresses = serde_json::from_str(&line).with_context(|| line.clone())?;
        Ok(Self {
            role,
            config: config.to_owned(),
            log,
            child,
            addresses,
        })
    }

    /// SIGKILL: no chance to tidy up.
    pub(in crate::cli) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// Starts it again with the same configuration.
    pub(in crate::cli) async fn restart(&mut self) -> anyhow::Result<()> {
        let again = Self::start(self.role, &self.config).await?;
        *self = again;
        Ok(())
    }

    /// Asks it to stop, waits, and starts it again at once.
    pub(in crate::cli) async fn restart_in_order(&mut self) -> anyhow::Result<()> {
        let ended = self.end().await;
        anyhow::ensure!(
            ended,
            "the {} did not stop within {} s",
            self.role,
            STOP.as_secs()
        );
        self.restart().await
    }

    /// Asks it to stop, and waits.
    pub(in crate::cli) async fn stop(mut self) {
        self.end().await;
    }

    /// Whether it ended in time.
    async fn end(&mut self) -> bool {
        if let Some(pid) = self.child.id() {
            let _ = Command::new("kill")
                .args(["-TERM", &pid.to_string()])
                .status()
                .await;
        }
        timeout(STOP, self.child.wait()).await.is_ok()
    }

    /// Where a hub's parties come in.
    pub(in crate::cli) fn links(&self) -> SocketAddr {
        self.addresses.links.unwrap_or(self.addresses.grpc)
    }

    pub(in crate::cli) fn log(&self) -> &Path {
        &self.log
    }

    pub(in crate::cli) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    pub(in crate::cli) async fn gateway(&self) -> anyhow::Result<Gateway> {
        DoorArgs::at(self.addresses.grpc).gateway().await
    }

    pub(in crate::cli) async fn health(&self) -> anyhow::Result<Health> {
        DoorArgs::at(self.addresses.grpc).health().await
    }
}
