//! `cargo verify`: sets up what the tests need, then runs every check there is.
//!
//! One command for everybody: a newcomer's machine, `.ci/run` and the workflows all call this.

use std::env;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
Runs every check of this repository.

Usage: cargo verify [--yes]

  --yes     install what is missing without asking (so does CI=true)
  --help    show this

The tests need Chromium, chromedriver, Node with npm, Python 3 with venv, faketime and Redis; and on Linux
nginx, Caddy, HAProxy, Prometheus and systemd. What is missing is installed by apt-get, where there is one.
Debian starts some of these as services: stop them with `systemctl disable --now NAME`.";

/// Programs that the tests start, and the Debian packages that bring them.
const NEEDS: &[Need] = &[
    Need {
        what: "Chromium",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        packages: &["chromium"],
    },
    Need { what: "chromedriver", programs: &["chromedriver"], packages: &["chromium-driver"] },
    Need { what: "Node", programs: &["node"], packages: &["nodejs"] },
    Need { what: "npm", programs: &["npm"], packages: &["npm"] },
    Need { what: "faketime", programs: &["faketime"], packages: &["faketime"] },
    Need { what: "Python 3", programs: &["python3"], packages: &["python3", "python3-venv"] },
    Need { what: "Redis", programs: &["redis-server"], packages: &["redis-server"] },
];

/// What only the tests need that run on Linux alone: what is deployed there.
const NEEDS_ON_LINUX: &[Need] = &[
    Need { what: "nginx", programs: &["nginx"], packages: &["nginx"] },
    Need { what: "Caddy", programs: &["caddy"], packages: &["caddy"] },
    Need { what: "HAProxy", programs: &["haproxy"], packages: &["haproxy"] },
    Need { what: "Prometheus", programs: &["promtool"], packages: &["prometheus"] },
    Need { what: "systemd", programs: &["systemd-socket-activate"], packages: &["systemd"] },
];

/// The learner's own package: unfinished work there is not this repository's to judge.
const OWN_WORK: &str = "my-chat";

