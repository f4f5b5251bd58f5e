//! What `cargo learn new` makes compiles, whichever milestone it begins with, and keeps the milestone's
//! promises.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use learn::milestone::{self, Milestone};
use learn::new;
use tests::program::{Program, cargo_build, executable, own_target_dir, workspace};
use tests::raw;
use tests::scenario::{Outcome, Target, of_milestone};

/// A copy of the workspace with nothing in it but the milestones' code, and the learner's crate as its
/// only member.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("learn-{name}-{}", std::process::id()));
        let copy = Self(folder);
        fs::create_dir_all(&copy.0)?;
        for milestone in milestone::existing(workspace()) {
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
        self.expect_no_marks()
    }

    /// What is only for the book must not be handed out.
    fn expect_no_marks(&self) -> Result<()> {
        let mut folders = vec![self.0.join(new::NAME).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path)?;
                ensure!(!text.contains("ANCHOR"), "{}", path.display());
            }
        }
        Ok(())
    }

    /// Builds the learner's program, with the milestone's browser client beside it.
    async fn program(&self, milestone: Milestone) -> Result<Program> {
        let web = milestone.web();
        copy_folder(&workspace().join(&web), &self.0.join(&web))?;
        let mut cargo = cargo_build(&self.0);
        cargo.args(["--offline", "--package", new::NAME, "--target-dir"]);
        cargo.arg(own_target_dir().context("where was this test built?")?);
        Ok(Program::command(executable(cargo).await?, [""; 0]))
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
    let copy = Copy::new("new").unwrap();
    copy.expect_build(None).unwrap();
    fs::write(copy.0.join("my-chat/notes.txt"), "mine").unwrap();

    for milestone in milestone::existing(workspace()) {
        copy.expect_build(Some(milestone.number)).unwrap();
    }

    let aside = fs::read_dir(copy.0.join("put-aside")).unwrap();
    let kept =
        aside.filter(|entry| entry.as_ref().unwrap().path().join("notes.txt").exists()).count();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn the_last_milestone_handed_out_serves_its_page_and_lets_people_in() {
    let last = milestone::existing(workspace()).pop().unwrap();
    let copy = Copy::new("last").unwrap();
    new::run(&copy.0, Some(last.number)).unwrap();
    let program = copy.program(last).await.unwrap();

    let server = program.start().await.unwrap();
    let page = raw::request(server.address(), "GET", "/", &[]).await.unwrap();
    assert_eq!(page.status, 200);
    assert!(page.body.contains("main.js"), "{}", page.body);

    let target = Target::program(program);
    for scenario in of_milestone(last.number).iter().take(3) {
        assert_eq!(scenario.run(&target).await, Outcome::Passed, "{scenario:?}");
    }
}

#[test]
fn a_milestone_that_does_not_exist_changes_nothing() {
    let folder = std::env::temp_dir().join(format!("learn-none-{}", std::process::id()));
    fs::create_dir_all(folder.join("my-chat")).unwrap();
    assert!(new::run(&folder, Some(9)).is_err());
    assert!(folder.join("my-chat").exists());
    fs::remove_dir_all(folder).unwrap();
}
