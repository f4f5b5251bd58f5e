//! Every page is in the summary: mdBook leaves out the others without a word.

use std::fs;
use std::path::Path;

use super::Problem;
use super::page::Page;

/// The gate.
pub fn check(workspace: &Path, pages: &[Page]) -> Vec<Problem> {
    let summary =
        fs::read_to_string(workspace.join("book/chapters/SUMMARY.md")).unwrap_or_default();
    let is_missing = |page: &&Page| !summary.contains(&format!("]({})", page.path));
    let problem = |page: &Page| Problem::new(&page.path, "it is not in SUMMARY.md");
    pages.iter().filter(is_missing).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Workspace;
    use super::super::page;
    use super::*;

    #[test]
    fn a_page_that_is_not_in_the_summary_is_found() {
        let workspace = Workspace::new(&[
            ("book/chapters/SUMMARY.md", "- [A](a.md)\n"),
            ("book/chapters/a.md", "# A"),
            ("book/chapters/b.md", "# B"),
        ]);
        let problems = check(&workspace.0, &page::all(&workspace.0).unwrap());
        assert_eq!(problems, [Problem::new("b.md", "it is not in SUMMARY.md")]);
    }
}
