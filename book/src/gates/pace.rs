//! Something to run every 150 words: a command, what it prints, a live panel. Reading alone is where
//! people stop. Tables are looked up, not read, and do not count here.

use super::Problem;
use super::page::{Page, Part};
use super::words::words_of_line;

/// How many words may pass: 150 is the aim, and this is where it ends.
const MOST: usize = 200;

/// The parts of the book that are read in order.
const CORE: [&str; 3] = ["foundation/", "implementation/", "production/"];

/// The gate, for the pages of the core path that are written.
pub fn check(pages: &[Page]) -> Vec<Problem> {
    let core = pages.iter().filter(|page| CORE.iter().any(|part| page.path.starts_with(part)));
    core.filter(|page| !page.is_outline()).flat_map(look).collect()
}

fn look(page: &Page) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (mut words, mut since) = (0, 1);
    for part in page.parts() {
        match part {
            Part::Prose(line) if line.text.contains("class=\"live-panel\"") => {
                problems.extend(problem(page, since, words));
                (words, since) = (0, line.number);
            }
            Part::Prose(line) if line.text.trim_start().starts_with('|') => {}
            Part::Prose(line) => words += words_of_line(line.text),
            Part::Fence(fence) if ["sh", "text"].contains(&fence.info) => {
                problems.extend(problem(page, since, words));
                (words, since) = (0, fence.line);
            }
            Part::Fence(_) => {}
        }
    }
    problems.extend(problem(page, since, words));
    problems
}

fn problem(page: &Page, since: usize, words: usize) -> Option<Problem> {
    let what = || {
        format!("{words} words from here on without anything to run (at most {MOST}, better 150)")
    };
    (words > MOST).then(|| Problem::new(format!("{}:{since}", page.path), what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: String) -> Vec<Problem> {
        check(&[Page { path: path.into(), text }])
    }

    #[test]
    fn a_command_a_panel_or_an_output_lets_readers_breathe() {
        for pause in [
            "```sh\ncargo run\n```",
            "```text\nlistening\n```",
            "<div class=\"live-panel\" data-step=\"1\">",
        ] {
            let text = format!("{}\n\n{pause}\n\n{}", "word ".repeat(190), "word ".repeat(190));
            assert_eq!(problems_of("foundation/a.md", text), []);
        }
    }

    #[test]
    fn too_many_words_in_a_row_are_found() {
        let rust = format!(
            "{}\n\n```rust\nfn a() {{}}\n```\n\n{}",
            "word ".repeat(150),
            "word ".repeat(150)
        );
        assert_eq!(problems_of("implementation/a.md", rust).len(), 1);
        assert_eq!(problems_of("deep/a.md", "word ".repeat(500)), [], "a deep dive takes its time");
    }
}
