//! The rooms and their directions, as `ARCHITECTURE.md` has them. Invariants
//! of structure are ordinary tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file, at most.
const MAX_LINES: usize = 600;

/// A room, and the rooms that it may know.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("runtime", &[]),
    ("exchange", &["domain"]),
    ("wire", &["domain", "exchange"]),
    ("store", &["domain", "exchange", "runtime"]),
    ("config", &["domain"]),
    ("identity", &["domain", "runtime"]),
    ("transport", &["domain", "identity"]),
    (
        "link",
        &[
            "domain",
            "exchange",
            "runtime",
            "store",
            "transport",
            "wire",
        ],
    ),
    (
        "door",
        &[
            "domain",
            "exchange",
            "runtime",
            "store",
            "transport",
            "wire",
        ],
    ),
    (
        "health",
        &["domain", "exchange", "link", "runtime", "store", "wire"],
    ),
    (
        "node",
        &[
            "config",
            "domain",
            "door",
            "health",
            "identity",
            "runtime",
            "store",
            "transport",
            "wire",
        ],
    ),
    (
        "hub",
        &[
            "config",
            "domain",
            "door",
            "exchange",
            "health",
            "identity",
            "link",
            "node",
            "runtime",
            "store",
            "transport",
            "wire",
        ],
    ),
    (
        "adapter",
        &[
            "config",
            "domain",
            "door",
            "exchange",
            "health",
            "identity",
            "link",
            "node",
            "runtime",
            "store",
            "transport",
        ],
    ),
];

/// Words that only some rooms may use.
const WORDS: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("SELECT ", &["store"]),
    ("anyhow", &["cli"]),
    ("println!", &["cli"]),
    ("eprintln!", &["cli"]),
    // The store speaks TLS with its database server.
    ("rustls::", &["identity", "store", "transport"]),
];

/// Words that a room must not use.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "tokio::",
            "tonic::",
            "prost::",
            "SystemTime",
            "rand::",
            "getrandom",
        ],
    ),
    (
        "exchange",
        &[
            "tokio::",
            "tonic::",
            "prost::",
            "SystemTime",
            "rand::",
            "getrandom",
        ],
    ),
    ("wire", &["tokio::", "std::fs", "std::net"]),
    ("config", &["tokio::", "tonic::"]),
];

/// What is wrong with one file of a room.
fn findings(room: &str, path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{path}: {lines} lines; at most {MAX_LINES}"));
    }
    if !source.trim_start().starts_with("//!") {
        found.push(format!("{path}: begins without a module doc"));
    }
    // Tests may use what they need to build a world.
    let code = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or("");
    let is_test = ["tests", "conformance"]
        .iter()
        .any(|name| path.contains(name));
    if is_test {
        return found;
    }
    let allowed = ROOMS.iter().find(|(name, _)| *name == room);
    for known in rooms_named(code) {
        if let Some((_, allowed)) = allowed
            && known != room
            && !allowed.contains(&known.as_str())
        {
            found.push(format!("{path}: {room} must not know {known}"));
        }
    }
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    for line in lines {
        for (word, rooms) in WORDS {
            if line.contains(word) && !rooms.contains(&room) {
                found.push(format!(
                    "{path}: {word:?} is for {rooms:?} only: {}",
                    line.trim()
                ));
            }
        }
        let mine = FORBIDDEN.iter().filter(|(name, _)| *name == room);
        for word in mine.flat_map(|(_, words)| words.iter()) {
            if line.contains(word) {
                found.push(format!("{path}: {word:?} has no place in {room}"));
            }
        }
    }
    found
}

/// Rooms that a source names by `crate::room` or in a `use crate::{..}` group.
fn rooms_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut rest = code;
    while let Some(place) = rest.find("crate::") {
        rest = &rest[place + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => word.clear(),
                    c if depth == 0 && (c.is_alphanumeric() || c == '_') => word.push(c),
                    ':' if depth == 0 && !word.is_empty() => named.push(std::mem::take(&mut word)),
                    _ => {}
                }
            }
        } else {
            named.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    named.retain(|name| ROOMS.iter().any(|(room, _)| room == name) || name == "cli");
    named
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// Scenario: every source file of every room, and of the tests.
/// Guarantee: no room knows one that it must not; SQL, printing, TLS and
/// `anyhow` stay where they belong; no file is over 600 lines or without doc.
#[test]
fn rooms_keep_their_directions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for path in sources(&root.join("src")) {
        let inside = path.strip_prefix(root.join("src")).unwrap();
        let mut parts = inside.components();
        let room = parts.next().unwrap().as_os_str().to_str().unwrap();
        if parts.next().is_none() {
            continue;
        }
        *seen.entry(room.to_owned()).or_insert(0) += 1;
        let source = fs::read_to_string(&path).unwrap();
        found.extend(findings(room, inside.to_str().unwrap(), &source));
    }
    for path in sources(&root.join("tests")) {
        let source = fs::read_to_string(&path).unwrap();
        found.extend(findings("tests", path.to_str().unwrap(), &source));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (room, _) in ROOMS {
        assert!(
            seen.contains_key(*room),
            "the room {room} has no file: is the table right?"
        );
    }
    let listed: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for room in seen.keys().filter(|room| *room != "cli") {
        assert!(
            listed.contains(&room.as_str()),
            "{room} is not in the table"
        );
    }
}

/// Scenario: made-up sources that break each rule.
/// Guarantee: the check finds each; a check that can't fail is none.
#[test]
fn the_check_can_fail() {
    let doc = "//! Doc.\n";
    let wrong = [
        ("domain", format!("{doc}use crate::store::Store;\n")),
        (
            "hub",
            format!("{doc}use crate::{{\n    domain::X,\n    adapter::run,\n}};\n"),
        ),
        ("exchange", format!("{doc}use tokio::time::sleep;\n")),
        ("door", format!("{doc}const SQL: &str = \"SELECT 1\";\n")),
        ("link", format!("{doc}fn f() {{ println!(\"x\"); }}\n")),
        ("link", "fn f() {}\n".to_owned()),
        ("link", format!("{doc}{}", "\n".repeat(MAX_LINES))),
    ];
    for (room, source) in wrong {
        assert_eq!(findings(room, "x.rs", &source).len(), 1, "{room}: {source}");
    }
    let right = format!("{doc}use crate::{{\n    domain::{{A, B}},\n    exchange::C,\n}};\n");
    assert_eq!(findings("link", "x.rs", &right), Vec::<String>::new());
}
