//! The gates of the book: see `learn::gates`. Prints the word counts first.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use learn::gates::page::{self, Page};
use learn::gates::unchanged::UNCHANGED;
use learn::gates::words::{Share, parts, steps, table};
use learn::gates::{
    Problem, coverage, html, includes, json, links, listings, pace, summary, threats, unchanged,
    words,
};
use learn::{book, changes};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::program::workspace;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let pages = match page::all(workspace()) {
        Ok(pages) => Arc::new(pages),
        Err(error) => {
            eprintln!("can't read the chapters: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.list {
        println!("\nWords of the core path\n{}{}", table(&parts(&pages)), table(&steps(&pages)));
    }
    let folder = std::env::temp_dir().join(format!("learn-book-{}", std::process::id()));
    let finished = if arguments.list { Err("not built".into()) } else { build(&folder) };
    let mut trials = of_chapters(&pages);
    trials.extend(of_milestones(&pages));
    trials.extend(of_shares(&pages));
    trials.extend(of_finished(&Arc::new(finished)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let _ = std::fs::remove_dir_all(&folder);
    conclusion.exit_code()
}

/// The gates that look at the chapters as they are written.
fn of_chapters(pages: &Arc<Vec<Page>>) -> Vec<Trial> {
    vec![
        gate("every_include_leads_to_a_region", pages, |pages| includes::check(workspace(), pages)),
        gate("code_is_included_and_named", pages, listings::check),
        gate("json_is_json", pages, json::check),
        gate("every_page_is_in_the_summary", pages, |pages| summary::check(workspace(), pages)),
        gate("something_to_run_every_150_words", pages, pace::check),
    ]
}

/// The gates that hold the chapters and the milestones together.
fn of_milestones(pages: &Arc<Vec<Page>>) -> Vec<Trial> {
    let shown = Arc::clone(pages);
    vec![
        Trial::test("every_line_of_a_milestone_is_shown", move || {
            none(coverage::check(workspace(), &shown).map_err(failed)?)
        }),
        gate("each_row_of_the_threat_model_has_a_test", pages, |pages| {
            threats::check(workspace(), pages)
        }),
        Trial::test("what_does_not_change_stays_the_same", || {
            none(unchanged::check(workspace(), UNCHANGED))
        }),
        Trial::test("the_marks_of_new_lines_are_current", || {
            let current = changes::script(workspace()).map_err(failed)?;
            let is = std::fs::read_to_string(changes::file(workspace())).map_err(failed)?;
            let problem = Problem::new("book/theme/changes.js", "stale: run `cargo learn mend`");
            none(if is == current { Vec::new() } else { vec![problem] })
        }),
    ]
}

/// The gate on the words, a test for the parts of the book and one for the steps.
fn of_shares(pages: &[Page]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, shares) in
        [("words_of_the_parts", parts(pages)), ("words_of_the_steps", steps(pages))]
    {
        let left_out = not_written(&shares);
        trials.push(Trial::test(name, move || none(words::check(&shares))));
        trials.extend(left_out.into_iter().map(|part| {
            let name = format!("{name}::{part}");
            Trial::ignorable_test(name, || Ok(Completion::ignored_with("not all written yet")))
        }));
    }
    trials
}

fn not_written(shares: &[Share]) -> Vec<&'static str> {
    shares.iter().filter(|share| !share.written).map(|share| share.name).collect()
}

/// The gates on what mdBook makes of the chapters.
fn of_finished(finished: &Arc<Result<book::Built, String>>) -> Vec<Trial> {
    let trial = |name: &'static str, look: fn(&book::Built) -> Result<Vec<Problem>, Failed>| {
        let finished = Arc::clone(finished);
        Trial::test(name, move || match finished.as_ref() {
            Ok(built) => none(look(built)?),
            Err(error) => Err(error.into()),
        })
    };
    vec![
        trial("mdbook_has_nothing_to_complain_about", |built| {
            let problem = |line: &String| Problem::new("mdbook", line);
            Ok(built.complaints.iter().map(problem).collect())
        }),
        trial("no_directive_is_left_and_no_listing_empty", |built| {
            html::check(&built.html).map_err(failed)
        }),
        trial("every_link_leads_somewhere", |built| links::check(&built.html).map_err(failed)),
    ]
}

fn build(folder: &Path) -> Result<book::Built, String> {
    book::build(workspace(), &PathBuf::from(folder), false).map_err(|error| format!("{error:#}"))
}

fn gate(
    name: &str,
    pages: &Arc<Vec<Page>>,
    look: impl Fn(&[Page]) -> Vec<Problem> + Send + 'static,
) -> Trial {
    let pages = Arc::clone(pages);
    Trial::test(name, move || none(look(&pages)))
}

/// A gate holds if there are no problems.
fn none(problems: Vec<Problem>) -> Result<(), Failed> {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(lines.join("\n").into())
}

fn failed(error: impl Display) -> Failed {
    format!("{error:#}").into()
}
