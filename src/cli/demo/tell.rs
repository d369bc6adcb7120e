//! What the visitor reads. Colour on a terminal only.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::world::World;

/// The line of what is being done is drawn anew so often.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Teller {
    began: Instant,
    /// How long it took until it was proven.
    took: Option<Duration>,
    chapter: u32,
    has_colour: bool,
    doing: Arc<Mutex<Option<Doing>>>,
    /// Draws what is being done; on a terminal only.
    ticker: Option<AbortHandle>,
}

/// What is being done, and how much of it is.
struct Doing {
    what: String,
    count: Option<(Arc<AtomicU64>, u64)>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
            eprint!("\r\x1b[2K");
        }
    }
}

async fn draw(doing: Arc<Mutex<Option<Doing>>>, began: Instant) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let doing = doing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Doing { what, count }) = &*doing else {
            continue;
        };
        let seconds = began.elapsed().as_secs_f64();
        let count = count.as_ref().map_or_else(String::new, |(done, all)| {
            format!(" {} of {all}", done.load(Relaxed))
        });
        eprint!("\r\x1b[2K   … {what}{count}  [{seconds:.1} s]");
    }
}

impl Teller {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        let doing = Arc::new(Mutex::new(None));
        let is_watched = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let ticker = is_watched.then(|| tokio::spawn(draw(doing.clone(), began)).abort_handle());
        Self {
            began,
            took: None,
            chapter: 0,
            doing,
            ticker,
            has_colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Says what goes on; it stands under what has been told, until something
    /// else goes on.
    pub(super) fn doing(&self, what: &str) {
        self.set(what, None);
    }

    /// The same, with a count that goes up.
    pub(super) fn counting(&self, what: &str, all: u64) -> Arc<AtomicU64> {
        let done = Arc::new(AtomicU64::new(0));
        self.set(what, Some((done.clone(), all)));
        done
    }

    fn set(&self, what: &str, count: Option<(Arc<AtomicU64>, u64)>) {
        let what = what.to_owned();
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Doing { what, count });
    }

    /// It is proven: what a stay takes is no part of it.
    pub(super) fn proven(&mut self) {
        self.took = Some(self.began.elapsed());
        self.quiet();
    }

    /// Nothing goes on any more.
    fn quiet(&self) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.ticker.is_some() {
            eprint!("\r\x1b[2K");
        }
    }

    /// One line for the visitor.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        // Nothing is drawn while the line is written.
        let _drawing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ticker.is_some() {
            eprint!("\r\x1b[2K");
        }
        // A reader that has gone away does not end what is being shown.
        let _ = crate::cli::output::line(text);
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn opening(&self, complaints: usize) {
        self.line(self.paint(
            "1",
            "Jembatan: complaints between regions and the nation, none lost, none doubled",
        ));
        self.line(format!(
            "A demonstration on {complaints} complaints built on publicly reported cases; all reporters are made up.\n\
             Not SP4N-LAPOR!, and not endorsed by KemenPANRB.\n"
        ));
    }

    pub(super) fn world(&mut self, world: &World) {
        self.chapter("Three nodes start, each a process of its own");
        let nodes = [
            (
                "pusat (hub)",
                "the national node; behind its door stands the national application",
                &world.hub,
            ),
            ("pemda-33", "Jawa Tengah, system LaporGub", &world.province),
            (
                "pemda-33.74",
                "Kota Semarang, system Lapor Semar",
                &world.city,
            ),
        ];
        for (who, what, node) in nodes {
            self.line(format!("   {who:<14} {what} (pid {})", node.pid()));
        }
        self.note("a fresh CA, certificates and TLS 1.3 on both sides; each region dials the hub through a line that we can cut");
    }

    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let seconds = self.began.elapsed().as_secs_f64();
        self.line(format!(
            "{} {}",
            self.paint("1;36", &format!("{}.", self.chapter)),
            self.paint("1", &format!("{title}  [{seconds:.1} s]"))
        ));
        self.doing("working");
    }

    pub(super) fn step(&self, who: &str, what: &str) {
        let who = self.paint("33", &format!("{who:<12}"));
        self.line(format!("   {who} {what}"));
    }

    pub(super) fn note(&self, text: &str) {
        self.line(format!("   {}", self.paint("2", text)));
    }

    pub(super) fn good(&self, text: &str) {
        self.line(format!("   {} {text}", self.paint("1;32", "ok")));
    }

    pub(super) fn closing(&self, stayed: bool) {
        self.line(format!(
            "{} in {:.1} s.",
            self.paint("1;32", "All of it held"),
            self.took
                .unwrap_or_else(|| self.began.elapsed())
                .as_secs_f64()
        ));
        if !stayed {
            self.line(
                "Next: `jembatan demo --stay` leaves it running with a partner for your own client;\n\
                 `jembatan config init adapter` writes the settings of a region's node; docs/http.md is for a PHP site.",
            );
        }
    }
}
