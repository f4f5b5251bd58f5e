//! `cargo learn new`: makes the learner's own crate, from nothing or from a milestone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::milestone::Milestone;
use crate::progress::Progress;
use crate::stamp;

/// The name of the learner's crate.
pub const NAME: &str = "my-chat";

/// The file a learner begins with.
const FIRST_MAIN: &str = include_str!("new/main.rs.txt");

/// What is said in the folder.
const README: &str = include_str!("new/README.md");

/// The folder of the learner's crate.
pub fn folder(workspace: &Path) -> PathBuf {
    workspace.join(NAME)
}

/// Makes the crate, and tells what was done and what comes next.
///
/// # Errors
/// There is no such milestone yet, or a file can't be written.
pub fn run(workspace: &Path, from: Option<u8>) -> Result<String> {
    let milestone = source(workspace, from.unwrap_or(1))?;
    let aside = put_aside(workspace)?;
    write(workspace, milestone, from.is_some()).with_context(|| format!("can't make {NAME}/"))?;
    Progress::read(workspace).begin_with(from.unwrap_or(1))?;
    Ok(report(from, aside))
}

/// The milestone whose dependencies, or whose code, the crate gets.
fn source(workspace: &Path, number: u8) -> Result<Milestone> {
    match Milestone::of(number) {
        Some(milestone) if milestone.exists(workspace) => Ok(milestone),
        _ => bail!("milestone {number} does not exist yet; nothing was changed"),
    }
}

/// Moves a crate that is there already out of the way.
fn put_aside(workspace: &Path) -> Result<Option<PathBuf>> {
    let old = folder(workspace);
    if !old.exists() {
        return Ok(None);
    }
    let place = workspace.join("put-aside");
    let moment = format!("{NAME}-{}", stamp::now());
    fs::create_dir_all(&place)?;
    // Two in one second: the second one gets a number.
    let name = (1..100)
        .map(|n| if n == 1 { moment.clone() } else { format!("{moment}-{n}") })
        .find(|name| !place.join(name).exists())
        .context("put-aside/ is full of this second's work")?;
    fs::rename(&old, place.join(&name)).with_context(|| format!("can't put {NAME}/ aside"))?;
    Ok(Some(Path::new("put-aside").join(name)))
}

fn write(workspace: &Path, milestone: Milestone, with_code: bool) -> Result<()> {
    let to = folder(workspace);
    let from = milestone.folder(workspace);
    fs::create_dir_all(to.join("src"))?;
    fs::write(to.join("Cargo.toml"), manifest(&fs::read_to_string(from.join("Cargo.toml"))?))?;
    fs::write(to.join("README.md"), README)?;
    if with_code {
        copy(&from.join("src"), &to.join("src"), milestone)
    } else {
        Ok(fs::write(to.join("src/main.rs"), FIRST_MAIN)?)
    }
}

/// A milestone's manifest with the learner's name on it.
fn manifest(text: &str) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some(("name", _)) => format!("name = \"{NAME}\"\n"),
        Some(("description", _)) => "description = \"My own chat.\"\n".to_owned(),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Copies a milestone's code.
fn copy(from: &Path, to: &Path, milestone: Milestone) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy(&path, &to.join(name), milestone)?;
        } else {
            fs::write(to.join(name), code(&fs::read_to_string(&path)?, milestone))?;
        }
    }
    Ok(())
}

/// A file without the marks that only the book needs, and with the learner's crate for the milestone's.
fn code(text: &str, milestone: Milestone) -> String {
    let own = NAME.replace('-', "_");
    let lines = text.lines().filter(|line| !is_mark(line));
    let lines = lines.map(|line| line.replace(&milestone.crate_name(), &own) + "\n");
    lines.collect::<String>().replace(milestone.package, NAME)
}

/// Whether a line only tells the book where a listing begins or ends.
pub fn is_mark(line: &str) -> bool {
    line.contains("ANCHOR: ") || line.contains("ANCHOR_END: ")
}

fn report(from: Option<u8>, aside: Option<PathBuf>) -> String {
    let aside = aside.map(|path| format!("What was in {NAME}/ is now in {}/.\n", path.display()));
    let (what, check) = match from {
        None => ("It listens, and does nothing else yet.".to_owned(), 1),
        Some(number) => (format!("It begins with the code of milestone {number}."), number),
    };
    format!(
        "{}Made {NAME}/. {what}\n\n  PORT=4001 cargo run -p {NAME}   runs it\n  cargo learn check {check}              shows what holds already, and what does not yet",
        aside.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_changes_its_name_and_nothing_else() {
        let milestone = "[package]\nname = \"step01-echo\"\ndescription = \"Milestone 1.\"\n\n[dependencies]\ntokio = { workspace = true }\n";
        let own = "[package]\nname = \"my-chat\"\ndescription = \"My own chat.\"\n\n[dependencies]\ntokio = { workspace = true }\n";
        assert_eq!(manifest(milestone), own);
    }

    #[test]
    fn code_loses_its_marks_and_names_the_learners_crate() {
        let text =
            "use step01_echo::serve;\n// ANCHOR: run\nserve(3001);\n    // ANCHOR_END: run\n";
        let milestone = Milestone::of(1).unwrap();
        assert_eq!(code(text, milestone), "use my_chat::serve;\nserve(3001);\n");
    }
}
