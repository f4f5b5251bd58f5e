//! Milestone 1 under the Autobahn cases: about 300 of them, right and wrong, as `kosoku` plays them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;
use tests::program::{Program, own_target_dir, workspace};
use tokio::runtime::Runtime;

/// The suite, at one version.
const KOSOKU: &str = "kosoku==0.1.0";

/// Some cases echo messages of 16 MiB.
const LIMIT: usize = 64 * 1024 * 1024;

/// Compression is an extension that the library does not have, so these cases have nothing to test.
const LEFT_OUT: [&str; 2] = ["12.*", "13.*"];

/// Fewer cases than this have not been played in full.
const CASES: usize = 300;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = Trial::ignorable_test("step01-echo::autobahn_cases", || match kosoku() {
        Ok(kosoku) => play(&kosoku),
        Err(reason) => left_out(&reason),
    });
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// What can't run here is left out, and said so; where everything has to be there, that is a failure.
fn left_out(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}

/// Installs the suite into a folder of its own, or gives the reason why it can't.
fn kosoku() -> Result<PathBuf, String> {
    let folder = target().join("kosoku");
    let program = folder.join("bin/kosoku");
    if program.exists() {
        return Ok(program);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    succeeded(made).map_err(|why| format!("python3 can't make a venv: {why}"))?;
    let pip = folder.join("bin/pip");
    let installed = Command::new(pip).args(["install", "--quiet", KOSOKU]).output();
    succeeded(installed).map_err(|why| format!("pip can't install {KOSOKU}: {why}"))?;
    Ok(program)
}

fn succeeded(output: std::io::Result<Output>) -> Result<(), String> {
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            Err(said.lines().next_back().unwrap_or("it says nothing").to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn target() -> PathBuf {
    own_target_dir().unwrap_or_else(|| workspace().join("target"))
}

/// Plays every case against a server of our own.
fn play(kosoku: &Path) -> Result<Completion, Failed> {
    let runtime = Runtime::new()?;
    let program = Program::cargo_package("step01-echo").env("MAX_MESSAGE_BYTES", LIMIT);
    let server = runtime.block_on(program.env("RUST_LOG", "warn").start())?;
    let reports = target().join("kosoku-reports");
    let mut suite = Command::new(kosoku);
    suite.args(["--mode", "fuzzingclient", "--parallelism", "2", "--outdir"]).arg(&reports);
    for cases in LEFT_OUT {
        suite.args(["--exclude", cases]);
    }
    let output = suite.arg(server.address()).output()?;
    let index = std::fs::read_to_string(reports.join("index.json"))
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    judge(&serde_json::from_str(&index)?)?;
    if !output.status.success() {
        return Err(format!("kosoku: {}", output.status).into());
    }
    Ok(Completion::Completed)
}

/// Counts the results. None may have failed, and none may have closed uncleanly.
fn judge(index: &Value) -> Result<(), Failed> {
    let agents = index.as_object().into_iter().flat_map(|agents| agents.values());
    let cases: Vec<(&String, &Value)> = agents.filter_map(Value::as_object).flatten().collect();
    let behaviors = count(&cases, "behavior");
    let closes = count(&cases, "behaviorClose");
    println!("{} cases, behavior {behaviors:?}, close {closes:?}", cases.len());

    let is_bad = |result: &Value, field: &str| {
        let result = result.get(field).and_then(Value::as_str).unwrap_or("MISSING");
        !["OK", "NON-STRICT", "INFORMATIONAL"].contains(&result)
    };
    let bad =
        cases.iter().filter(|(_, case)| is_bad(case, "behavior") || is_bad(case, "behaviorClose"));
    let bad: Vec<&str> = bad.map(|(name, _)| name.as_str()).collect();
    if !bad.is_empty() {
        return Err(format!("failed or unclean: {}", bad.join(", ")).into());
    }
    if cases.len() < CASES {
        return Err(format!("only {} cases were played", cases.len()).into());
    }
    Ok(())
}

fn count<'a>(cases: &[(&String, &'a Value)], field: &str) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for (_, case) in cases {
        let result = case.get(field).and_then(Value::as_str).unwrap_or("MISSING");
        *counts.entry(result).or_default() += 1;
    }
    counts
}
