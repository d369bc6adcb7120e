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

/// Scenario: `config check` of good settings whose certificate files have one
/// thing wrong at a time: none there, all as it should be, another party's, a key
/// of another certificate, an unreadable key, an ended certificate, roots of
/// another CA, and the door's.
/// Guarantee: each is told by its table, its file and its reason, with exit code
/// 1; the settings alone are good, and can be looked at alone.
#[test]
fn config_check_looks_at_certificate_files() {
    let place = tempfile::TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    let path = |name: &str| at(name).display().to_string();
    let pki = |arguments: &[&str]| {
        let all: Vec<&str> = std::iter::once("pki")
            .chain(arguments.iter().copied())
            .collect();
        jembatan(&all).good()
    };
    let (ca, party) = (path("ca"), "pemda-33.74");
    pki(&["init", "--dir", &ca]);
    pki(&["init", "--dir", &path("other")]);
    for (id, days, out) in [
        (party, "90", "good"),
        ("pemda-33", "90", "another"),
        (party, "0", "ended"),
    ] {
        let out = path(out);
        pki(&[
            "issue", "--dir", &ca, "--party", id, "--days", days, "--out", &out,
        ]);
    }
    pki(&[
        "issue",
        "--dir",
        &ca,
        "--door",
        "--name",
        "localhost",
        "--out",
        &path("doors"),
    ]);
    let exposed = at("exposed.key");
    std::fs::copy(at("good/pemda-33.74.key"), &exposed).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&exposed, everybody).unwrap();

    let check = |certificate: &str, key: &str, roots: &str, more: &str| {
        let text = format!(
            "[hub]\naddress = \"localhost:1\"\n[[party]]\nid = \"{party}\"\n\
             certificate = \"{certificate}\"\nkey = \"{key}\"\n[tls]\nroots = \"{roots}\"\n{more}"
        );
        std::fs::write(at("adapter.toml"), text).unwrap();
        jembatan(&["config", "check", "adapter", &path("adapter.toml")])
    };
    // Certificates end with a whole second.
    until("what lives for no day has ended", || {
        let (certificate, key) = ("ended/pemda-33.74.crt", "ended/pemda-33.74.key");
        check(certificate, key, "ca/ca.pem", "").code == 1
    });
    let (good, key) = ("good/pemda-33.74.crt", "good/pemda-33.74.key");
    let door =
        |key: &str| format!("[door.tls]\ncertificate = \"doors/door.crt\"\nkey = \"{key}\"\n");
    check(good, key, "ca/ca.pem", &door("doors/door.key")).good();
    for (said, words) in [
        (
            check("none.crt", key, "ca/ca.pem", ""),
            ["FILE_UNREADABLE", "none.crt", "[[party]] pemda-33.74"],
        ),
        (
            check(
                "another/pemda-33.crt",
                "another/pemda-33.key",
                "ca/ca.pem",
                "",
            ),
            ["WRONG_NAME", "another/pemda-33.crt", "party/pemda-33"],
        ),
        (
            check(good, "another/pemda-33.key", "ca/ca.pem", ""),
            ["KEY_MISMATCH", "another/pemda-33.key", "is not the key of"],
        ),
        (
            check(good, "exposed.key", "ca/ca.pem", ""),
            ["KEY_EXPOSED", "exposed.key", "chmod 600"],
        ),
        (
            check(
                "ended/pemda-33.74.crt",
                "ended/pemda-33.74.key",
                "ca/ca.pem",
                "",
            ),
            ["CERTIFICATE_EXPIRED", "ended/pemda-33.74.crt", "expired"],
        ),
        (
            check(good, key, "other/ca.pem", ""),
            ["UNKNOWN_CA", "good/pemda-33.74.crt", "roots"],
        ),
        (
            check(good, key, "ca/ca.pem", &door(key)),
            ["KEY_MISMATCH", "door.crt", "[door.tls]"],
        ),
    ] {
        assert_eq!(said.code, 1, "{words:?}: {}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{word}: {}", said.err);
        }
    }
    let settings = path("adapter.toml");
    jembatan(&["config", "check", "adapter", &settings, "--settings-only"]).good();
    // The door's is renewed as any.
    let crt = path("doors/door.crt");
    let show = || pki(&["show", &crt, "--output", "json"]).json();
    let before = show();
    pki(&["renew", "--certificate", &crt, "--dir", &ca]);
    pki(&["install", "--certificate", &crt]);
    let after = show();
    assert_ne!(before["serial"], after["serial"]);
    assert_eq!(after["uris"], serde_json::json!([]));
    assert_eq!(after["hosts"], serde_json::json!(["localhost"]));
    check(good, key, "ca/ca.pem", &door("doors/door.key")).good();
}