/// Something the tests start.
struct Need {
    what: &'static str,
    /// Any of these will do.
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => run(is_ci()),
        ["--yes" | "-y"] => run(true),
        ["--help" | "-h"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("cargo verify does not know {}\n\n{HELP}", other.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Runs the steps, and says at the end what ran and how long it took.
fn run(install_without_asking: bool) -> ExitCode {
    let mut done = Vec::new();
    let result = set_up(install_without_asking).and_then(|()| check(&mut done));
    println!("\n== Summary");
    for (title, took) in &done {
        println!("ok      {:>6.1} s  {title}", took.as_secs_f64());
    }
    match result {
        Ok(()) => {
            println!("\nEverything holds.");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            println!("failed            {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn is_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

// Setting up

/// Finds what the tests need, and installs what is missing.
fn set_up(install_without_asking: bool) -> Result<(), String> {
    heading("What the tests need");
    let mut packages = Vec::new();
    let on_linux = if cfg!(target_os = "linux") { NEEDS_ON_LINUX } else { &[] };
    for need in NEEDS.iter().chain(on_linux) {
        match need.programs.iter().find_map(|program| find(program)) {
            Some(path) => println!("found   {}: {}", need.what, path.display()),
            None => {
                println!("missing {}", need.what);
                packages.extend(need.packages);
            }
        }
    }
    // Debian's Python comes without what `python3 -m venv` needs.
    if find("python3").is_some() && !can_make_venvs() {
        println!("missing Python's venv");
        packages.push("python3-venv");
    }
    if packages.is_empty() { Ok(()) } else { install(&packages, install_without_asking) }
}

/// Where a program is, by the folders in PATH, and those that Debian keeps out of it for everyone but
/// root.
fn find(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file())
}

fn can_make_venvs() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

/// Installs packages with apt-get, or says which line to type.
fn install(packages: &[&str], without_asking: bool) -> Result<(), String> {
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        return Err(format!(
            "install these by your system's package manager, then run cargo verify again: {list}"
        ));
    }
    let as_root = if is_root() { "" } else { "sudo " };
    let line = format!("{as_root}apt-get update && {as_root}apt-get install --yes {list}");
    let sentence = format!("type this line, then run cargo verify again: {line}");
    if !without_asking && !agrees(&line) {
        return Err(sentence);
    }
    if !is_root() && find("sudo").is_none() {
        return Err(format!("there is no sudo here. As root, {sentence}").replace("sudo ", ""));
    }
    // What matters is whether the packages can be installed, be the lists fresh or not.
    let _ = apt_get(&["update"]);
    let installed = apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat());
    installed.map_err(|why| format!("{why}. To see more, {sentence}"))
}

/// Asks on the terminal. Where there is none, nobody agrees.
fn agrees(line: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    print!("\nInstall it now? This runs: {line}\n[y/N] ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let program: &[&str] = if is_root() { &["apt-get"] } else { &["sudo", "apt-get"] };
    let line = [program, arguments].concat();
    command(&line, &workspace(), &[("DEBIAN_FRONTEND", "noninteractive")])
}

// Checking

/// Every check, up to the first that fails.
fn check(done: &mut Vec<(String, Duration)>) -> Result<(), String> {
    let peers = workspace().join("tests").join("peers");
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let cargo = cargo.as_str();

    step(done, &["npm", "ci"], &peers, &[])?;
    let packages = formatted_packages();
    let mut fmt = vec![cargo, "fmt", "--check"];
    fmt.extend(packages.iter().map(String::as_str));
    step(done, &fmt, &workspace(), &[])?;
    let clippy = [cargo, "clippy", "--workspace", "--all-targets"];
    step(done, &[&clippy, not_own_work(), &["--", "-D", "warnings"]].concat(), &workspace(), &[])?;
    let doc = [&[cargo, "doc", "--workspace", "--no-deps"], not_own_work()].concat();
    step(done, &doc, &workspace(), &[("RUSTDOCFLAGS", "-Dwarnings")])?;
    let test = [&[cargo, "test", "--workspace"], not_own_work()].concat();
    step(done, &test, &workspace(), &[])?;
    step(done, &["npm", "test"], &peers, &[])
}

/// What keeps the learner's own package out of a command for the whole workspace.
fn not_own_work() -> &'static [&'static str] {
    let is_there = workspace().join(OWN_WORK).join("Cargo.toml").exists();
    if is_there { &["--exclude", OWN_WORK] } else { &[] }
}

/// The packages to format. `cargo fmt` can't leave one out, so where there is work of the learner's
/// own, all the others are named.
fn formatted_packages() -> Vec<String> {
    if not_own_work().is_empty() {
        return vec!["--all".to_owned()];
    }
    let folders = fs::read_dir(workspace()).into_iter().flatten().flatten();
    let others = folders.filter(|folder| folder.file_name() != OWN_WORK);
    others
        .filter_map(|folder| package_name(&folder.path()))
        .map(|name| format!("--package={name}"))
        .collect()
}

/// The name of the package in a folder, if there is one.
fn package_name(folder: &Path) -> Option<String> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim_matches('"').to_owned())
}

/// Runs one check under a heading, and notes how long it took.
fn step(
    done: &mut Vec<(String, Duration)>,
    line: &[&str],
    folder: &Path,
    env: &[(&str, &str)],
) -> Result<(), String> {
    let title = title(line, env);
    heading(&title);
    let start = Instant::now();
    command(line, folder, env)?;
    done.push((title, start.elapsed()));
    Ok(())
}

fn heading(title: &str) {
    println!("\n== {title}");
}

/// A command as one would type it.
fn title(line: &[&str], env: &[(&str, &str)]) -> String {
    let env = env.iter().map(|(name, value)| format!("{name}={value}"));
    let program = line.first().and_then(|program| Path::new(program).file_stem());
    let program = program.map(|name| name.to_string_lossy().into_owned());
    let arguments = line.iter().skip(1).map(|&argument| argument.to_owned());
    env.chain(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Runs a command, with its output on ours.
fn command(line: &[&str], folder: &Path, env: &[(&str, &str)]) -> Result<(), String> {
    let title = title(line, &[]);
    let Some((program, arguments)) = line.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).envs(env.iter().copied());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{title} ended with {status}")),
        Err(error) => Err(format!("{title} can't run: {error}")),
    }
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
