//! Which lines of a milestone are new since the one before.
//!
//! The book's coverage gate asks for them, and the listings mark them: by `book/theme/changes.js`,
//! which is generated here and checked to be current.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::gates::page::{files, region, relative};
use crate::milestone::{self, Milestone};
use crate::new::is_mark;

/// A line of a file, by its number; 1 for the first.
pub type Number = usize;

/// For each line that was there before: its number now, and its number then.
pub type Kept = BTreeMap<Number, Number>;

/// What is known about a file of a milestone.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Change {
    /// A word about the whole file, if that says all.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
    /// The regions that have new lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    regions: Vec<Region>,
}

/// A part of a file that a page may show.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Region {
    /// Its first line, by which a listing is recognized…
    first: String,
    /// …together with how many there are.
    lines: usize,
    /// The new ones, from and to, counted from 0.
    marks: Vec<(usize, usize)>,
}

/// Which lines of a file were there before. Lines that only mark a region count for nothing, and the
/// milestones' own names count as equal.
pub fn kept(old: &str, new: &str) -> Kept {
    let (old, new) = (comparable(old), comparable(new));
    let texts = |lines: &[(Number, String)]| -> Vec<String> {
        lines.iter().map(|(_, text)| text.clone()).collect()
    };
    let mut kept = Kept::new();
    for operation in capture_diff_slices(Algorithm::Patience, &texts(&old), &texts(&new)) {
        if let DiffOp::Equal { old_index, new_index, len } = operation {
            let then = old.iter().skip(old_index);
            let pairs = new.iter().skip(new_index).zip(then).take(len);
            kept.extend(pairs.map(|((now, _), (then, _))| (*now, *then)));
        }
    }
    kept
}

fn comparable(text: &str) -> Vec<(Number, String)> {
    let without_name = |line: &str| {
        milestone::ALL.iter().fold(line.to_owned(), |line, milestone| {
            line.replace(&milestone.crate_name(), "milestone")
        })
    };
    let numbered = text.lines().enumerate().filter(|(_, line)| !is_mark(line));
    numbered.map(|(index, line)| (index + 1, without_name(line))).collect()
}

/// The file of the milestone before that a file grew from, if there is one.
pub fn ancestor(milestone: Milestone, path: &str) -> Option<String> {
    let previous = milestone.previous()?;
    let places = [
        (milestone.package.to_owned(), previous.package.to_owned()),
        (milestone.web(), previous.web()),
    ];
    places.into_iter().find_map(|(now, then)| {
        let rest = path.strip_prefix(&now)?.strip_prefix('/')?;
        Some(format!("{then}/{rest}"))
    })
}

/// The files of a milestone that the book shows: its code, and its browser client's.
///
/// # Errors
/// A folder can't be read.
pub fn shown_files(workspace: &Path, milestone: Milestone) -> Result<Vec<String>> {
    let mut found = files(&milestone.folder(workspace).join("src"))?;
    let web = workspace.join(milestone.web());
    if web.is_dir() {
        found.extend(files(&web)?);
    }
    let is_text = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| ["rs", "js", "html", "css", "sql"].contains(&extension))
    };
    Ok(found.into_iter().filter(is_text).map(|path| relative(&path, workspace)).collect())
}

/// The text that `book/theme/changes.js` should have.
///
/// # Errors
/// A file can't be read, or two regions can't be told apart.
pub fn script(workspace: &Path) -> Result<String> {
    let mut script = "// Which lines of the milestones are new. Generated: `cargo learn mend` writes it anew.\nconst CHANGES = {\n".to_owned();
    for milestone in milestone::existing(workspace) {
        for path in shown_files(workspace, milestone)? {
            if let Some(change) = change(workspace, milestone, &path)? {
                let json = serde_json::to_string(&change)?;
                script.push_str(&format!("  \"{path}\": {json},\n"));
            }
        }
    }
    script.push_str("};\n");
    Ok(script)
}

/// Writes `book/theme/changes.js`, and says what it did.
///
/// # Errors
/// See [`script`]; or the file can't be written.
pub fn rewrite(workspace: &Path) -> Result<String> {
    let file = file(workspace);
    let new = script(workspace)?;
    if fs::read_to_string(&file).is_ok_and(|old| old == new) {
        return Ok("book/theme/changes.js is current.".to_owned());
    }
    fs::write(&file, new).with_context(|| format!("can't write {}", file.display()))?;
    Ok("book/theme/changes.js was written anew.".to_owned())
}

/// Where the generated script is.
pub fn file(workspace: &Path) -> PathBuf {
    workspace.join("book/theme/changes.js")
}

