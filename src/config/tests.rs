//! The shipped files against the types, and what a wrong file is told.

use std::path::{Path, PathBuf};

use super::{
    ADAPTER_FILE, AdapterConfig, ConfigError, DIRECTORY_FILE, DirectoryFile, HUB_FILE, HubConfig,
    LogFormat, LogLevel, Scope, Settings, load, load::parse,
};
use crate::domain::{Limits, PartyId, PartyMode, RegionCode};

const NO_KEYS: &str = "";
const ONLY_NEEDED: &str = r#"
    hub.address = "hub.example:8443"
    [[party]]
    id = "pemda-33.74"
    certificate = "/etc/jembatan/pemda-33.74.crt"
    key = "/etc/jembatan/pemda-33.74.key"
    [[party.system]]
    name = "lapor-semar"
"#;

fn read<T: Settings>(text: &str) -> Result<T, ConfigError> {
    parse(Path::new("/etc/jembatan/node.toml"), text)
}

fn problem<T: Settings + std::fmt::Debug>(text: &str) -> String {
    read::<T>(text).unwrap_err().to_string()
}

/// What begins with '#' and no blank is an optional setting.
fn with_optional(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Scenario: the shipped files as they are.
/// Guarantee: the documented default file is the default.
#[test]
fn the_documented_default_is_the_default() {
    let shipped: HubConfig = read(HUB_FILE).unwrap();
    assert_eq!(shipped, HubConfig::default());
    assert_eq!(shipped, read(NO_KEYS).unwrap());
    let shipped: AdapterConfig = read(ADAPTER_FILE).unwrap();
    assert_eq!(shipped, read(ONLY_NEEDED).unwrap());
    assert_eq!(shipped.limits, Limits::default());
    assert_eq!(shipped.hub.server_name(), "hub.example");
}

/// Scenario: every optional line of the shipped files is switched on.
/// Guarantee: they are read too, and nothing that can be set is undocumented.
#[test]
fn every_optional_key_is_documented_and_holds() {
    let hub: HubConfig = read(&with_optional(HUB_FILE)).unwrap();
    assert_eq!(
        hub.door.tokens[0].scopes,
        [Scope::Submit, Scope::Read, Scope::Inbox]
    );
    assert!(hub.door.needs_token());
    assert_eq!(
        hub.directory_file.path,
        Some(PathBuf::from("/etc/jembatan/directory.toml"))
    );
    let adapter: AdapterConfig = read(&with_optional(ADAPTER_FILE)).unwrap();
    let proxy = adapter
        .hub
        .proxy
        .as_ref()
        .map(|proxy| proxy.address.as_str());
    assert_eq!(proxy, Some("proxy.example:3128"));
    let written = [
        (toml::to_string(&hub).unwrap(), HUB_FILE),
        (toml::to_string(&adapter).unwrap(), ADAPTER_FILE),
    ];
    for (text, file) in written {
        let documented = with_optional(file);
        for line in text.lines() {
            let key = line.split('=').next().unwrap_or_default().trim();
            let is_there = documented.lines().any(|line| {
                let found = line.split('=').next().unwrap_or_default().trim();
                found == key
            });
            assert!(is_there || key.is_empty(), "{key} is not documented");
        }
    }
}

/// Scenario: settings are written out again (`config show`) and read back.
/// Guarantee: nothing changes on the way.
#[test]
fn what_is_shown_is_what_holds() {
    let hub: HubConfig = read(&with_optional(HUB_FILE)).unwrap();
    assert_eq!(hub, read(&toml::to_string(&hub).unwrap()).unwrap());
    let adapter: AdapterConfig = read(&with_optional(ADAPTER_FILE)).unwrap();
    assert_eq!(adapter, read(&toml::to_string(&adapter).unwrap()).unwrap());
}

/// Scenario: the shipped directory file.
/// Guarantee: it becomes the domain's directory, and routes.
#[test]
fn the_shipped_directory_routes() {
    let file: DirectoryFile = read(DIRECTORY_FILE).unwrap();
    let national = PartyId::parse("nasional").unwrap();
    let directory = file.into_directory(&national);
    assert_eq!(directory.parties[&national].mode, PartyMode::Local);
    assert_eq!(directory.triage_reader(), Some(&national));
    let region = RegionCode::parse("33.74.01").unwrap();
    let found = directory.route(Some(&region), None).unwrap();
    assert_eq!(found.as_str(), "pemda-33");
}

/// Scenario: a directory file without the national party.
/// Guarantee: the party is there, behind the hub's own door.
#[test]
fn the_national_party_is_always_there() {
    let national = PartyId::parse("nasional").unwrap();
    let directory = DirectoryFile::default().into_directory(&national);
    assert_eq!(directory.parties[&national].mode, PartyMode::Local);
}

/// Scenario: a key is misspelt, in a table and at the top.
/// Guarantee: file, line, column and key are named, and what was meant.
#[test]
fn a_wrong_key_is_named_with_what_was_meant() {
    let found = problem::<HubConfig>("[tls]\ncertificate = \"a\"\nroot = \"b\"\n");
    assert!(
        found.starts_with("/etc/jembatan/node.toml:3:1: tls.root: "),
        "{found}"
    );
    assert!(found.ends_with("did you mean \"roots\"?"), "{found}");
    let found = problem::<HubConfig>("trust_domian = \"x\"\n");
    assert!(
        found.starts_with("/etc/jembatan/node.toml:1:1: trust_domian: "),
        "{found}"
    );
    assert!(found.ends_with("did you mean \"trust_domain\"?"), "{found}");
    let found = problem::<HubConfig>("[log]\nformat = \"jsn\"\n");
    assert!(found.contains(":2:10: log.format: "), "{found}");
    assert!(found.ends_with("did you mean \"json\"?"), "{found}");
    let found = problem::<AdapterConfig>(&format!("{ONLY_NEEDED}\n[door]\nport = 1\n"));
    assert!(found.contains("door.port: unknown field"), "{found}");
    assert!(!found.contains("did you mean"), "{found}");
}

/// Scenario: every shipped file, with a key that does not exist in every table.
/// Guarantee: none is taken in silence.
#[test]
fn no_table_takes_an_unknown_key() {
    fn try_all<T: Settings + std::fmt::Debug>(file: &str) {
        let text = with_optional(file);
        let tables = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.starts_with('['));
        for (index, table) in tables {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(index + 1, "zzz = 1");
            let found = problem::<T>(&lines.join("\n"));
            assert!(found.contains("unknown field `zzz`"), "{table}: {found}");
            assert!(
                found.contains(&format!(":{}:", index + 2)),
                "{table}: {found}"
            );
        }
    }
    try_all::<HubConfig>(HUB_FILE);
    try_all::<AdapterConfig>(ADAPTER_FILE);
    try_all::<DirectoryFile>(DIRECTORY_FILE);
}

