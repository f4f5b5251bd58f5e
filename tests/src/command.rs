//! What the measuring programs share: they read what is wanted off the command line, do it, and end
//! with an exit code that says whether it went well.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Error, Parser};

use crate::faults;

/// Does what the command line says. The exit code is 0 only if `work` gives `Ok(true)` (always, where
/// there is nothing to judge), or if help was wanted. A wrong command line and an error get one sentence each.
pub async fn run<Wanted: Parser, Work: Future<Output = Result<bool>>>(
    work: impl FnOnce(Wanted) -> Work,
) -> ExitCode {
    match Wanted::try_parse() {
        Ok(wanted) => finish(work(wanted).await),
        Err(error) => explain(&error),
    }
}

/// Like [`run`], for work with so many clients that it needs [more open files](faults::again_with_enough_files).
pub async fn run_with_enough_files<Wanted: Parser, Work: Future<Output = Result<bool>>>(
    work: impl FnOnce(Wanted) -> Work,
) -> ExitCode {
    // A wrong command line needs no second run: `run` explains it.
    if Wanted::try_parse().is_ok()
        && let Some(code) = faults::again_with_enough_files()
    {
        return code;
    }
    run(work).await
}

fn finish(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints help where it was wanted, or else what is wrong. (clap's own exit code for that is 2.)
fn explain(error: &Error) -> ExitCode {
    if error.use_stderr() {
        eprintln!("{}", sentence(error));
        return ExitCode::FAILURE;
    }
    match error.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says in one sentence what is wrong: clap says more, about the usage.
fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let first = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    format!("{}; --help shows what there is", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts something.
    #[derive(Parser)]
    struct Wanted {
        /// How often
        #[arg(long, value_name = "N", default_value_t = 3)]
        rounds: usize,
        /// Beside what
        #[arg(long, value_name = "NAME", value_parser = ["this", "that"])]
        peer: Option<String>,
    }

    fn parse(arguments: &[&str]) -> Result<Wanted, Error> {
        Wanted::try_parse_from([&["count"], arguments].concat())
    }

    #[test]
    fn a_wrong_command_line_gets_one_sentence() {
        for (wrong, expected) in [
            (&["--round", "1"][..], "unexpected argument '--round' found"),
            (&["--rounds"], "a value is required for '--rounds <N>' but none was supplied"),
            (
                &["--rounds", "x"],
                "invalid value 'x' for '--rounds <N>': invalid digit found in string",
            ),
            (
                &["--peer", "it"],
                "invalid value 'it' for '--peer <NAME>' [possible values: this, that]",
            ),
        ] {
            let error = parse(wrong).err().unwrap();
            assert_eq!(sentence(&error), format!("{expected}; --help shows what there is"));
            assert_eq!(explain(&error), ExitCode::FAILURE);
        }
    }

    #[test]
    fn help_is_no_mistake() {
        assert_eq!(explain(&parse(&["--help"]).err().unwrap()), ExitCode::SUCCESS);
        let wanted = parse(&[]).ok().unwrap();
        assert_eq!((wanted.rounds, wanted.peer), (3, None));
    }

    #[test]
    fn only_what_went_well_ends_well() {
        assert_eq!(finish(Ok(true)), ExitCode::SUCCESS);
        assert_eq!(finish(Ok(false)), ExitCode::FAILURE);
        assert_eq!(finish(Err(anyhow::anyhow!("a disk is full"))), ExitCode::FAILURE);
    }
}
