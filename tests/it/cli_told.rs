//! What the program says, and does not say, where people go wrong or look
//! twice: a reader that goes away, a wrong door, a wrong file, a signal that
//! comes twice, units for systemd, logs.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    cli::{Said, at, filing, jembatan, program, until, write_lines},
    support::World,
};

/// Scenario: whoever reads standard output goes away before anything is
/// written, as `head` may: of data, and of a settings file.
/// Guarantee: the program ends with 0 and says nothing; `submit`, whose results
/// are lost then, says so and fails.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    let door = world.hub.grpc.to_string();
    let file = world.directory.path().join("one.jsonl");
    write_lines(&file, &[filing("A-1")]);
    let cut = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = program();
        command.args(arguments).stdout(writer);
        Said::of(&command.stderr(Stdio::piped()).output().unwrap())
    };
    for arguments in [
        ["parties", "list", "--door", &door],
        ["status", "--json", "--door", &door],
    ] {
        let said = cut(&arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    }
    let said = cut(&["config", "init", "hub"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let said = cut(&["submit", file.to_str().unwrap(), "--door", &door]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("its reader has gone away"),
        "{}",
        said.err
    );
}

/// Scenario: `--door` names the HTTP port of a node.
/// Guarantee: the program says what that may be, in place of a protocol error.
#[test]
fn the_http_door_is_no_grpc_door() {
    let world = World::new();
    let http = world.hub.http.to_string();
    let file = world.directory.path().join("one.jsonl");
    write_lines(&file, &[filing("A-1")]);
    for arguments in [
        vec!["status"],
        vec!["complaint", "show", "A-1"],
        vec!["parties", "list"],
        vec!["submit", file.to_str().unwrap()],
    ] {
        let mut command = program();
        command.args(&arguments).args(["--door", &http]);
        let said = Said::of(&command.output().unwrap());
        assert_eq!(said.code, 1, "{arguments:?}: {}", said.err);
        let meant = "this is no gRPC door: is it the [door] http address?";
        assert!(said.err.contains(meant), "{arguments:?}: {}", said.err);
    }
}

/// Scenario: an adapter is given a hub's settings, a hub an adapter's, and
/// `config check` either; then a file that is of neither.
/// Guarantee: it says whose file it looks like, and guesses nothing else.
#[test]
fn a_file_of_the_other_role_is_recognised() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("node.toml");
    let path = file.to_str().unwrap();
    for (written, asked, meant) in [
        ("hub", "adapter", "this looks like a hub's file"),
        ("adapter", "hub", "this looks like an adapter's file"),
    ] {
        let text = jembatan(&["config", "init", written]).good().out;
        std::fs::write(&file, text).unwrap();
        for arguments in [
            vec![asked, "--config", path],
            vec!["config", "check", asked, path],
        ] {
            let said = jembatan(&arguments);
            assert_eq!(said.code, 1);
            assert!(said.err.contains(meant), "{arguments:?}: {}", said.err);
        }
    }
    std::fs::write(&file, "nothing = 1\n").unwrap();
    for asked in ["hub", "adapter"] {
        let said = jembatan(&["config", "check", asked, path]);
        assert!(!said.err.contains("looks like"), "{}", said.err);
    }
}

/// Scenario: SIGTERM comes twice at once, as `timeout` sends it to a process
/// and to its group: to a demo, and to a hub.
/// Guarantee: both end in their own way: the demo's directory is gone, the hub
/// ends with 0.
#[test]
fn a_signal_that_comes_twice_is_one() {
    let mut world = World::new();
    twice(world.hub.pid());
    assert!(world.hub.stop(), "the hub ended well");

    let temporary = tempfile::TempDir::new().unwrap();
    let mut demo = program()
        .arg("demo")
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("The city handles")));
    twice(demo.id());
    lines.for_each(drop);
    demo.wait().unwrap();
    let left = || std::fs::read_dir(temporary.path()).unwrap().count();
    until("the directory is gone", || left() == 0);
}

fn twice(pid: u32) {
    // One call: nothing else runs between the two.
    let text = format!("kill -TERM {pid}; kill -INT {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &text])
            .status()
            .unwrap()
            .success()
    );
}

/// Scenario: the units for systemd, as they are in the repository.
/// Guarantee: what they start is a command, with an option that it has; systemd
/// waits longer than the node does before it cuts.
#[test]
fn units_start_what_there_is() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut found = 0;
    for entry in std::fs::read_dir(&deploy).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "service") {
            continue;
        }
        found += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let value = |key: &str| {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("{}: {key}", path.display()))
        };
        let words: Vec<&str> = value("ExecStart").split(' ').collect();
        let [program, role, option, _file] = words[..] else {
            panic!("{words:?}")
        };
        assert!(program.ends_with("/jembatan"), "{program}");
        let help = jembatan(&[role, "--help"]).good().out;
        assert!(help.contains(option), "{role} {option}: {help}");

        let defaults = jembatan(&["config", "init", role]).good().out;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, defaults).unwrap();
        let path = file.path().to_str().unwrap();
        let shown = jembatan(&["config", "show", role, path, "--output", "json"]);
        let own = shown.good().json()["shutdown"]["timeout_seconds"].clone();
        let systemd: u64 = value("TimeoutStopSec").parse().unwrap();
        assert!(systemd > own.as_u64().unwrap(), "{systemd} against {own}");
    }
    assert_eq!(found, 2, "a hub's and an adapter's");
}

/// Scenario: hub and adapter at log level debug; complaints are handed over and
/// decided, one again with other content, one that a door refuses.
/// Guarantee: neither log has titles, bodies or names of reporters in it.
#[test]
fn logs_hold_nothing_that_citizens_wrote() {
    let mut world = World::new();
    speak_up(&world.directory.path().join("hub.toml"));
    world.hub.restart();
    let mut city = world.adapter("pemda-33.74");
    speak_up(&world.directory.path().join("pemda-33.74.toml"));
    city.restart();
    let file = world.directory.path().join("all.jsonl");
    let said = |reference: &str, more: &str| {
        serde_json::json!({
            "reference": reference, "title": format!("Judulrahasia {more}"),
            "body": format!("Isirahasia {more}"), "region_code": "33.74",
            "address": "Alamatrahasia 7", "handling": "own",
            "reporter": {"name": "Namarahasia", "phone": "081200000900"},
        })
    };
    let mut refused = said("A-3", "tiga");
    refused["region_code"] = "Wilayahrahasia".into();
    let lines = [
        said("A-1", "satu"),
        said("A-1", "lain"),
        said("A-2", "dua"),
        refused,
    ];
    write_lines(&file, &lines.map(|line| line.to_string()));
    let code = at(&city, &["submit", file.to_str().unwrap()]).code;
    assert_eq!(code, 3, "some were refused");
    until("both are decided", || {
        at(&city, &["inbox"]).good().lines().len() == 2
    });
    for (who, log) in [("hub", world.hub.log()), ("adapter", city.log())] {
        assert!(log.contains("DEBUG"), "{who} is at debug: {log}");
        let words = [
            "judulrahasia",
            "isirahasia",
            "namarahasia",
            "alamatrahasia",
            "0812000009",
        ];
        for line in log.lines() {
            let lower = line.to_lowercase();
            let is_clean = !words.iter().any(|word| lower.contains(word));
            assert!(is_clean, "{who}: {line}");
        }
    }
}

/// Sets the log level of a settings file to debug.
fn speak_up(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let louder = text.replacen("[log]\n", "[log]\nlevel = \"debug\"\n", 1);
    assert_ne!(text, louder);
    std::fs::write(file, louder).unwrap();
}
