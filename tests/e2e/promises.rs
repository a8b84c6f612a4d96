//! The table of the README's promises names tests that are there.

use std::path::Path;

/// The lines of the table: its section, what is promised, what holds it.
fn rows(table: &str) -> Vec<(&str, &str, &str)> {
    let (mut section, mut rows) = ("", Vec::new());
    for line in table.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
        }
        let cells = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
        // What is promised may have a bar in it; the tests have none.
        if let Some((promise, tests)) = cells.and_then(|cells| cells.rsplit_once(" | ")) {
            rows.push((section, promise, tests));
        }
    }
    rows.retain(|(_, promise, _)| *promise != "promise");
    rows
}

#[test]
fn every_test_that_the_table_of_promises_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let rows = rows(&table);
    assert!(rows.len() > 200, "{}", rows.len());
    for (section, promise, tests) in rows {
        let heading = |line: &str| line.trim_start_matches('#').trim() == section;
        assert!(readme.lines().any(|line| line.starts_with('#') && heading(line)), "{section}");
        for test in tests.split(", ").filter(|test| *test != "none") {
            let named = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
            let (file, name) = named.and_then(|test| test.split_once("::")).unwrap_or_else(|| {
                panic!("`{test}` of \"{promise}\" is no test");
            });
            let found = ["tests", "src"]
                .iter()
                .find_map(|folder| std::fs::read_to_string(root.join(folder).join(file)).ok());
            let code = found.unwrap_or_else(|| panic!("{file} of \"{promise}\" is not there"));
            let begins = format!("fn {name}(");
            let at = code
                .find(&begins)
                .unwrap_or_else(|| panic!("{test} of \"{promise}\" is not there"));
            let before = code.get(at.saturating_sub(400)..at).unwrap_or_default();
            assert!(before.contains("#[test]") || before.contains("#[tokio::test"), "{test}");
        }
    }
}
