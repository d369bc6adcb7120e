//! The command line as people meet it: the real program, its output, its exit
//! codes.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Node, PATIENCE, World};

/// What a run of the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {}", self.out))
    }

    /// One value a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jembatan"));
    for name in ["JEMBATAN_DOOR", "JEMBATAN_TOKEN", "JEMBATAN_PARTY"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn jembatan<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Said {
    Said::of(&program().args(arguments).output().unwrap())
}

/// The program at a node's door.
pub(crate) fn at(node: &Node, arguments: &[&str]) -> Said {
    let mut command = program();
    command.args(arguments);
    command.args(["--door", &node.grpc.to_string()]);
    Said::of(&command.output().unwrap())
}

/// Waits until a condition holds.
#[expect(
    clippy::disallowed_methods,
    reason = "these tests wait for processes; there is no executor to block"
)]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How `status` judges a party at a node.
pub(crate) fn verdict(node: &Node, party: &str) -> String {
    let status = at(node, &["status", "--only", party, "--output", "json"]).json();
    status["parties"][0]["verdict"].as_str().unwrap().to_owned()
}

pub(crate) fn write_lines(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// A complaint as a line of input.
pub(crate) fn filing(reference: &str) -> String {
    serde_json::json!({
        "reference": reference, "title": format!("Lampu jalan padam {reference}"),
        "body": "Sudah tiga hari lampu jalan padam di depan pasar.",
        "region_code": "33.74", "handling": "route",
        "reporter": {"name": "Pelapor Uji 900"},
    })
    .to_string()
}

/// Scenario: each command and subcommand that help itself lists is asked for
/// help; a wrong option is
/// given; a door is named at which nobody listens.
/// Guarantee: help shows examples (the adapter's its own), wrong usage exits
/// with 2, a failure with 1 and says what to look at.
#[test]
fn help_shows_examples_and_exit_codes_are_kept() {
    let mut seen = 0;
    let mut open = vec![Vec::<String>::new()];
    while let Some(words) = open.pop() {
        let mut arguments = words.clone();
        arguments.push("--help".to_owned());
        let help = jembatan(&arguments).good().out;
        assert!(help.contains("Examples:"), "{words:?}: {help}");
        if let Some(last) = words.last() {
            let (_, examples) = help.split_once("Examples:").unwrap();
            assert!(examples.contains(last.as_str()), "{words:?}: {examples}");
        }
        seen += 1;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.strip_prefix("  ").unwrap_or(line);
            let name = name.split(' ').next().filter(|name| !name.is_empty());
            if let Some(name) = name.filter(|name| *name != "help") {
                let mut deeper = words.clone();
                deeper.push(name.to_owned());
                open.push(deeper);
            }
        }
    }
    assert!(seen > 50, "the tree was walked: {seen}");
    let help = jembatan(&["adapter", "--help"]).out;
    assert!(help.contains("jembatan adapter --config"), "{help}");
    assert!(!help.contains("jembatan hub --config"), "{help}");
    assert!(jembatan(&["--help"]).out.contains("Exit codes"));
    assert_eq!(jembatan(&["status", "--no-such-option"]).code, 2);
    let nobody = jembatan(&["status", "--door", "127.0.0.1:1"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (1, ""));
    assert!(nobody.err.contains("no node answers"), "{}", nobody.err);
}

/// Scenario: every default settings file is written, checked and shown; one
/// key of it is misspelt.
/// Guarantee: what is written is good; what is wrong is named with file, line,
/// key, and the key that was probably meant.
#[test]
fn settings_are_written_checked_and_shown() {
    let directory = tempfile::TempDir::new().unwrap();
    for (kind, key, wrong) in [
        ("hub", "heartbeat_interval_ms", "heartbeat_intervall_ms"),
        ("adapter", "window_entries", "window_entrys"),
        ("directory", "observes_all", "observe_all"),
    ] {
        let file = directory.path().join(format!("{kind}.toml"));
        let text = jembatan(&["config", "init", kind]).good().out;
        std::fs::write(&file, &text).unwrap();
        let path = file.to_str().unwrap();
        let checked = jembatan(&["config", "check", kind, path, "--settings-only"]).good();
        assert!(checked.err.contains("is good"), "{}", checked.err);
        let shown = jembatan(&["config", "show", kind, path]).good().out;
        assert!(shown.contains(key), "{shown}");
        let shown = jembatan(&["config", "show", kind, path, "--output", "json"]);
        assert!(shown.good().json().to_string().contains(key));

        let line = 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
        std::fs::write(
            &file,
            text.replacen(&format!("\n{key}"), &format!("\n{wrong}"), 1),
        )
        .unwrap();
        let told = jembatan(&["config", "check", kind, path]);
        assert_eq!(told.code, 1, "{}", told.out);
        for part in [
            format!("{kind}.toml"),
            format!("{line}"),
            wrong.to_owned(),
            format!("did you mean \"{key}\""),
        ] {
            assert!(told.err.contains(&part), "{part}: {}", told.err);
        }
    }
}

/// Scenario: a door gets a token; the caller has none, a wrong one, the right
/// one, and one whose scope does not reach so far.
/// Guarantee: only the right one opens; what was printed is what the settings
/// need, and the secret itself stands in none of them.
#[test]
fn a_token_opens_the_door() {
    let mut world = World::new();
    let make = |arguments: &[&str]| {
        let mut all = vec!["token"];
        all.extend(arguments);
        all.extend(["--output", "json"]);
        jembatan(&all).good().json()
    };
    let operator = make(&["monitoring", "--scope", "operate"]);
    let writer = make(&["lapor-app", "--system", "lapor"]);
    assert_eq!(jembatan(&["token", "x", "--scope", "all"]).code, 1);
    let config = world.directory.path().join("hub.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for token in [&operator, &writer] {
        text.push_str(&format!(
            "[[door.token]]\nname = {}\nsha256 = {}\nsystem = {}\nscopes = {}\n",
            token["name"], token["sha256"], token["system"], token["scopes"]
        ));
    }
    assert!(!text.contains(operator["token"].as_str().unwrap()));
    std::fs::write(&config, text).unwrap();
    world.hub.restart();
    let list = |token: Option<&str>| {
        let mut arguments = vec!["parties", "list"];
        arguments.extend(token.iter().flat_map(|token| ["--token", token]));
        at(&world.hub, &arguments)
    };
    let refused = list(None);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("Unauthenticated"), "{}", refused.err);
    assert_eq!(list(Some("jmb_00")).code, 1);
    let refused = list(writer["token"].as_str());
    assert!(refused.err.contains("PermissionDenied"), "{}", refused.err);
    let listed = list(operator["token"].as_str()).good().out;
    assert!(listed.contains("pemda-33.74"), "{listed}");
}

