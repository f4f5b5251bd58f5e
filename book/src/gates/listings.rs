//! Code in the book comes from the milestones: nobody types Rust into a page, and each listing stands
//! under the name of its file.

use super::Problem;
use super::page::{Fence, Page};

/// The gate.
pub fn check(pages: &[Page]) -> Vec<Problem> {
    let of_page = |page: &Page| {
        let of_fence = |fence: &Fence<'_>| {
            let place = format!("{}:{}", page.path, fence.line);
            look(page, fence).err().map(|what| Problem::new(place, what))
        };
        page.fences().iter().filter_map(of_fence).collect::<Vec<_>>()
    };
    pages.iter().flat_map(of_page).collect()
}

fn look(page: &Page, fence: &Fence<'_>) -> Result<(), String> {
    let language = fence.info.split([',', ' ']).next().unwrap_or_default();
    if language.is_empty() {
        return Err("a fence without a language: text for output, sh for commands".into());
    }
    let text: Vec<&str> = fence.body.iter().map(|line| line.text).collect();
    let inside = Page { path: page.path.clone(), text: text.join("\n") };
    let includes = inside.includes();
    let is_rust = ["rust", "rs"].contains(&language.to_lowercase().as_str());
    match (includes.as_slice(), text.len()) {
        ([], _) if is_rust => Err("Rust typed by hand: include it from a milestone".into()),
        ([], _) => Ok(()),
        ([include], 1) => expect_label(fence, &page.resolve(include)),
        _ => Err("a listing is one include and nothing else".into()),
    }
}

fn expect_label(fence: &Fence<'_>, path: &str) -> Result<(), String> {
    match fence.label {
        Some(label) if label == path => Ok(()),
        Some(label) => Err(format!("the label says {label}, the listing is from {path}")),
        None => Err(format!("a listing needs its file above it: <p class=\"file\">{path}</p>")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> usize {
        check(&[Page { path: "x.md".into(), text: text.into() }]).len()
    }

    #[test]
    fn an_included_listing_under_its_file_passes() {
        let label = "<p class=\"file\">a/src/b.rs</p>";
        let listing = "```rust,ignore\n{{#include ../../a/src/b.rs:run}}\n```";
        assert_eq!(problems_of(&format!("{label}\n\n{listing}\n\n```sh\ncargo run\n```\n")), 0);
    }

    #[test]
    fn everything_else_does_not() {
        for wrong in [
            "```rust\nfn main() {}\n```",
            "```rs\nfn main() {}\n```",
            "```rust,ignore\n{{#include ../../a/src/b.rs:run}}\n```",
            "<p class=\"file\">a/src/c.rs</p>\n\n```rust\n{{#include ../../a/src/b.rs}}\n```",
            "<p class=\"file\">a/b.js</p>\n\n```js\n{{#include ../../a/b.js}}\nmore();\n```",
            "```\nwhat is this?\n```",
            "> ```rust\n> fn main() {}\n> ```",
        ] {
            assert_eq!(problems_of(wrong), 1, "{wrong}");
        }
    }
}
