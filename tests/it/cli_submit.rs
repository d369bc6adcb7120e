//! `jembatan submit`: order, broken lines, restarts, memory.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use jembatan::wire::v1;
use serde_json::json;

use crate::{
    cli::{at, filing, program, write_lines},
    support::World,
};

/// Scenario: a file with complaints, hand-overs that name their system, an
/// event, broken lines of each sort between them, and one that the door
/// refuses.
/// Guarantee: one result a line, in the order of the input, each with its line
/// number; a broken hand-over is told as one; the system is kept; exit code 3
/// and the sum on standard error.
#[test]
fn results_stand_in_the_order_of_the_input() {
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let handover = |reference: &str, system: &str| {
        json!({"handover": {"system": system, "complaint":
            {"reference": reference, "title": "Jalan rusak", "body": "Berlubang."}}})
        .to_string()
    };
    let broken =
        r#"{"handover":{"key":"k-1","event":{"complaint":{"reference":"A-1"},"closd":{}}}}"#;
    let event =
        r#"{"handover":{"key":"k-2","event":{"complaint":{"reference":"A-1"},"verified":{}}}}"#;
    let file = world.directory.path().join("mixed.jsonl");
    write_lines(
        &file,
        &[
            filing("A-1"),
            "this is no JSON".to_owned(),
            handover("H-1", "lain"),
            broken.to_owned(),
            String::new(),
            event.to_owned(),
            json!({"reference": "A-2", "title": "", "body": "x"}).to_string(),
            filing("A-3"),
        ],
    );
    let said = at(&city, &["submit", file.to_str().unwrap()]);
    assert_eq!(said.code, 3, "{}", said.err);
    let results = said.lines();
    let seen: Vec<_> = results
        .iter()
        .map(|result| {
            let line = result["line"].as_u64().unwrap();
            (line, result["error"]["reason"].as_str().unwrap_or("stored"))
        })
        .collect();
    let expected = [
        (1, "stored"),
        (2, "UNREADABLE"),
        (3, "stored"),
        (4, "UNREADABLE"),
        (6, "stored"), // of a complaint that the same stream files
        (7, "INVALID_ARGUMENT"),
        (8, "stored"),
    ];
    for ((line, outcome), (expected_line, expected)) in seen.iter().zip(expected) {
        assert_eq!(*line, expected_line, "{seen:?}");
        let is_refused = *outcome != "stored" && expected == "INVALID_ARGUMENT";
        assert!(*outcome == expected || is_refused, "{seen:?}");
    }
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    let told = results[3]["error"]["message"].as_str().unwrap();
    assert!(
        told.contains("not a hand-over") && told.contains("closd"),
        "{told}"
    );
    assert!(
        said.err
            .contains("stored 4 (of these 0 were there already), refused 1, unreadable 2"),
        "{}",
        said.err
    );
    let show = ["complaint", "show", "H-1", "--output", "json", "--system"];
    let mut kept = show.to_vec();
    kept.push("lain");
    let kept = at(&city, &kept).good().json();
    assert_eq!(kept["originSystem"], "lain");
    let table = at(
        &city,
        &["submit", "--output", "table", file.to_str().unwrap()],
    );
    assert!(
        table.out.contains("line 1  A-1  ") && table.out.contains("was there already"),
        "{}",
        table.out
    );
}