/// Scenario: a local system reads its inbox, acknowledges through a cursor,
/// then follows and acknowledges while something comes.
/// Guarantee: what came is there until it is acknowledged and not afterwards;
/// following shows what comes while it waits.
#[test]
fn an_inbox_is_followed_and_acknowledged() {
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let file = world.directory.path().join("one.jsonl");
    let file_and_wait = |reference: &str| {
        write_lines(&file, &[filing(reference)]);
        at(&city, &["submit", file.to_str().unwrap()]).good();
    };
    let read = || at(&city, &["inbox"]).good().lines();
    file_and_wait("A-1");
    until("a decision", || read().len() == 1);
    let first = read().remove(0);
    assert_eq!(first["decision"]["revision"], 1, "{first}");
    let words = at(&city, &["inbox", "--output", "table"]).good().out;
    assert!(words.contains("own, accepted"), "{words}");
    let cursor = first["cursor"].as_str().unwrap();
    let through = at(&city, &["inbox", "--ack-through", cursor]).good().out;
    assert_eq!(through.trim(), cursor);
    assert!(read().is_empty(), "acknowledged");
    let after = at(&city, &["inbox", "--after", "9999999999-0"]);
    assert_eq!(after.code, 1, "a cursor that was not given out");

    file_and_wait("A-2");
    until("the second", || read().len() == 1);
    let second = read().remove(0);
    let mut follower = program()
        .args(["inbox", "--follow", "--ack", "--door"])
        .arg(city.grpc.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), second);
    file_and_wait("A-3");
    let third = next();
    assert_eq!(third["decision"]["revision"], 1, "{third}");
    until("acknowledged", || read().is_empty());
    follower.kill().unwrap();
    follower.wait().unwrap();
}
