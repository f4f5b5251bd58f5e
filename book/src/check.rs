//! `cargo learn check`: plays a milestone's checks against the learner's own server, or any other.

use std::process::{ExitCode, Stdio};

use ::tests::program::{Program, cargo_build, executable, own_target_dir, workspace};
use ::tests::scenario::{Mismatch, Outcome, Scenario, Target, of_milestone};
use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::new::{NAME, folder};
use crate::paint::Paint;
use crate::progress::Progress;

/// Where the book is while `cargo learn` runs.
const BOOK: &str = "http://127.0.0.1:3000";

/// What is said where there is nothing left to check.
const ALL_PASSED: &str =
    "All milestones have passed. To check one again, name it: cargo learn check 5";

/// How many checks run at the same time.
const AT_ONCE: usize = 12;

/// How many checks came out how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    left_out: usize,
}

/// Checks a milestone: the one asked for, or the first that has not passed yet.
///
/// # Errors
/// There is nothing to check: no such milestone, no `my-chat`, or one that does not compile.
pub async fn run(milestone: Option<u8>, url: Option<String>) -> Result<ExitCode> {
    let mut progress = Progress::read(workspace());
    let Some(milestone) = milestone.or_else(|| progress.next()) else {
        println!("{ALL_PASSED}");
        return Ok(ExitCode::SUCCESS);
    };
    let scenarios = of_milestone(milestone);
    let is_own = url.is_none();
    let target = match url {
        Some(url) => {
            expect_server(&url).await?;
            Target::url(url)
        }
        None => Target::program(build().await?),
    };

    let paint = Paint::for_stdout();
    println!("{}", paint.strong(&title(milestone, &target)));
    if !is_own {
        println!("{}", paint.quiet(left_out(milestone)));
    }
    let tally = play(&scenarios, &target, paint).await;
    println!("\n{}", summary(milestone, tally));
    if tally.failed > 0 {
        return Ok(ExitCode::FAILURE);
    }
    // A server elsewhere may be anybody's.
    if is_own {
        progress.pass(milestone)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sees that somebody listens, so that one sentence says it and not every check.
async fn expect_server(url: &str) -> Result<()> {
    let (_, address) = url.split_once("://").unwrap_or(("", url));
    let address = address.split('/').next().unwrap_or_default();
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let connected = TcpStream::connect(&address).await;
    connected.map(drop).with_context(|| format!("no server answers at {url}: start it first"))
}

/// Builds the learner's crate. What cargo says goes to the terminal as it is.
async fn build() -> Result<Program> {
    if !folder(workspace()).join("Cargo.toml").exists() {
        bail!("There is no {NAME}/ yet. Make it with: cargo learn new");
    }
    let mut arguments = vec!["build".into(), "--package".into(), NAME.into()];
    if let Some(target) = own_target_dir() {
        arguments.extend(["--target-dir".into(), target.into_os_string()]);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut visible = Command::new(cargo);
    visible.args(&arguments).current_dir(workspace()).stdin(Stdio::null()).kill_on_drop(true);
    let status = visible.status().await.context("can't run cargo")?;
    if !status.success() {
        bail!("{NAME} does not compile. Mend what cargo says above, then check again.");
    }
    let mut again = cargo_build(workspace());
    again.args(arguments.iter().skip(1));
    let nothing: [&str; 0] = [];
    Ok(Program::command(executable(again).await?, nothing))
}

fn title(milestone: u8, target: &Target) -> String {
    let whom = target.shared_url().unwrap_or(NAME);
    format!("Milestone {milestone}, checked against {whom}")
}

/// What can't be played at a server that somebody else has started.
fn left_out(milestone: u8) -> &'static str {
    const STARTS: &str =
        "Only its URL is known: checks that have to start the server are left out.";
    const LIMITS: &str = "Only its URL is known: checks that have to start the server, or that send more at once than its\nrate limits may let pass, are left out. Without --url all are played, at my-chat.";
    if milestone >= 5 { LIMITS } else { STARTS }
}

/// Plays all scenarios: most of them at once, because they wait more than they work, and those that would
/// disturb others one by one at the end. They are told in order.
async fn play(scenarios: &[Scenario], target: &Target, paint: Paint) -> Tally {
    let mut tally = Tally::default();
    let (alone, social): (Vec<_>, Vec<_>) = scenarios.iter().partition(|scenario| scenario.alone);
    for (scenarios, at_once) in [(social, AT_ONCE), (alone, 1)] {
        let mut outcomes = stream::iter(scenarios)
            .map(|scenario: &Scenario| async move { (scenario, scenario.run(target).await) })
            .buffered(at_once);
        while let Some((scenario, outcome)) = outcomes.next().await {
            println!("{}", line(scenario, &outcome, paint));
            tally.add(&outcome);
        }
    }
    tally
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Skipped(_) => self.left_out += 1,
        }
    }
}

/// What is said about one check.
fn line(scenario: &Scenario, outcome: &Outcome, paint: Paint) -> String {
    let sentence = scenario.sentence;
    match outcome {
        Outcome::Passed => format!("{} {sentence}", paint.good("✓")),
        Outcome::Skipped(reason) => paint.quiet(&format!("- {sentence}\n    left out: {reason}")),
        Outcome::Failed(Mismatch { expected, came }) => format!(
            "{} {sentence}\n    expected  {}\n    came      {}\n    read      {BOOK}/{}",
            paint.bad("✗"),
            indent(expected),
            indent(came),
            scenario.section,
        ),
    }
}

/// Keeps what has several lines in its column.
fn indent(text: &str) -> String {
    text.trim().replace('\n', "\n              ")
}

fn summary(milestone: u8, tally: Tally) -> String {
    let Tally { passed, failed, left_out } = tally;
    let others = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
    let next = match (failed, left_out) {
        (0, 0) => format!("Milestone {milestone} is done."),
        (0, _) => "All that could be played here hold.".to_owned(),
        (_, _) => "Begin with the first ✗; the others often follow from it.".to_owned(),
    };
    format!("{passed} hold, {failed} do not{others}. {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_says_what_was_expected_what_came_and_where_to_read() {
        let scenario = of_milestone(1).into_iter().next().unwrap();
        let mismatch = Mismatch { expected: "a pong".into(), came: "nothing\nfor 8 s".into() };

        let said = line(&scenario, &Outcome::Failed(mismatch), Paint::for_stdout());

        assert!(said.contains(scenario.sentence));
        assert!(said.contains("expected  a pong"));
        assert!(said.contains("came      nothing\n              for 8 s"));
        assert!(said.contains(&format!("http://127.0.0.1:3000/{}", scenario.section)));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_one_sentence() {
        let port =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = format!("ws://{port}/ws");
        let said = expect_server(&url).await.unwrap_err().to_string();
        assert_eq!(said, format!("no server answers at {url}: start it first"));
    }

    #[test]
    fn the_summary_counts() {
        let tally = Tally { passed: 3, failed: 0, left_out: 2 };
        assert_eq!(
            summary(1, tally),
            "3 hold, 0 do not, 2 left out. All that could be played here hold."
        );
        assert!(
            summary(2, Tally { passed: 3, ..Tally::default() }).contains("Milestone 2 is done.")
        );
    }
}
