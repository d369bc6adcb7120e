//! What the papers name: the table of faults and its tests, and the commands that
//! show a claim.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file, from the top of the package.
fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|_| panic!("there is no {}", path.display()))
}

/// Functions of a file that are tests, or parts of the contract of stores, which
/// one test of each engine runs.
fn tests_of(path: &str, file: &str) -> Vec<String> {
    let is_part = path.starts_with("src/store/conformance/");
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in file.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        }
        let line = line
            .trim_start_matches("pub(super) ")
            .trim_start_matches("async ");
        if let Some(rest) = line.strip_prefix("fn ") {
            if is_test || is_part {
                let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
                found.push(rest[..end.unwrap_or(rest.len())].to_owned());
            }
            is_test = false;
        }
    }
    found
}

/// Scenario: each test that docs/reliability.md names, as file and function.
/// Guarantee: it is a test; a table that promises one that is gone, or that nobody
/// runs any more, turns red.
#[test]
fn every_test_in_the_table_exists() {
    let (mut path, mut tests, mut count) = (String::new(), Vec::new(), 0);
    for line in text("docs/reliability.md")
        .lines()
        .filter(|line| line.starts_with('|'))
    {
        let named = line.rsplit(" | ").next().unwrap();
        for word in named.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                path = word.to_owned();
                tests = tests_of(&path, &text(word));
            } else {
                let is_there = tests.iter().any(|test| test == word);
                assert!(is_there, "{word} is no test of {path}");
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count} tests are named");
}

/// Files below a directory, by their names from the top of the package.
fn files(directory: &str, ending: &str) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::from(directory)]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(root().join(&next)).unwrap() {
            let path = next.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Scenario: each `cargo test … WORD` that README and docs say shows something.
/// Guarantee: the word means a test: a command that runs nothing passes, and would
/// show nothing.
#[test]
fn every_command_of_the_papers_runs_a_test() {
    let names = |directory: &str| -> Vec<String> {
        let mut found = Vec::new();
        for path in files(directory, "rs") {
            let module = path.trim_start_matches(directory).trim_end_matches(".rs");
            let module = module.trim_start_matches('/').replace('/', "::");
            let tests = tests_of(&path, &text(&path));
            found.extend(tests.into_iter().map(|test| format!("{module}::{test}")));
        }
        found
    };
    let kinds = [
        ("cargo test --test it ", names("tests/it")),
        ("cargo test --lib ", names("src")),
    ];
    let mut papers = files("docs", "md");
    papers.push("README.md".to_owned());
    let mut count = 0;
    for paper in papers {
        let said = text(&paper);
        for (command, tests) in &kinds {
            for rest in said.split(command).skip(1) {
                let is_word = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
                let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
                let word = &rest[..end];
                if word.is_empty() {
                    continue;
                }
                let is_run = tests.iter().any(|test| test.contains(word));
                assert!(is_run, "{paper}: {command}{word} runs nothing");
                count += 1;
            }
        }
    }
    assert!(count > 15, "{count} commands are named");
}
