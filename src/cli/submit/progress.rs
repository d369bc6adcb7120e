//! How far it has come: for a terminal while it runs, and as a sum at the end.

use std::{
    fmt,
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

/// The line is drawn anew so often, whatever the pace of the input.
const TICK: Duration = Duration::from_millis(250);

/// Counts.
pub(super) struct Progress {
    began: Instant,
    stored: AtomicU64,
    repeated: AtomicU64,
    refused: AtomicU64,
    unreadable: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            stored: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
        }
    }
}

/// Draws the line until it is stopped.
pub(super) struct Ticker(Option<JoinHandle<()>>);

impl Ticker {
    pub(super) fn stop(self) {
        if let Some(task) = self.0 {
            task.abort();
            eprint!("\r\x1b[2K");
        }
    }
}

impl Progress {
    pub(super) fn stored(&self, repeated: bool) {
        self.stored.fetch_add(1, Relaxed);
        self.repeated.fetch_add(u64::from(repeated), Relaxed);
    }

    pub(super) fn refused(&self, is_unreadable: bool) {
        let counter = if is_unreadable {
            &self.unreadable
        } else {
            &self.refused
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Refused by the door, or not readable at all.
    pub(super) fn failed(&self) -> u64 {
        self.refused.load(Relaxed) + self.unreadable.load(Relaxed)
    }

    /// Draws on a terminal only.
    pub(super) fn show(self: Arc<Self>) -> Ticker {
        if !std::io::stderr().is_terminal() {
            return Ticker(None);
        }
        Ticker(Some(tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            loop {
                tick.tick().await;
                let done = self.stored.load(Relaxed) + self.failed();
                let pace = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
                eprint!("\r\x1b[2K{done} done, {pace:.0} a second");
            }
        })))
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stored {} (of these {} were there already), refused {}, unreadable {}, in {:.1} s",
            self.stored.load(Relaxed),
            self.repeated.load(Relaxed),
            self.refused.load(Relaxed),
            self.unreadable.load(Relaxed),
            self.began.elapsed().as_secs_f64()
        )
    }
}