/// Scenario: a spreadsheet's CSV: a byte order mark, semicolons, a text of two
/// lines, empty cells for yes or no, and one that is neither.
/// Guarantee: an empty cell is no; the wrong one is named by line and column;
/// the others are stored as they were written.
#[test]
fn csv_as_spreadsheets_write_it() {
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let file = world.directory.path().join("laporan.csv");
    std::fs::write(
        &file,
        "\u{feff}reference;title;body;region;anonymous;confidential;reporter_name\n\
         C-1;Jalan rusak;\"Berlubang,\ndi depan pasar.\";33.74;;ya;Pelapor Uji 901\n\
         C-2;Sampah;Menumpuk.;33.74;mungkin;;\n\
         C-3;Lampu;Padam.;33.74;true;;\n",
    )
    .unwrap();
    let said = at(&city, &["submit", file.to_str().unwrap()]);
    assert_eq!(said.code, 3, "{}", said.err);
    let results = said.lines();
    assert_eq!(results[0]["line"], 2);
    assert_eq!(results[1]["line"], 4, "the text before it has two lines");
    let told = results[1]["error"]["message"].as_str().unwrap();
    assert!(told.contains("column anonymous"), "{told}");
    assert_eq!(results[2]["reference"], "C-3");
    let view = |reference: &str| {
        at(&city, &["complaint", "show", reference, "--json"])
            .good()
            .json()
    };
    let first = view("C-1");
    assert_eq!(first["confidential"], true, "{first}");
    assert_eq!(first.get("anonymous"), None, "false is left out: {first}");
    let content = &first["history"][0]["event"]["content"];
    assert_eq!(content["body"], "Berlubang,\ndi depan pasar.");
    assert_eq!(view("C-3")["anonymous"], true);
    let headless = world.directory.path().join("headless.csv");
    std::fs::write(&headless, "a,b\n1,2\n").unwrap();
    let said = at(&city, &["submit", headless.to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no column reference"), "{}", said.err);
}

/// Scenario: the program is killed in the middle of a long file, then run
/// again over the same file.
/// Guarantee: the second run takes all of it; what was there already is
/// answered as such; the journal holds each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_run_again_and_doubles_nothing() {
    const ALL: u64 = 12_000;
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let file = world.directory.path().join("long.jsonl");
    let lines: Vec<String> = (0..ALL).map(|n| filing(&format!("L-{n}"))).collect();
    write_lines(&file, &lines);
    let mut first = program()
        .arg("submit")
        .arg(&file)
        .args(["--door", &city.grpc.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answered = BufReader::new(first.stdout.take().unwrap()).lines();
    for _ in 0..500 {
        answered.next().unwrap().unwrap();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let before = city.place("pemda-33.74", v1::Journal::Submissions).await;
    assert!(
        (500..ALL).contains(&before.position),
        "in the middle: {}",
        before.position
    );
    let again = at(&city, &["submit", file.to_str().unwrap()]).good();
    let results = again.lines();
    assert_eq!(results.len() as u64, ALL);
    let repeated = results
        .iter()
        .filter(|result| result["receipt"]["repeatedHandover"] == true)
        .count() as u64;
    // The node goes on with what had reached it when the program died.
    assert!(repeated >= before.position, "{}", again.err);
    let after = city.place("pemda-33.74", v1::Journal::Submissions).await;
    assert_eq!(after.position, ALL, "each once");
}

/// Scenario: input without end on standard input; results are read while it
/// is still being written.
/// Guarantee: results come before the input ends, and the program's memory
/// stays small however much went through it.
#[test]
fn input_is_streamed() {
    const LINES: u64 = 150_000;
    let world = World::new();
    let city = world.adapter("pemda-33.74");
    let mut run = program()
        .args(["submit", "--door", &city.grpc.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = run.stdin.take().unwrap();
    let output = BufReader::new(run.stdout.take().unwrap());
    let reading = std::thread::spawn(move || {
        let mut count = 0;
        let mut last = String::new();
        for line in output.lines() {
            last = line.unwrap();
            count += 1;
            if count == LINES {
                break;
            }
        }
        (count, last)
    });
    // Most can't be read: what is measured is this program, not the door.
    let filler = "x".repeat(1_000);
    for n in 0..LINES - 1 {
        if n % 1_000 == 0 {
            writeln!(input, "{}", filing(&format!("S-{n}"))).unwrap();
        } else {
            writeln!(input, "{filler}").unwrap();
        }
    }
    writeln!(input, "{}", filing("S-last")).unwrap();
    input.flush().unwrap();
    let (count, last) = reading.join().unwrap();
    assert_eq!(count, LINES, "all came while the input was open");
    assert!(last.contains("S-last"), "{last}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 100 * 1024, "150 MB went through: {peak}");
    drop(input);
    assert_eq!(run.wait().unwrap().code(), Some(3));
}
