//! Milestone 4 under faults: a short version of what `cargo run -p tests --release --bin faults` does.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::chance::Chance;
use tests::faults::{self, Report};
use tests::program::Program;
use tokio::runtime::Runtime;

const SERVER: &str = "step04-resilience";

fn main() -> ExitCode {
    if let Some(code) = faults::again_with_enough_files() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One at a time: they load the machine, and some have a deadline.
    arguments.test_threads = Some(1);
    let second = Duration::from_secs(1);
    let trials = vec![
        trial("nothing_acked_is_lost_when_the_server_is_killed", |program, seed| async move {
            faults::kills(&program, 12, seed).await
        }),
        trial("nothing_acked_is_lost_when_the_wire_breaks", |program, seed| async move {
            faults::wires(&program, 10, seed).await
        }),
        trial("nothing_acked_is_lost_when_the_server_freezes", |program, seed| async move {
            faults::frozen(&program, 2, seed).await
        }),
        trial("nothing_acked_is_lost_when_the_disk_is_full", |program, seed| async move {
            faults::full_disk(&program, seed).await
        })
        .with_ignored_flag(cfg!(not(target_os = "linux"))),
        clock_trial(),
        trial("nothing_acked_is_lost_by_all_faults_at_random", move |program, seed| async move {
            faults::random(&program, 24, 12 * second, seed).await
        }),
        trial("five_hundred_clients_come_back_after_a_restart", |program, seed| async move {
            faults::restart(&program, 500, seed).await
        }),
        trial(
            "four_hundred_clients_that_are_cut_are_back_in_ten_seconds",
            |program, seed| async move { faults::storm(&program, 400, seed).await },
        ),
        trial("a_slow_reader_is_sent_away_and_resumes", |program, seed| async move {
            faults::slow_reader(&program, seed).await
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F>(name: &str, run: impl Fn(Program, u64) -> F + Send + 'static) -> Trial
where
    F: Future<Output = anyhow::Result<Report>>,
{
    Trial::test(format!("{SERVER}::{name}"), move || {
        let seed = Chance::seed();
        let report = Runtime::new()?.block_on(run(Program::cargo_package(SERVER), seed));
        let report = report.map_err(|error| format!("seed {seed}: {error:#}"))?;
        println!("{report}");
        if report.figures.is_right() { Ok(()) } else { Err(Failed::from(report.to_string())) }
    })
}

/// The clock's trial, where it can be played.
fn clock_trial() -> Trial {
    let name = "nothing_acked_is_lost_when_the_clock_jumps";
    if faults::faketime().is_some() {
        return trial(name, |program, seed| async move { faults::clock(&program, seed).await });
    }
    Trial::ignorable_test(format!("{SERVER}::{name}"), || {
        let reason = "needs libfaketime: apt-get install faketime";
        if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            return Err(reason.into());
        }
        Ok(Completion::ignored_with(reason))
    })
}
