//! The table of faults and the tests that it names.

use std::path::Path;

/// Scenario: each test that docs/reliability.md names, as file and function.
/// Guarantee: it exists; a table that promises a test that is gone turns red.
#[test]
fn every_test_in_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let (mut file, mut count) = (String::new(), 0);
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let tests = line.rsplit(" | ").next().unwrap();
        for word in tests.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = std::fs::read_to_string(root.join(word)).unwrap_or_default();
                assert!(!file.is_empty(), "there is no {word}");
            } else {
                assert!(file.contains(&format!("fn {word}(")), "{word} is not there");
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count} tests are named");
}
