//! Reads the chapters as far as the gates need it: fences, the labels above them, includes, and prose.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::new::is_mark;

/// One page of the book, as it is written.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path below `book/chapters`, such as `deep/frames.md`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A line of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// 1 for the first.
    pub number: usize,
    /// Its text, without the `>` of a box around it.
    pub text: &'a str,
}

/// A block between fences: a listing, a command, an output.
#[derive(Debug, Clone)]
pub struct Fence<'a> {
    /// The line of the opening fence.
    pub line: usize,
    /// What stands behind the opening fence, such as `rust,ignore`.
    pub info: &'a str,
    /// What is between the fences.
    pub body: Vec<Line<'a>>,
    /// The file named by the label above it.
    pub label: Option<&'a str>,
}

/// A part of a page.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    /// A line of text.
    Prose(Line<'a>),
    /// A block between fences.
    Fence(Fence<'a>),
}

/// One `{{#include …}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// The line it is on.
    pub line: usize,
    /// The path as it is written, relative to the page.
    pub path: String,
    /// The region, if it is not the whole file.
    pub anchor: Option<String>,
}

/// All pages below `book/chapters`, sorted by path, without `SUMMARY.md`.
///
/// # Errors
/// A page can't be read.
pub fn all(workspace: &Path) -> Result<Vec<Page>> {
    let root = workspace.join("book/chapters");
    let mut pages = Vec::new();
    for file in files(&root)? {
        let path = relative(&file, &root);
        if path.ends_with(".md") && path != "SUMMARY.md" {
            let text = fs::read_to_string(&file).with_context(|| path.clone())?;
            pages.push(Page { path, text });
        }
    }
    Ok(pages)
}

/// All files below a folder, sorted.
///
/// # Errors
/// A folder can't be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// A path below a folder, with `/` on every system.
pub fn relative(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

impl Page {
    /// Whether it says that it is yet to be written.
    pub fn is_outline(&self) -> bool {
        self.text.contains("**Status:**")
    }

    /// The page in parts.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let mut open: Option<(Fence<'_>, &str)> = None;
        let mut label = None;
        for line in lines(&self.text) {
            match open.take() {
                Some((fence, mark)) if closes(line.text, mark) => parts.push(Part::Fence(fence)),
                Some((mut fence, mark)) => {
                    fence.body.push(line);
                    open = Some((fence, mark));
                }
                None => match opening(line.text) {
                    Some((mark, info)) => {
                        let label = label.take();
                        open = Some((
                            Fence { line: line.number, info, body: Vec::new(), label },
                            mark,
                        ));
                    }
                    None => {
                        if !line.text.trim().is_empty() {
                            label = label_of(line.text);
                        }
                        parts.push(Part::Prose(line));
                    }
                },
            }
        }
        parts.extend(open.map(|(fence, _)| Part::Fence(fence)));
        parts
    }

    /// Its fences.
    pub fn fences(&self) -> Vec<Fence<'_>> {
        let fence = |part| if let Part::Fence(fence) = part { Some(fence) } else { None };
        self.parts().into_iter().filter_map(fence).collect()
    }

    /// Its includes, in fences and in the text.
    pub fn includes(&self) -> Vec<Include> {
        lines(&self.text).filter_map(include).collect()
    }

    /// Its lines with another directive of mdBook than `include`.
    pub fn other_directives(&self) -> Vec<Line<'_>> {
        let is_other = |line: &Line<'_>| line.text.contains("{{#") && include(*line).is_none();
        lines(&self.text).filter(is_other).collect()
    }

    /// Where an include leads: a path below the workspace.
    pub fn resolve(&self, include: &Include) -> String {
        let page = Path::new("book/chapters").join(&self.path);
        let mut path = PathBuf::new();
        for part in page.with_file_name("").join(&include.path).components() {
            match part {
                Component::ParentDir => drop(path.pop()),
                part => path.push(part),
            }
        }
        relative(&path, Path::new(""))
    }
}

