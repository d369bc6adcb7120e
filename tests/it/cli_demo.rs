//! The demo as a visitor runs it, and as a partner for a client of their own.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::{
    cli::{Said, jembatan, program, until},
    support::missing,
};

/// A demo that runs; it is killed at the end, whatever happens.
struct Demo {
    child: Child,
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program()
            .arg("demo")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines: Some(lines),
        }
    }

    fn lines(&mut self) -> impl Iterator<Item = String> {
        let lines = self.lines.as_mut().expect("nobody drains it yet");
        lines.map(Result::unwrap)
    }

    /// Reads on without looking: a full pipe must not hold the demo up.
    fn drain(&mut self) {
        let lines = self.lines.take().into_iter().flatten();
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Lines up to and with the first that has this in it.
    fn read_until(&mut self, wanted: &str) -> Vec<String> {
        let mut read = Vec::new();
        for line in self.lines() {
            let is_last = line.contains(wanted);
            read.push(line);
            if is_last {
                return read;
            }
        }
        panic!("{wanted} never came: {}", read.join("\n"));
    }

    /// Process ids of its three nodes, as it tells them.
    fn nodes(lines: &[String]) -> Vec<u32> {
        let ids = lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once("(pid ")?;
            rest.split_once(')')?.0.parse().ok()
        });
        ids.collect()
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Scenario: the demo, without a terminal.
/// Guarantee: exit code 0, every chapter, the proof; duplicates and the
/// conflict are found by the hub; no control characters; nothing is left
/// running.
#[test]
fn the_demo_shows_its_proof() {
    let said = jembatan(&["demo", "--copies", "2"]).good();
    for part in [
        "bukan wewenang",
        "meja Admin Nasional",
        "killed (SIGKILL) under load",
        "the node set its own aside",
        "pusat        6 duplicates (sudah ada)",
        "pusat        1 conflict",
        "duplicates 6, conflicts 1",
        "orphans 0",
        "nothing lost, nothing doubled, nothing stranded",
        "All of it held",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "no colour without a terminal");
    let nodes: Vec<String> = said.out.lines().map(str::to_owned).collect();
    let nodes = Demo::nodes(&nodes);
    assert_eq!(nodes.len(), 4, "three, and one that was started again");
    assert!(!nodes.into_iter().any(lives));
}

/// Scenario: the hub is killed in the middle of the demo.
/// Guarantee: the demo does not talk it away: it exits with 1, says where logs
/// and stores are, and leaves no node behind.
#[test]
fn a_broken_demo_fails() {
    let directory = tempfile::TempDir::new().unwrap();
    let kept = directory.path().join("kept");
    let mut demo = Demo::start(&["--keep", kept.to_str().unwrap()]);
    let told = demo.read_until("Load:");
    let nodes = Demo::nodes(&told);
    assert_eq!(nodes.len(), 3);
    signal("-KILL", nodes[0]);
    for line in demo.lines() {
        assert!(!line.contains("All of it held"), "{line}");
    }
    assert_eq!(demo.child.wait().unwrap().code(), Some(1));
    assert!(kept.join("hub.log").exists());
    until("no node is left", || !nodes.iter().any(|pid| lives(*pid)));
}

/// Scenario: the demo itself is killed with SIGKILL, so that it can't tidy up.
/// Guarantee: its nodes notice and stop; none is left behind.
#[test]
fn a_killed_demo_leaves_no_node() {
    let directory = tempfile::TempDir::new().unwrap();
    let kept = directory.path().join("kept");
    let mut demo = Demo::start(&["--keep", kept.to_str().unwrap()]);
    let told = demo.read_until("The city handles");
    let nodes = Demo::nodes(&told);
    assert!(nodes.len() == 3 && nodes.iter().all(|pid| lives(*pid)));
    signal("-KILL", demo.child.id());
    demo.child.wait().unwrap();
    until("no node is left", || !nodes.iter().any(|pid| lives(*pid)));
}

/// The commands that a stay prints, by the first word of their title.
fn commands(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in lines.join("\n").split("\n\n") {
        let Some((title, command)) = block.trim().split_once('\n') else {
            continue;
        };
        let Some((name, _)) = title.strip_prefix("# ").and_then(|t| t.split_once(':')) else {
            continue;
        };
        let commands = found.entry(name.to_owned()).or_default();
        commands.push(command.to_owned());
    }
    found
}

