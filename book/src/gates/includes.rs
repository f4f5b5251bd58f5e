//! Every include leads to a file, and to a region in it that is not empty.

use std::fs;
use std::path::Path;

use super::Problem;
use super::page::{Include, Page, region};

/// The gate.
pub fn check(workspace: &Path, pages: &[Page]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for page in pages {
        for include in page.includes() {
            if let Err(what) = look(workspace, page, &include) {
                problems.push(Problem::new(format!("{}:{}", page.path, include.line), what));
            }
        }
        for line in page.other_directives() {
            let place = format!("{}:{}", page.path, line.number);
            problems.push(Problem::new(place, "a directive other than {{#include path:region}}"));
        }
    }
    problems
}

fn look(workspace: &Path, page: &Page, include: &Include) -> Result<(), String> {
    let path = page.resolve(include);
    let text =
        fs::read_to_string(workspace.join(&path)).map_err(|error| format!("{path}: {error}"))?;
    let region =
        region(&text, include.anchor.as_deref()).map_err(|what| format!("{path}: {what}"))?;
    if region.iter().all(|line| line.text.trim().is_empty()) {
        return Err(format!("{path} is empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Workspace;
    use super::super::page;
    use super::*;

    fn problems_of(page: &str) -> Vec<Problem> {
        let marked = "// ANCHOR: run\nfn run() {}\n// ANCHOR_END: run\n";
        let files =
            [("a/src/b.rs", marked), ("a/src/empty.rs", "\n"), ("book/chapters/x.md", page)];
        let workspace = Workspace::new(&files);
        check(&workspace.0, &page::all(&workspace.0).unwrap())
    }

    #[test]
    fn a_right_include_passes() {
        assert_eq!(problems_of("{{#include ../../a/src/b.rs:run}}"), []);
    }

    #[test]
    fn a_wrong_one_does_not() {
        for wrong in [
            "{{#include ../../a/src/c.rs}}",
            "{{#include ../../a/src/b.rs:walk}}",
            "{{#include ../../a/src/b.rs}}",
            "{{#include ../../a/src/empty.rs}}",
            "{{#rustdoc_include ../../a/src/b.rs:run}}",
            "{{#include}}",
        ] {
            assert_eq!(problems_of(wrong).len(), 1, "{wrong}");
        }
    }
}