/// Scenario: a door on an address that others can reach, without TLS, without
/// a token, without both, and with both; doors on loopback and on sockets.
/// Guarantee: beyond this machine both are needed, and what is missing is told
/// with what to do; loopback and sockets need nothing.
#[test]
fn doors_beyond_this_machine_need_tls_and_a_token() {
    let token = format!(
        "[[door.token]]\nname = \"a\"\nsha256 = \"{}\"\nsystem = \"s\"\nscopes = [\"read\"]\n",
        "ab".repeat(32)
    );
    let tls = "[door.tls]\ncertificate = \"door.pem\"\nkey = \"door.key\"\n";
    let open = "[door]\ngrpc = \"0.0.0.0:7070\"\n";
    let found = problem::<HubConfig>(open);
    assert!(found.contains("door.grpc: 0.0.0.0:7070 can be"), "{found}");
    assert!(found.contains("[door.tls] with certificate and key, and a [[door.token]]"));
    assert!(found.contains("127.0.0.1, [::1] or unix:/path"), "{found}");
    let found = problem::<HubConfig>(&format!("{open}{token}"));
    assert!(
        found.contains("needs [door.tls] with certificate and key;"),
        "{found}"
    );
    let found = problem::<HubConfig>(&format!("{open}{tls}"));
    assert!(found.contains("needs a [[door.token]]"), "{found}");
    let hub: HubConfig = read(&format!("{open}{tls}{token}")).unwrap();
    assert_eq!(
        hub.door.tls.unwrap().certificate,
        PathBuf::from("/etc/jembatan/door.pem")
    );
    let found = problem::<HubConfig>("[health]\nhttp = \"10.0.0.1:7090\"\n");
    assert!(
        found.contains("health.http: 10.0.0.1:7090 can be"),
        "{found}"
    );
    read::<HubConfig>("[door]\ngrpc = \"[::1]:0\"\nhttp = \"127.0.0.1:0\"\n").unwrap();
    let hub: HubConfig =
        read("[door]\ngrpc = \"unix:/run/jembatan/grpc.sock\"\nhttp = \"unix:http.sock\"\n")
            .unwrap();
    assert_eq!(hub.door.http.to_string(), "unix:/etc/jembatan/http.sock");
    let found = problem::<HubConfig>("[door]\ngrpc = \"localhost\"\n");
    assert!(
        found.contains(":2:8: door.grpc: \"localhost\" is neither"),
        "{found}"
    );
}

