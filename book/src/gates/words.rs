//! How many words the core path has, and whether they are spread as planned.
//!
//! Foundation : Implementation : Production as 25 : 50 : 25, and within Implementation step 1 : step 2 :
//! the rest as 1 : 4 : 10. A part with pages that are yet to be written is left out of the comparison.

use super::Problem;
use super::page::{Page, Part};

/// How far a share may be from the plan, as a part of the planned share.
const TOLERANCE: f64 = 0.2;

/// A part of the book and its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// What it is called.
    pub name: &'static str,
    /// Its weight in the plan.
    pub weight: f64,
    /// How many words it has.
    pub words: usize,
    /// Whether all of its pages are written.
    pub written: bool,
}

/// The parts of the book.
pub fn parts(pages: &[Page]) -> Vec<Share> {
    let folder = |name: &'static str| move |path: &str| path.starts_with(name);
    vec![
        share("Foundation", 25.0, pages, folder("foundation/")),
        share("Implementation", 50.0, pages, folder("implementation/")),
        share("Production", 25.0, pages, folder("production/")),
    ]
}

/// The parts of the implementation.
pub fn steps(pages: &[Page]) -> Vec<Share> {
    const STEP_1: &str = "implementation/step1";
    const STEP_2: &str = "implementation/step2";
    let rest = |path: &str| {
        path.starts_with("implementation/")
            && !path.starts_with(STEP_1)
            && !path.starts_with(STEP_2)
    };
    vec![
        share("Step 1", 1.0, pages, |path| path.starts_with(STEP_1)),
        share("Step 2", 4.0, pages, |path| path.starts_with(STEP_2)),
        share("The rest of Implementation", 10.0, pages, rest),
    ]
}

fn share(name: &'static str, weight: f64, pages: &[Page], is_in: impl Fn(&str) -> bool) -> Share {
    let pages: Vec<&Page> = pages.iter().filter(|page| is_in(&page.path)).collect();
    let words = pages.iter().map(|page| words(page)).sum();
    Share { name, weight, words, written: !pages.iter().any(|page| page.is_outline()) }
}

/// How many words of prose a page has. Code does not count, tables do.
pub fn words(page: &Page) -> usize {
    let of_part = |part: &Part<'_>| match part {
        Part::Prose(line) => words_of_line(line.text),
        Part::Fence(_) => 0,
    };
    page.parts().iter().map(of_part).sum()
}

/// The words of a line, without its tags, links' addresses and directives.
pub fn words_of_line(line: &str) -> usize {
    let mut text = line.to_owned();
    for (open, close) in [("<!--", "-->"), ("{{", "}}"), ("](", ")"), ("<", ">")] {
        text = without(&text, open, close);
    }
    text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}

fn without(text: &str, open: &str, close: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        left.push_str(before);
        match after.split_once(close) {
            Some((_, after)) => rest = after,
            None => return left,
        }
    }
    left + rest
}

/// The gate: each written part has its share of the words of all written parts.
pub fn check(shares: &[Share]) -> Vec<Problem> {
    let written: Vec<&Share> = shares.iter().filter(|share| share.written).collect();
    if written.len() < 2 {
        return Vec::new();
    }
    let words: usize = written.iter().map(|share| share.words).sum();
    let weights: f64 = written.iter().map(|share| share.weight).sum();
    let mut problems = Vec::new();
    for share in written {
        let planned = words as f64 * share.weight / weights;
        if (share.words as f64 - planned).abs() > planned * TOLERANCE {
            let what = format!("{} words, planned are about {planned:.0}", share.words);
            problems.push(Problem::new(share.name, what));
        }
    }
    problems
}

/// The counts as a table for people.
pub fn table(shares: &[Share]) -> String {
    let line = |share: &Share| {
        let note =
            if share.written { "" } else { "  (not all written yet: left out of the comparison)" };
        format!("  {:<28}{:>6} words{note}\n", share.name, share.words)
    };
    shares.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, words: usize) -> Page {
        Page { path: path.into(), text: "word ".repeat(words) }
    }

    #[test]
    fn words_are_those_that_people_read() {
        let text = "# A title\n\nTwo [words more](https://example.com/x-y) here. <!-- not this -->\n\n| a | b |\n|---|---|\n\n```sh\ncargo run\n```\n\n<p class=\"file\">a.rs</p>\n";
        let page = Page { path: "x.md".into(), text: text.into() };
        assert_eq!(words(&page), 2 + 4 + 2 + 1);
    }

    #[test]
    fn the_planned_shares_pass() {
        let pages = [
            page("foundation/a.md", 300),
            page("implementation/a.md", 560),
            page("production/a.md", 280),
        ];
        assert_eq!(check(&parts(&pages)), []);
    }

    #[test]
    fn other_shares_do_not() {
        let pages = [
            page("foundation/a.md", 900),
            page("implementation/a.md", 600),
            page("production/a.md", 300),
        ];
        let problems = check(&parts(&pages));
        assert_eq!(problems.len(), 3, "{problems:?}");
        let pages = [
            page("implementation/step1.md", 500),
            page("implementation/step2.md", 400),
            page("implementation/setup.md", 1000),
        ];
        assert!(!check(&steps(&pages)).is_empty());
    }

    #[test]
    fn a_part_that_is_not_written_is_left_out() {
        let outline = Page { path: "production/a.md".into(), text: "**Status:** coming".into() };
        let pages = [page("foundation/a.md", 300), page("implementation/a.md", 600), outline];
        assert_eq!(check(&parts(&pages)), []);
        assert!(
            table(&parts(&pages))
                .contains("Production                       2 words  (not all written")
        );
    }
}