/// The lines of a region of a file, as mdBook shows them, with their numbers in the file.
///
/// # Errors
/// There is no such region, it has no end, it is empty, or the marks of others would be shown.
pub fn region<'a>(text: &'a str, anchor: Option<&str>) -> Result<Vec<Line<'a>>> {
    let all: Vec<Line<'_>> = numbered(text).collect();
    let Some(name) = anchor else {
        if all.iter().any(|line| is_mark(line.text)) {
            bail!(
                "a file with marks can't be included whole, they would be shown: give it an ANCHOR around all, and include that"
            );
        }
        return Ok(all);
    };
    let start = all.iter().position(|line| is_named(line.text, "ANCHOR: ", name));
    let end = all.iter().position(|line| is_named(line.text, "ANCHOR_END: ", name));
    let (Some(start), Some(end)) = (start, end) else {
        bail!("no region \"{name}\": it needs both ANCHOR: {name} and ANCHOR_END: {name}");
    };
    let inside = all.get(start + 1..end).unwrap_or_default();
    let shown: Vec<Line<'_>> = inside.iter().copied().filter(|line| !is_mark(line.text)).collect();
    if shown.iter().all(|line| line.text.trim().is_empty()) {
        bail!("the region \"{name}\" is empty");
    }
    Ok(shown)
}

fn is_named(line: &str, mark: &str, name: &str) -> bool {
    line.split_once(mark).is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(name))
}

/// The lines of a text, without the `>` of a box around them.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    numbered(text).map(|line| Line { text: unbox(line.text), ..line })
}

fn numbered(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().map(|(index, text)| Line { number: index + 1, text })
}

fn unbox(line: &str) -> &str {
    match line.strip_prefix('>') {
        Some(rest) => unbox(rest.strip_prefix(' ').unwrap_or(rest)),
        None => line,
    }
}

/// The fence that a line opens, and its info string.
fn opening(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let mark = ['`', '~'].into_iter().find(|mark| line.starts_with(&mark.to_string().repeat(3)))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    let (mark, info) = line.split_at(length);
    (!info.contains('`')).then_some((mark, info.trim()))
}

fn closes(line: &str, mark: &str) -> bool {
    let line = line.trim();
    line.starts_with(mark) && line.trim_start_matches(mark.chars().next().unwrap_or('`')).is_empty()
}

fn label_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix("<p class=\"file\">")?.strip_suffix("</p>")
}

fn include(line: Line<'_>) -> Option<Include> {
    let (_, rest) = line.text.split_once("{{#include ")?;
    let (what, _) = rest.split_once("}}")?;
    let (path, anchor) = match what.trim().split_once(':') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (what.trim(), None),
    };
    Some(Include { line: line.number, path: path.to_owned(), anchor })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n<p class=\"file\">a/src/b.rs</p>\n\n```rust,ignore\n{{#include ../../a/src/b.rs:run}}\n```\n\n> **Break it**\n>\n> ```sh\n> cargo run\n> ```\n\nEnd.\n";

    #[test]
    fn fences_know_their_info_their_label_and_their_body() {
        let page = Page { path: "x/y.md".into(), text: TEXT.into() };
        let fences = page.fences();
        assert_eq!(fences.len(), 2);
        assert_eq!(
            (fences[0].line, fences[0].info, fences[0].label),
            (5, "rust,ignore", Some("a/src/b.rs"))
        );
        assert_eq!((fences[1].info, fences[1].label), ("sh", None));
        assert_eq!(fences[1].body, [Line { number: 12, text: "cargo run" }]);
    }

    #[test]
    fn an_include_leads_to_a_file_of_the_workspace() {
        let page = Page { path: "x/y.md".into(), text: "{{#include ../../../a/b.rs:run}}".into() };
        let includes = page.includes();
        assert_eq!(includes[0].anchor.as_deref(), Some("run"));
        assert_eq!(page.resolve(&includes[0]), "a/b.rs");
    }

    #[test]
    fn a_region_is_what_mdbook_shows() {
        let text =
            "a\n// ANCHOR: run\nb\n// ANCHOR: inner\nc\n// ANCHOR_END: inner\n// ANCHOR_END: run\n";
        let shown: Vec<_> =
            region(text, Some("run")).unwrap().into_iter().map(|line| line.number).collect();
        assert_eq!(shown, [3, 5]);
        assert!(region(text, Some("away")).is_err());
        assert!(region(text, None).is_err(), "its marks would be shown");
        assert!(region("// ANCHOR: x\n// ANCHOR_END: x\n", Some("x")).is_err(), "empty");
        assert!(region("// ANCHOR: x\nb\n", Some("x")).is_err(), "without an end");
    }
}