/// Scenario: values that are wrong by themselves, or beside each other.
/// Guarantee: each is told by key.
#[test]
fn wrong_values_are_told_by_key() {
    let cases = [
        ("[limits]\ndead_after_ms = 5000\n", "limits.dead_after_ms"),
        ("[limits]\nwindow_entries = 0\n", "limits.window_entries"),
        (
            "[policy]\nevents_per_complaint = 0\n",
            "policy.events_per_complaint",
        ),
        ("[session]\nmax_age_hours = 0\n", "session.max_age_hours"),
        ("trust_domain = \"Jembatan\"\n", "trust_domain"),
        ("[national]\nparty = \"Nasional\"\n", "national.party"),
        ("[door]\ngrpc = \"127.0.0.1:7080\"\n", "door.http"),
        (
            "[[door.token]]\nname = \"a\"\nsha256 = \"abc\"\nsystem = \"s\"\nscopes = []\n",
            "door.token.sha256",
        ),
    ];
    for (text, key) in cases {
        let found = problem::<HubConfig>(text);
        assert!(found.contains(&format!("{key}: ")), "{key}: {found}");
    }
}

/// Scenario: an adapter for two parties, and a token that names neither, or a
/// system that its party does not have.
/// Guarantee: refused: it would not be clear for whom it speaks.
#[test]
fn a_token_speaks_for_one_party() {
    let digest = "ab".repeat(32);
    let token = |more: &str| {
        format!(
            "{ONLY_NEEDED}\n[[party]]\nid = \"pemda-33.02\"\ncertificate = \"c\"\nkey = \"k\"\n\
             [[door.token]]\nname = \"web\"\nsha256 = \"{digest}\"\nscopes = [\"submit\"]\n{more}\n"
        )
    };
    let found = problem::<AdapterConfig>(&token("system = \"lapor-semar\""));
    assert!(
        found.contains("door.token \"web\", party: is missing"),
        "{found}"
    );
    let found = problem::<AdapterConfig>(&token("system = \"x\"\nparty = \"pemda-33.74\""));
    assert!(found.contains("door.token \"web\", system: "), "{found}");
    read::<AdapterConfig>(&token("system = \"x\"\nparty = \"pemda-33.02\"")).unwrap();
}

/// Scenario: an adapter without a party, with one twice, with a hub that is no address.
/// Guarantee: each is told.
#[test]
fn an_adapter_needs_its_party_and_hub() {
    let found = problem::<AdapterConfig>("[hub]\naddress = \"hub.example:8443\"\n");
    assert!(found.contains("missing field `party`"), "{found}");
    let found = problem::<AdapterConfig>("party = []\n[hub]\naddress = \"hub.example:8443\"\n");
    assert!(found.contains("at least one party"), "{found}");
    let twice = "[[party]]\nid = \"pemda-33.74\"\ncertificate = \"c\"\nkey = \"k\"\n";
    let found = problem::<AdapterConfig>(&format!("{ONLY_NEEDED}\n{twice}"));
    assert!(found.contains("is used twice"), "{found}");
    let found = problem::<AdapterConfig>(&format!("[hub]\naddress = \"hub\"\n{twice}"));
    assert!(
        found.contains("hub.address: \"hub\" is not a host and a port"),
        "{found}"
    );
}

/// Scenario: a directory that names what it does not list.
/// Guarantee: told, with what was probably meant.
#[test]
fn a_directory_stands_by_itself() {
    let text = DIRECTORY_FILE.replacen("parent = \"pemda-33\"", "parent = \"pemda-3\"", 1);
    let found = problem::<DirectoryFile>(&text);
    assert!(
        found.contains("institution \"pemda-33.74\", parent: "),
        "{found}"
    );
    assert!(found.contains("did you mean \"pemda-33\"?"), "{found}");
    let text = format!("{DIRECTORY_FILE}\n[[category]]\ncode = \"garbage\"\n");
    assert!(problem::<DirectoryFile>(&text).contains("garbage is listed twice"));
}

/// Scenario: a file on disk with relative paths; a file that is not there.
/// Guarantee: paths are meant from the file's directory; the file is named.
#[test]
fn paths_are_meant_from_the_files_directory() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("hub.toml");
    let text = "directory = \"data\"\n[tls]\nkey = \"keys/hub.key\"\ncrls = [\"a.crl\"]\n\
                [log]\nformat = \"json\"\nlevel = \"debug\"\n";
    std::fs::write(&file, text).unwrap();
    let hub: HubConfig = load(&file).unwrap();
    assert_eq!(hub.directory, place.path().join("data"));
    assert_eq!(hub.tls.key, place.path().join("keys/hub.key"));
    assert_eq!(hub.tls.crls, [place.path().join("a.crl")]);
    assert_eq!(hub.tls.roots, Path::new("/etc/jembatan/roots.pem"));
    assert_eq!(
        (hub.log.format, hub.log.level),
        (LogFormat::Json, LogLevel::Debug)
    );

    let gone = place.path().join("gone.toml");
    let found = load::<HubConfig>(&gone).unwrap_err().to_string();
    assert!(found.contains("gone.toml"), "{found}");
}
