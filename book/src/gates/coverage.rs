//! Every line of a milestone is shown in the book, and the new ones in their own chapter.
//!
//! A line that was there in the milestone before is shown if it was shown then. Its own chapter is
//! `implementation/stepN…`, `production/…` and the deep dives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Problem;
use super::page::{Page, region};
use crate::changes::{Kept, Number, ancestor, kept};
use crate::milestone::{self, Milestone};
use crate::new::is_mark;

/// Which lines of which files are shown.
type Shown = BTreeMap<String, BTreeSet<Number>>;

/// The gate.
///
/// # Errors
/// A file can't be read.
pub fn check(workspace: &Path, pages: &[Page]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    // What is shown of the milestone before, its own ancestors included.
    let (mut before, mut told) = (Shown::new(), Shown::new());
    for milestone in milestone::existing(workspace) {
        let anywhere = shown(workspace, pages, |_| true);
        let own = shown(workspace, pages, |page| is_own(page, milestone));
        let (mut now, mut now_told) = (Shown::new(), Shown::new());
        for path in code(workspace, milestone)? {
            let text = fs::read_to_string(workspace.join(&path))?;
            let old = ancestor(milestone, &path).unwrap_or_default();
            let old_text = fs::read_to_string(workspace.join(&old)).unwrap_or_default();
            let file = File {
                kept: kept(&old_text, &text),
                anywhere: lines_of(&anywhere, &path),
                own: lines_of(&own, &path),
                before: lines_of(&before, &old),
            };
            let (good, bad) = file.judge(&text);
            // What is missing from the first milestone on is told once.
            let told = lines_of(&told, &old);
            let is_news =
                |number: &Number| !file.kept.get(number).is_some_and(|then| told.contains(then));
            let news = bad.iter().copied().filter(is_news).collect();
            problems.extend(missing(&path, &text, &news));
            now.insert(path.clone(), good);
            now_told.insert(path, bad);
        }
        (before, told) = (now, now_told);
    }
    Ok(problems)
}

/// What is known about a file's lines.
struct File {
    kept: Kept,
    anywhere: BTreeSet<Number>,
    own: BTreeSet<Number>,
    before: BTreeSet<Number>,
}

impl File {
    /// The lines that are shown as they should be, and those that are not.
    fn judge(&self, text: &str) -> (BTreeSet<Number>, BTreeSet<Number>) {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !is_mark(line));
        lines.map(|(index, _)| index + 1).partition(|number| match self.kept.get(number) {
            Some(then) => self.anywhere.contains(number) || self.before.contains(then),
            None => self.own.contains(number),
        })
    }
}

fn lines_of(shown: &Shown, path: &str) -> BTreeSet<Number> {
    shown.get(path).cloned().unwrap_or_default()
}

/// The Rust files of a milestone.
fn code(workspace: &Path, milestone: Milestone) -> Result<Vec<String>> {
    let files = super::page::files(&milestone.folder(workspace).join("src"))?;
    Ok(files.iter().map(|file| super::page::relative(file, workspace)).collect())
}

fn is_own(page: &Page, milestone: Milestone) -> bool {
    let chapter = format!("implementation/step{}", milestone.number);
    page.path.starts_with(&chapter)
        || ["deep/", "production/"].iter().any(|folder| page.path.starts_with(folder))
}

/// What the includes of some pages show.
fn shown(workspace: &Path, pages: &[Page], wanted: impl Fn(&Page) -> bool) -> Shown {
    let mut shown = Shown::new();
    for page in pages.iter().filter(|page| wanted(page)) {
        for include in page.includes() {
            let path = page.resolve(&include);
            let Ok(text) = fs::read_to_string(workspace.join(&path)) else { continue };
            let Ok(lines) = region(&text, include.anchor.as_deref()) else { continue };
            shown.entry(path).or_default().extend(lines.iter().map(|line| line.number));
        }
    }
    shown
}

/// One problem for each run of lines; blank ones in between do not end it.
fn missing(path: &str, text: &str, lines: &BTreeSet<Number>) -> Vec<Problem> {
    let is_blank =
        |number: Number| text.lines().nth(number - 1).is_some_and(|line| line.trim().is_empty());
    let mut runs: Vec<(Number, Number)> = Vec::new();
    for number in lines {
        match runs.last_mut() {
            Some((_, last)) if (*last + 1..*number).all(is_blank) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let what = "not shown in any page of its own chapter or the deep dives";
    runs.iter().map(|(from, to)| Problem::new(format!("{path}:{from}-{to}"), what)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Workspace;
    use super::super::page;
    use super::*;

    const ONE: &str = "// ANCHOR: all\nfn one() {}\n\nfn two() {}\n// ANCHOR_END: all\n";
    const TWO: &str =
        "fn one() {}\n// ANCHOR: new\nfn new() {}\n// ANCHOR_END: new\n\nfn two() {}\n";

    fn problems_of(pages: &[(&str, &str)]) -> Vec<String> {
        let workspace = Workspace::new(&[
            ("step01-echo/src/main.rs", ONE),
            ("step02-multiuser/src/main.rs", TWO),
            ("book/chapters/SUMMARY.md", ""),
        ]);
        for (path, text) in pages {
            workspace.write(&format!("book/chapters/{path}"), text);
        }
        let problems = check(&workspace.0, &page::all(&workspace.0).unwrap()).unwrap();
        problems.into_iter().map(|problem| problem.place).collect()
    }

    const STEP_1: (&str, &str) =
        ("implementation/step1.md", "{{#include ../../../step01-echo/src/main.rs:all}}");
    const NEW: &str = "{{#include ../../../step02-multiuser/src/main.rs:new}}";

    #[test]
    fn old_lines_count_where_they_were_shown_and_new_ones_in_their_chapter() {
        let none: [&str; 0] = [];
        assert_eq!(problems_of(&[STEP_1, ("implementation/step2-hub.md", NEW)]), none);
        assert_eq!(problems_of(&[STEP_1, ("deep/hub.md", NEW)]), none);
    }

    #[test]
    fn a_line_that_is_shown_nowhere_is_found() {
        assert_eq!(problems_of(&[STEP_1]), ["step02-multiuser/src/main.rs:3-3"]);
        assert_eq!(
            problems_of(&[("implementation/step2.md", NEW)]),
            ["step01-echo/src/main.rs:2-4"],
            "told once, for the milestone it is missing from first"
        );
    }

    #[test]
    fn a_new_line_in_the_wrong_chapter_does_not_count() {
        let elsewhere = ("implementation/client.md", NEW);
        assert_eq!(problems_of(&[STEP_1, elsewhere]), ["step02-multiuser/src/main.rs:3-3"]);
    }
}