/// Runs a command as it was printed, in a shell, from another directory.
fn paste(command: &str) -> Said {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut path = root.join("target/ci/node_modules/.bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let python = std::env::var("JEMBATAN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir("/")
        .env("PATH", path)
        .env("PYTHON", python)
        .output();
    Said::of(&output.unwrap())
}

fn can(check: &str) -> bool {
    paste(check).code == 0
}

/// Scenario: `demo --stay` is started; every command that it prints is run as
/// it stands; the spare party files to triage, to the province's region and to
/// itself, and handles what was sent to it; then the demo gets SIGTERM.
/// Guarantee: each command works; each complaint is taken to its end (its own
/// is confirmed); SIGTERM ends demo and nodes, and the directory is gone.
#[test]
fn what_a_stay_prints_can_be_pasted() {
    let mut demo = Demo::start(&["--stay", "--copies", "1"]);
    let told = demo.read_until("# logs:");
    let nodes = Demo::nodes(&told);
    let commands = commands(&told);
    let names: Vec<&str> = commands.keys().map(String::as_str).collect();
    assert_eq!(names, ["buf", "curl", "python", "status"]);
    demo.drain();
    let status = paste(&commands["status"][0]).good().out;
    assert!(status.contains("pemda-33.74"), "{status}");
    if can("curl --version") {
        let said = paste(&commands["curl"][0]).good();
        assert_eq!(said.json()["progress"], "PROGRESS_ACCEPTED", "{}", said.out);
    } else {
        missing("curl");
    }
    // Before Python, which acknowledges the whole inbox.
    if can("buf --version") {
        as_partner(&commands["buf"]);
    } else {
        eprintln!("NOT RUN: buf is not here");
    }
    if can("${PYTHON} -c 'import grpc, grpc_tools'") {
        let seen = paste(&commands["python"][0]).good().json();
        assert_eq!(seen["first"]["progress"], "PROGRESS_ACCEPTED", "{seen}");
        assert_eq!(seen["conflict"]["code"], "ALREADY_EXISTS", "{seen}");
    } else {
        missing("a Python with grpcio and grpcio-tools (JEMBATAN_TEST_PYTHON)");
    }
    signal("-TERM", demo.child.id());
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    assert!(!nodes.into_iter().any(lives), "no node is left behind");
    let logs = told.last().unwrap().trim_start_matches("# logs: ");
    assert!(!PathBuf::from(logs).parent().unwrap().exists());
}

/// A vendor's partner, with the printed commands and other bodies.
fn as_partner(printed: &[String]) {
    let [submit, fetch] = printed else {
        panic!("two commands: {printed:?}")
    };
    let body_of = |command: &str| {
        let (_, rest) = command.split_once("-d '").unwrap();
        rest.split_once('\'').unwrap().0.to_owned()
    };
    let call = |method: &str, body: &Value| {
        let command = fetch
            .replace(&body_of(fetch), &body.to_string())
            .replace("FetchInbox", method);
        paste(&command).good().json()
    };
    assert_eq!(
        paste(submit).good().json()["receipt"]["progress"],
        "PROGRESS_ACCEPTED"
    );
    let filing: Value = serde_json::from_str(&body_of(submit)).unwrap();
    for (reference, handling, more) in [
        ("A-2", "HANDLING_ROUTE", ("region", "33")),
        ("A-3", "HANDLING_ADDRESSED", ("addressedTo", "kl-pu")),
        ("A-4", "HANDLING_OWN", ("region", "33.74")),
    ] {
        let mut body = filing.clone();
        let complaint = &mut body["handover"]["complaint"];
        complaint["reference"] = reference.into();
        complaint["handling"] = handling.into();
        complaint[more.0] = more.1.into();
        let answer = call("Submit", &body);
        assert_eq!(
            answer["receipt"]["progress"], "PROGRESS_ACCEPTED",
            "{answer}"
        );
    }
    let show = |name: Value| call("GetComplaint", &serde_json::json!({"complaint": name}));
    let has = |view: &Value, what: &str| {
        let history = view["complaint"]["history"].as_array().unwrap();
        history
            .iter()
            .any(|step| step["event"]["event"][what].is_object())
    };
    for reference in ["A-1", "A-2", "A-3"] {
        let mut view = Value::Null;
        until("taken to its end", || {
            view = show(serde_json::json!({"reference": reference}));
            view["complaint"]["status"] == "STATUS_CLOSED"
        });
        for step in ["handlingStarted", "responded", "closed"] {
            assert!(has(&view, step), "{reference}: {step}: {view}");
        }
    }
    until("its own is confirmed", || {
        has(&show(serde_json::json!({"reference": "A-4"})), "verified")
    });

    // What was sent to it: it answers and closes, and the reporter rates.
    let items = call("FetchInbox", &serde_json::json!({"limit": 1_000}));
    let items = items["items"].as_array().unwrap();
    let given = items
        .iter()
        .find(|item| item["event"]["event"]["key"] == "SP4N-untuk-mitra")
        .unwrap();
    let id = given["event"]["header"]["trackingId"].clone();
    for (key, what) in [
        ("k-1", "handlingStarted"),
        ("k-2", "responded"),
        ("k-3", "closed"),
    ] {
        let mut event = serde_json::json!({"complaint": {"trackingId": id}, "text": "Sudah."});
        event[what] = serde_json::json!({});
        let body =
            serde_json::json!({"handover": {"key": key, "event": event}, "waitForHubMs": 5_000});
        let answer = call("Submit", &body);
        assert_eq!(
            answer["receipt"]["progress"], "PROGRESS_ACCEPTED",
            "{answer}"
        );
    }
    until("rated", || {
        has(&show(serde_json::json!({"trackingId": id})), "rated")
    });
}
