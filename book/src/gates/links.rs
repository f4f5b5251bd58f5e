//! Every link, fragment and image of the finished book leads somewhere. mdBook does not look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::Problem;
use super::page::{files, relative};
use super::tags::{Tag, tags};

/// The attributes that lead to something.
const LEADING: [&str; 3] = ["href", "src", "data"];

/// What is known about one page.
#[derive(Debug, Default)]
struct Page {
    ids: BTreeSet<String>,
    links: BTreeSet<String>,
    /// The folder its links start from.
    base: PathBuf,
}

/// The gate, for the folder that mdBook wrote.
///
/// # Errors
/// A page can't be read.
pub fn check(html: &Path) -> Result<Vec<Problem>> {
    let pages = read_all(html)?;
    let mut problems = Vec::new();
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| !leads_out(link)) {
            if let Err(what) = follow(html, &pages, path, page, link) {
                problems.push(Problem::new(path, format!("{link}: {what}")));
            }
        }
    }
    Ok(problems)
}

fn read_all(html: &Path) -> Result<BTreeMap<String, Page>> {
    let mut pages = BTreeMap::new();
    for file in files(html)?.iter().filter(|file| file.extension().is_some_and(|end| end == "html"))
    {
        let path = relative(file, html);
        let page = read(&fs::read_to_string(file)?, &path);
        pages.insert(path, page);
    }
    Ok(pages)
}

fn read(html: &str, path: &str) -> Page {
    let mut page = Page { base: Path::new(path).with_file_name(""), ..Page::default() };
    for tag in tags(html) {
        match tag.name {
            "base" if tag.get("href").as_deref() == Some("/") => page.base = PathBuf::new(),
            "base" => {}
            _ => page.links.extend(links(&tag)),
        }
        page.ids.extend(tag.get("id"));
        if tag.name == "a" {
            page.ids.extend(tag.get("name"));
        }
    }
    page
}

fn links(tag: &Tag<'_>) -> Vec<String> {
    LEADING.iter().filter_map(|attribute| tag.get(attribute)).collect()
}

/// Whether a link leads out of the book.
fn leads_out(link: &str) -> bool {
    const SCHEMES: [&str; 6] = ["http:", "https:", "ws:", "wss:", "mailto:", "data:"];
    SCHEMES.iter().any(|scheme| link.starts_with(scheme)) || link.starts_with("//")
}

fn follow(
    html: &Path,
    pages: &BTreeMap<String, Page>,
    path: &str,
    page: &Page,
    link: &str,
) -> Result<(), String> {
    let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = target.split('?').next().unwrap_or_default();
    let file = if target.is_empty() { Some(path.to_owned()) } else { resolve(&page.base, target) };
    let file = file.ok_or("it leads out of the book")?;
    let file = if html.join(&file).is_dir() { format!("{file}/index.html") } else { file };
    let file = file.trim_start_matches('/');
    if !html.join(file).is_file() {
        return Err("there is no such file".into());
    }
    match pages.get(file) {
        Some(page) if !fragment.is_empty() && !page.ids.contains(&decode(fragment)) => {
            Err(format!("nothing in {file} has this id"))
        }
        _ => Ok(()),
    }
}

/// The path below the book's folder, if it stays there.
fn resolve(base: &Path, target: &str) -> Option<String> {
    let target = decode(target);
    let mut path = if target.starts_with('/') { PathBuf::new() } else { base.to_owned() };
    for part in Path::new(&target).components() {
        match part {
            Component::ParentDir if !path.pop() => return None,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(relative(&path, Path::new("")))
}

/// Resolves `%20` and the like.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Workspace;
    use super::*;

    fn problems_of(page: &str) -> Vec<Problem> {
        let workspace = Workspace::new(&[
            ("deep/page.html", page),
            ("index.html", "<h2 id=\"top\"></h2>"),
            ("images/a b.png", ""),
        ]);
        check(&workspace.0).unwrap()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let page = "<h1 id=here></h1><a href='#here'></a><a href='../index.html#top'></a><a href='../'></a><img src='../images/a%20b.png'><a href='https://example.com/x'></a>";
        assert_eq!(problems_of(page), []);
    }

    #[test]
    fn links_that_lead_nowhere_do_not() {
        for wrong in [
            "<a href='gone.html'></a>",
            "<a href='#gone'></a>",
            "<a href='../index.html#gone'></a>",
            "<img src='../images/gone.png'>",
            "<a href='../../outside.html'></a>",
            "<a href='/clients/step01/'></a>",
        ] {
            assert_eq!(problems_of(wrong).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_page_with_a_base_is_read_from_there() {
        assert_eq!(problems_of("<base href='/'><a href='index.html'></a>"), []);
    }
}
