//! `jembatan hub` and `jembatan adapter`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use crate::{
    adapter,
    config::{LogConfig, LogFormat},
    hub,
    runtime::SystemClock,
};

use super::{
    Done,
    node_file::{load_adapter, load_hub},
};

/// A second signal so soon is the same one: `timeout` and a terminal send it to
/// the process and to its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

pub(super) const HUB_EXAMPLES: &str = "\
Examples:
  jembatan config init hub > hub.toml           every key with a sentence
  jembatan config check hub hub.toml
  jembatan hub --config hub.toml
Once it serves, one line of JSON with its addresses goes to standard output; the
log goes to standard error.";

pub(super) const ADAPTER_EXAMPLES: &str = "\
Examples:
  jembatan config init adapter > adapter.toml   every key with a sentence
  jembatan join '<line>'                        or: settings and certificate by one line
  jembatan pki csr --party pemda-33.74          the hub's operator signs it: pki sign
  jembatan config check adapter adapter.toml
  jembatan store migrate --config adapter.toml  first, if its store is in PostgreSQL ([store])
  jembatan adapter --config adapter.toml
Once it serves, one line of JSON with its addresses goes to standard output; the
log goes to standard error.";

/// Runs until SIGTERM or SIGINT; a second signal, a second or more after the
/// first, ends it at once.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Also stop when standard input ends: a laboratory's node must not outlive it
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

impl Serve {
    pub(super) async fn hub(self) -> anyhow::Result<Done> {
        let config = load_hub(&self.config)?;
        log_to_stderr(&config.log)?;
        let (ready, addresses) = oneshot::channel::<hub::HubAddresses>();
        let stop = self.on_end()?;
        tokio::spawn(async move {
            if let Ok(found) = addresses.await {
                println!(
                    "{}",
                    serde_json::json!({"role": "hub", "links": found.links, "grpc": found.grpc, "http": found.http})
                );
            }
        });
        hub::run(config, Arc::new(SystemClock), ready, stop).await?;
        Ok(Done::All)
    }

    pub(super) async fn adapter(self) -> anyhow::Result<Done> {
        let config = load_adapter(&self.config)?;
        log_to_stderr(&config.log)?;
        let (ready, addresses) = oneshot::channel::<adapter::AdapterAddresses>();
        let stop = self.on_end()?;
        tokio::spawn(async move {
            if let Ok(found) = addresses.await {
                println!(
                    "{}",
                    serde_json::json!({"role": "adapter", "grpc": found.grpc, "http": found.http})
                );
            }
        });
        adapter::run(config, Arc::new(SystemClock), ready, stop).await?;
        Ok(Done::All)
    }

    fn on_end(&self) -> anyhow::Result<CancellationToken> {
        let stop = on_signal()?;
        if self.until_input_ends {
            let token = stop.clone();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                token.cancel();
            });
        }
        Ok(stop)
    }
}

fn log_to_stderr(log: &LogConfig) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("JEMBATAN_LOG").unwrap_or_else(|_| {
        // What the migrations say of themselves is nobody's state change.
        let level = log.level.as_str();
        tracing_subscriber::EnvFilter::new(format!("{level},refinery_core=warn"))
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let outcome = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(is_terminal).try_init()
        }
    };
    outcome.map_err(|error| anyhow::anyhow!("logging can't start: {error}"))
}

/// Cancelled at the first SIGTERM or SIGINT; a second one ends the process,
/// unless it comes so soon that it is the same one.
pub(super) fn on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let token = stop.clone();
    tokio::spawn(async move {
        let mut first: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match first {
                None => {
                    first = Some(tokio::time::Instant::now());
                    token.cancel();
                }
                Some(first) if first.elapsed() < SAME_SIGNAL => {}
                Some(_) => std::process::exit(1),
            }
        }
    });
    Ok(stop)
}