fn change(workspace: &Path, milestone: Milestone, path: &str) -> Result<Option<Change>> {
    let Some(ancestor) = ancestor(milestone, path) else { return Ok(None) };
    let Some(previous) = milestone.previous() else { return Ok(None) };
    let new = fs::read_to_string(workspace.join(path)).with_context(|| path.to_owned())?;
    let Ok(old) = fs::read_to_string(workspace.join(ancestor)) else {
        return Ok(Some(whole("new in this milestone".to_owned())));
    };
    if old == new {
        return Ok(Some(whole(format!("as in milestone {}", previous.number))));
    }
    let regions = regions(&new, &kept(&old, &new)).with_context(|| path.to_owned())?;
    Ok(if regions.is_empty() { None } else { Some(Change { whole: None, regions }) })
}

fn whole(words: String) -> Change {
    Change { whole: Some(words), regions: Vec::new() }
}

/// The regions of a file that have new lines.
fn regions(text: &str, kept: &Kept) -> Result<Vec<Region>> {
    let names = text.lines().filter_map(|line| line.split_once("ANCHOR: "));
    let mut anchors: Vec<Option<&str>> = names.map(|(_, name)| Some(name.trim())).collect();
    if anchors.is_empty() {
        anchors.push(None);
    }
    let mut regions: Vec<Region> = Vec::new();
    for anchor in anchors {
        let lines = region(text, name(anchor))?;
        let is_new: Vec<bool> = lines
            .iter()
            .map(|line| !kept.contains_key(&line.number) && !line.text.trim().is_empty())
            .collect();
        let first = lines.first().map(|line| line.text.trim()).unwrap_or_default().to_owned();
        let region = Region { first, lines: lines.len(), marks: runs(&is_new) };
        match regions
            .iter()
            .find(|other| other.first == region.first && other.lines == region.lines)
        {
            Some(other) if other.marks == region.marks => {}
            Some(_) => {
                bail!("two regions of {} lines begin with \"{}\"", region.lines, region.first)
            }
            None => regions.push(region),
        }
    }
    regions.retain(|region| !region.marks.is_empty());
    Ok(regions)
}

/// An anchor's name, without the end of the comment it stands in.
fn name(anchor: Option<&str>) -> Option<&str> {
    anchor.and_then(|anchor| anchor.split_whitespace().next())
}

/// Where the runs of `true` begin and end.
fn runs(is_new: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in is_new.iter().enumerate().filter(|(_, is_new)| **is_new) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::made_up::Workspace;

    #[test]
    fn a_line_is_kept_if_it_was_there_before() {
        let old = "use step01_echo::serve;\nfn main() {\n    serve();\n}\n";
        let new = "use step02_multiuser::serve;\n// ANCHOR: main\nfn main() {\n    log();\n    serve();\n}\n// ANCHOR_END: main\n";
        let kept = kept(old, new);
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [(1, 1), (3, 2), (5, 3), (6, 4)]);
    }

    #[test]
    fn regions_mark_runs_of_new_lines() {
        let old = "fn a() {}\nfn b() {}\n";
        let new = "// ANCHOR: a\nfn a() {}\nfn x() {}\nfn y() {}\n// ANCHOR_END: a\nfn b() {}\n";
        let regions = regions(new, &kept(old, new)).unwrap();
        assert_eq!(regions, [Region { first: "fn a() {}".into(), lines: 3, marks: vec![(1, 2)] }]);
    }

    #[test]
    fn the_script_tells_new_files_from_grown_ones() {
        let workspace = Workspace::new(&[
            ("step01-echo/src/main.rs", "fn main() {}\n"),
            ("step01-echo/src/same.rs", "fn same() {}\n"),
            ("step02-multiuser/src/main.rs", "fn main() {}\nfn more() {}\n"),
            ("step02-multiuser/src/same.rs", "fn same() {}\n"),
            ("step02-multiuser/src/hub.rs", "fn hub() {}\n"),
        ]);
        let script = script(&workspace.0).unwrap();
        assert!(!script.contains("step01-echo"));
        assert!(
            script.contains(r#""step02-multiuser/src/hub.rs": {"whole":"new in this milestone"}"#)
        );
        assert!(
            script.contains(r#""step02-multiuser/src/same.rs": {"whole":"as in milestone 1"}"#)
        );
        assert!(
            script.contains(r#"{"first":"fn main() {}","lines":2,"marks":[[1,1]]}"#),
            "{script}"
        );
    }

    #[test]
    fn a_stale_script_is_written_anew_once() {
        let workspace = Workspace::new(&[
            ("step01-echo/src/main.rs", "fn main() {}\n"),
            ("book/theme/changes.js", "stale"),
        ]);
        assert!(rewrite(&workspace.0).unwrap().contains("written anew"));
        assert!(rewrite(&workspace.0).unwrap().contains("is current"));
    }
}
