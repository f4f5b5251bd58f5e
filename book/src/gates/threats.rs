//! The threat model keeps its word: each row of it names a defense that is there and a scenario that
//! plays the attack.

use std::path::Path;

use ::tests::load::attacks;
use ::tests::scenario::of_milestone;

use super::Problem;
use super::page::{Line, Page, Part};

/// The page with the tables.
const PAGE: &str = "deep/threat-model.md";

/// Where the defenses are.
const DEFENSES: &str = "step05-production/src";

/// Where the programs are that attack and measure.
const PROGRAMS: &str = "tests/src/bin";

/// The gate.
pub fn check(workspace: &Path, pages: &[Page]) -> Vec<Problem> {
    let of_page = |page: &Page| -> Vec<Problem> {
        let problem = |(line, what)| Problem::new(format!("{}:{line}", page.path), what);
        rows(page).iter().flat_map(|row| look(workspace, row)).map(problem).collect()
    };
    pages.iter().filter(|page| page.path == PAGE).flat_map(of_page).collect()
}

/// A row of a table whose last column is for tests.
struct Row<'a> {
    line: usize,
    defense: &'a str,
    test: &'a str,
}

fn rows(page: &Page) -> Vec<Row<'_>> {
    let (mut rows, mut is_table, mut has_tests) = (Vec::new(), false, false);
    for part in page.parts() {
        let cells = if let Part::Prose(line) = &part { cells(line) } else { Vec::new() };
        if !is_table {
            has_tests = cells.last() == Some(&"test");
        }
        let is_head = !is_table || cells.iter().all(|cell| cell.starts_with("---"));
        is_table = !cells.is_empty();
        if let (Part::Prose(line), [_, defense, test]) = (part, cells.as_slice())
            && has_tests
            && !is_head
        {
            rows.push(Row { line: line.number, defense, test });
        }
    }
    rows
}

fn cells<'a>(line: &Line<'a>) -> Vec<&'a str> {
    let inner = line.text.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

/// What is wrong with a row.
fn look(workspace: &Path, row: &Row<'_>) -> Vec<(usize, String)> {
    let scenarios: Vec<&str> = of_milestone(5).iter().map(|scenario| scenario.name).collect();
    let is_file = |path: &str| path.ends_with(".rs");
    let (files, names): (Vec<&str>, Vec<&str>) =
        between('`', row.test).into_iter().partition(|code| is_file(code));
    let mut problems = Vec::new();
    if names.is_empty() {
        problems.push("a row without a scenario".to_owned());
    }
    let unknown = names.iter().filter(|name| !scenarios.contains(name));
    problems.extend(unknown.map(|name| format!("no scenario of milestone 5 has the name {name}")));
    let is_attack = |name: &&str| attacks::ALL.iter().any(|attack| attack.name == *name);
    let unknown = between('*', row.test).into_iter().filter(|name| !is_attack(name));
    problems.extend(unknown.map(|name| format!("no attack has the name {name}")));
    let defenses = between('`', row.defense).into_iter().filter(|code| is_file(code));
    let defenses = defenses.map(|file| format!("{DEFENSES}/{file}"));
    let programs = files.into_iter().map(|file| {
        if file.contains('/') { file.to_owned() } else { format!("{PROGRAMS}/{file}") }
    });
    let missing = defenses.chain(programs).filter(|path| !workspace.join(path).is_file());
    problems.extend(missing.map(|path| format!("there is no {path}")));
    problems.into_iter().map(|what| (row.line, what)).collect()
}

/// What stands between two of these marks.
fn between(mark: char, text: &str) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use ::tests::program::workspace;

    use super::*;

    const HEAD: &str = "| attack | defense | test |\n|---|---|---|\n";

    fn problems_of(rows: &str) -> Vec<String> {
        let page = Page { path: PAGE.into(), text: format!("{HEAD}{rows}") };
        check(workspace(), &[page]).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn rows_that_name_a_defense_and_a_scenario_pass() {
        let none: [&str; 0] = [];
        assert_eq!(problems_of("| pings | `limits.rs` | `a_flood_of_pings_is_closed` |\n"), none);
        let more = "`a_flood_of_pings_is_closed`; *ping flood* in `attacks.rs`";
        assert_eq!(problems_of(&format!("| pings | `socket.rs`, then 4029 | {more} |\n")), none);
        let other = "\n| mistake | what happens |\n|---|---|\n| none | nothing |\n";
        assert_eq!(problems_of(other), none, "a table of something else");
    }

    #[test]
    fn names_that_nobody_has_are_found() {
        for (row, name) in [
            ("| a | `limits.rs` | `a_flood_of_nonsense_is_closed` |", "a_flood_of_nonsense"),
            (
                "| a | `limitz.rs` | `a_flood_of_pings_is_closed` |",
                "step05-production/src/limitz.rs",
            ),
            ("| a | `limits.rs` | `a_flood_of_pings_is_closed`; *pong flood* |", "pong flood"),
            ("| a | `limits.rs` | `a_flood_of_pings_is_closed`, `atacks.rs` |", "atacks.rs"),
            ("| a | `limits.rs` | we believe so |", "without a scenario"),
        ] {
            let problems = problems_of(&format!("{row}\n"));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(name), "{problems:?}");
        }
    }
}
