//! What the visitor reads. Colour on a terminal only.

use std::{io::IsTerminal as _, time::Instant};

use super::world::World;

pub(super) struct Teller {
    began: Instant,
    chapter: u32,
    has_colour: bool,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            chapter: 0,
            has_colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn opening(&self, complaints: usize) {
        println!(
            "{}",
            self.paint(
                "1",
                "Jembatan: complaints between regions and the nation, none lost, none doubled"
            )
        );
        println!(
            "A demonstration on {complaints} complaints built on publicly reported cases; all reporters are made up.\n\
             Not SP4N-LAPOR!, and not endorsed by KemenPANRB.\n"
        );
    }

    pub(super) fn world(&mut self, world: &World) {
        self.chapter("Three nodes start, each a process of its own");
        let line = |who: &str, what: &str, pid: u32| println!("   {who:<14} {what} (pid {pid})");
        line(
            "pusat (hub)",
            "the national node; behind its door stands the national application",
            world.hub.pid(),
        );
        line(
            "pemda-33",
            "Jawa Tengah, system LaporGub",
            world.province.pid(),
        );
        line(
            "pemda-33.74",
            "Kota Semarang, system Lapor Semar",
            world.city.pid(),
        );
        self.note("a fresh CA, certificates and TLS 1.3 on both sides; each region dials the hub through a line that we can cut");
    }

    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let seconds = self.began.elapsed().as_secs_f64();
        println!(
            "{} {}",
            self.paint("1;36", &format!("{}.", self.chapter)),
            self.paint("1", &format!("{title}  [{seconds:.1} s]"))
        );
    }

    pub(super) fn step(&self, who: &str, what: &str) {
        println!("   {} {what}", self.paint("33", &format!("{who:<12}")));
    }

    pub(super) fn note(&self, text: &str) {
        println!("   {}", self.paint("2", text));
    }

    pub(super) fn good(&self, text: &str) {
        println!("   {} {text}", self.paint("1;32", "ok"));
    }

    pub(super) fn closing(&self, stayed: bool) {
        println!(
            "{} in {:.1} s.",
            self.paint("1;32", "All of it held"),
            self.began.elapsed().as_secs_f64()
        );
        if !stayed {
            println!(
                "Next: `jembatan demo --stay` leaves it running with a partner for your own client;\n\
                 `jembatan config init adapter` writes the settings of a region's node; docs/http.md is for a PHP site."
            );
        }
    }
}