/// Scenario: hub and adapter are started while another program has their port.
/// Guarantee: they say which port and what to do, and leave no store behind.
#[test]
fn a_port_in_use_leaves_no_store_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let world = World::new();
    let directory = world.directory.path();
    let text = std::fs::read_to_string(directory.join("hub.toml")).unwrap();
    let links = world.links().to_string();
    let hub = text
        .replace("\"hub-data\"", "\"new-data\"")
        .replace(&links, &taken);
    let adapter = format!(
        "directory = \"new-data\"\n[hub]\naddress = \"{links}\"\n[[party]]\nid = \"pemda-33\"\n\
         certificate = \"none.pem\"\nkey = \"none.pem\"\n[tls]\nroots = \"pki/ca.pem\"\n\
         [door]\ngrpc = \"127.0.0.1:0\"\nhttp = \"{taken}\"\n"
    );
    for (role, text) in [("hub", hub), ("adapter", adapter)] {
        let config = directory.join(format!("busy-{role}.toml"));
        std::fs::write(&config, text).unwrap();
        let said = jembatan(&[role, "--config", config.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{}", said.err);
        let words = format!("can't listen on {taken}");
        assert!(said.err.contains(&words), "{}", said.err);
        assert!(!directory.join("new-data").exists(), "{role}");
    }
}

/// Scenario: a hub and an adapter are started a second time in the data directory
/// of one that runs, with ports of their own.
/// Guarantee: the second ends with 1 and says which directory, and what to do; the
/// first goes on.
#[test]
fn a_second_process_on_one_directory_is_refused() {
    let world = World::new();
    let _adapter = world.adapter("pemda-33");
    let directory = world.directory.path();
    let links = world.links().to_string();
    for (role, file, data) in [
        ("hub", "hub.toml", "hub-data"),
        ("adapter", "pemda-33.toml", "pemda-33-data"),
    ] {
        let text = std::fs::read_to_string(directory.join(file)).unwrap();
        let text = match role {
            "hub" => text.replace(&links, "127.0.0.1:0"),
            _ => text,
        };
        let config = directory.join(format!("second-{file}"));
        std::fs::write(&config, text).unwrap();
        let said = jembatan(&[role, "--config", config.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{role}: {}", said.err);
        for words in [
            "another process uses the data directory",
            data,
            "stop it, or configure another directory",
        ] {
            assert!(said.err.contains(words), "{role}: {words}: {}", said.err);
        }
    }
    at(&world.hub, &["parties", "list"]).good();
}

/// Scenario: a hub and an adapter, stopped, are started with a database file that
/// is none.
/// Guarantee: each ends with 1, names the file and what to do, and leaves the file
/// as it is.
#[test]
fn a_damaged_store_ends_the_start_and_is_left_alone() {
    let mut world = World::new();
    let mut adapter = world.adapter("pemda-33");
    assert!(adapter.stop() && world.hub.stop());
    let directory = world.directory.path();
    for (role, file, data) in [
        ("hub", "hub.toml", "hub-data"),
        ("adapter", "pemda-33.toml", "pemda-33-data"),
    ] {
        let store = directory.join(data).join("jembatan.db");
        let log = store.with_extension("db-wal");
        assert!(!log.exists(), "{role}: a stopped node leaves no log");
        std::fs::write(&store, "no database").unwrap();
        let config = directory.join(file);
        let said = jembatan(&[role, "--config", config.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{role}: {}", said.err);
        let name = format!("{data}/jembatan.db is damaged");
        for words in [name.as_str(), "restore the directory from a backup"] {
            assert!(said.err.contains(words), "{role}: {words}: {}", said.err);
        }
        assert_eq!(std::fs::read(&store).unwrap(), b"no database", "{role}");
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
