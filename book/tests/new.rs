//! What `cargo learn new` makes compiles, whichever milestone it begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use learn::new;
use tests::program::{own_target_dir, workspace};

/// A copy of the workspace with nothing in it but the milestones' code, and the learner's crate as its
/// only member.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("learn-new-{}", std::process::id()));
        let copy = Self(folder);
        fs::create_dir_all(&copy.0)?;
        for milestone in learn::milestone::existing(workspace()) {
            copy_folder(&milestone.folder(workspace()), &milestone.folder(&copy.0))?;
        }
        let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
        fs::write(copy.0.join("Cargo.toml"), with_one_member(&manifest))?;
        fs::copy(workspace().join("Cargo.lock"), copy.0.join("Cargo.lock"))?;
        Ok(copy)
    }

    fn expect_build(&self, from: Option<u8>) -> Result<()> {
        new::run(&self.0, from)?;
        let target = own_target_dir().context("where was this test built?")?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["clippy", "--offline", "--quiet", "--package", new::NAME]).current_dir(&self.0);
        cargo.arg("--target-dir").arg(target).args(["--", "-D", "warnings"]);
        let output = cargo.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "--from {from:?}\n{said}");
        Ok(())
    }
}

/// The milestones are there to be copied from, not to be built.
fn with_one_member(manifest: &str) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some(("members", _)) => "members = [\"my-chat\"]\n".to_owned(),
        Some(("exclude", _)) => "exclude = [\"put-aside\", \"step*\"]\n".to_owned(),
        _ => format!("{line}\n"),
    };
    manifest.lines().map(line).collect()
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[test]
fn a_new_crate_compiles_and_old_work_is_put_aside() {
    let copy = Copy::new().unwrap();
    copy.expect_build(None).unwrap();
    fs::write(copy.0.join("my-chat/notes.txt"), "mine").unwrap();

    for milestone in learn::milestone::existing(workspace()) {
        copy.expect_build(Some(milestone.number)).unwrap();
    }

    let aside = fs::read_dir(copy.0.join("put-aside")).unwrap();
    let kept =
        aside.filter(|entry| entry.as_ref().unwrap().path().join("notes.txt").exists()).count();
    assert_eq!(kept, 1);
}

#[test]
fn a_milestone_that_does_not_exist_changes_nothing() {
    let folder = std::env::temp_dir().join(format!("learn-none-{}", std::process::id()));
    fs::create_dir_all(folder.join("my-chat")).unwrap();
    assert!(new::run(&folder, Some(9)).is_err());
    assert!(folder.join("my-chat").exists());
    fs::remove_dir_all(folder).unwrap();
}
