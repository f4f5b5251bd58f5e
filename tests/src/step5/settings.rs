//! What whoever starts the server may choose, and what they are told.

use std::time::Duration;

use crate::process::refuses_to_start;
use crate::program::Ended;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;

/// Every setting.
const SETTINGS: [&str; 19] = [
    "HOST",
    "PORT",
    "ADMIN_HOST",
    "ADMIN_PORT",
    "DATA_DIR",
    "ALLOWED_ORIGINS",
    "TRUSTED_PROXIES",
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "MAX_CONNECTIONS_PER_USER",
    "MAX_ROOMS",
    "RATE_LIMIT",
    "SESSION_MAX",
    "SESSION_IDLE",
    "RETENTION",
    "DRAIN_SECONDS",
    "LOG_FORMAT",
    "backup",
    "restore",
];

/// How long the program may take to say something and end.
const END: Duration = Duration::from_secs(10);

const SETTING: Scenario =
    Scenario { needs: Needs::Program, limit: SLOW, ..Scenario::of(5, "production/operating.html") };

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "help_lists_every_setting",
        sentence: "--help lists every setting and what it is for",
        expected: "exit code 0, and every variable and command on stdout",
        hint: "clap's derive: the doc comment of a field is its help, `env` names its variable.",
        run: |scene| Box::pin(help(scene)),
        ..SETTING
    },
    Scenario {
        name: "check_says_whether_the_settings_are_good",
        sentence: "--check says whether the settings are good, and starts nothing",
        expected: "exit code 0 and no server for good settings, exit code 1 and one sentence for bad ones",
        hint: "Read and check all settings first; stop there if that was all that was asked for.",
        run: |scene| Box::pin(check(scene)),
        ..SETTING
    },
    Scenario {
        name: "every_bad_setting_is_one_clear_sentence",
        sentence: "Every bad setting is one clear sentence",
        expected: "one sentence on stderr that names the variable and what it holds, and exit code 1",
        hint: "A `value_parser` for each setting, and a sentence of your own instead of clap's paragraph.",
        run: |scene| Box::pin(bad(scene)),
        ..SETTING
    },
    Scenario {
        name: "an_empty_setting_counts_as_unset",
        sentence: "An empty setting counts as unset",
        expected: "a running server with its defaults: `FOO=` in a file for Docker or systemd means that nobody chose",
        hint: "Drop the empty ones before they are parsed.",
        run: |scene| Box::pin(empty(scene)),
        ..SETTING
    },
    Scenario {
        name: "a_taken_admin_port_is_one_clear_sentence",
        sentence: "A taken ADMIN_PORT is one clear sentence",
        expected: "one sentence on stderr that names it, and exit code 1, without a server that nobody can look into",
        hint: "Bind both ports before you accept on either.",
        run: |scene| Box::pin(taken(scene)),
        ..SETTING
    },
];

/// Runs the program with one argument to its end.
async fn run(scene: &Scene, argument: &str, env: &[(&str, &str)]) -> Check<Ended> {
    scene.journal.note(&format!("ran the program with {argument} and {env:?}"));
    let ended = scene.program_with(env)?.arg(argument).run_to_end(END).await;
    ended.map_err(|error| scene.mismatch(&format!("{error:#}")))
}

/// What a program that has ended left behind, for people.
pub(crate) fn told(ended: &Ended) -> String {
    let code = ended.code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
    format!("{code}, \"{}\" on stdout, \"{}\" on stderr", ended.stdout.trim(), ended.stderr.trim())
}

async fn help(scene: &mut Scene) -> Check {
    let ended = run(scene, "--help", &[]).await?;
    scene.journal.wait_for("exit code 0 and the settings");
    if ended.code != Some(0) {
        return Err(scene.mismatch(&told(&ended)));
    }
    match SETTINGS.iter().find(|name| !ended.stdout.contains(**name)) {
        None => Ok(()),
        Some(missing) => Err(scene.mismatch(&format!("no {missing} on stdout"))),
    }
}

async fn check(scene: &mut Scene) -> Check {
    let ended = run(scene, "--check", &[("ALLOWED_ORIGINS", "https://chat.example")]).await?;
    scene.journal.wait_for("exit code 0, and no server");
    if ended.code != Some(0) || ended.stdout.contains("listening on") {
        return Err(scene.mismatch(&told(&ended)));
    }
    let ended = run(scene, "--check", &[("SESSION_MAX", "forever")]).await?;
    scene.journal.wait_for("exit code 1, and a sentence that names SESSION_MAX");
    let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    if ended.code == Some(1) && lines == 1 && ended.stderr.contains("SESSION_MAX") {
        return Ok(());
    }
    Err(scene.mismatch(&told(&ended)))
}

async fn bad(scene: &mut Scene) -> Check {
    let settings = [
        ("PORT", "65536"),
        ("ADMIN_PORT", "nine"),
        ("ALLOWED_ORIGINS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "the-proxy"),
        ("MAX_CONNECTIONS", "many"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "-1"),
        ("MAX_CONNECTIONS_PER_USER", "1.5"),
        ("MAX_ROOMS", "1e9"),
        ("RATE_LIMIT", "maybe"),
        ("SESSION_MAX", "30"),
        ("SESSION_IDLE", "-7d"),
        // Kept for less than a day, a history is of no use to who was away for a night.
        ("RETENTION", "1h"),
        ("DRAIN_SECONDS", "3s"),
        ("LOG_FORMAT", "xml"),
    ];
    for (name, value) in settings {
        refuses_to_start(scene, name, value).await?;
    }
    Ok(())
}

async fn empty(scene: &mut Scene) -> Check {
    // The ports, the directory and the limits stay as scenarios need them.
    let kept = ["PORT", "ADMIN_PORT", "DATA_DIR", "backup", "restore"];
    let names = SETTINGS.iter().filter(|name| !kept.contains(name));
    let settings: Vec<(&str, &str)> = names.map(|name| (*name, "")).collect();
    scene.start(&settings).await?;
    let mut ada = scene.enter("ada").await?;
    ada.store("hi").await?;
    scene.journal.wait_for("the default address, 127.0.0.1");
    if scene.address().starts_with("127.0.0.1:") {
        return Ok(());
    }
    Err(scene.mismatch(scene.address()))
}

async fn taken(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let admin = scene.running()?.admin_address().unwrap_or_default().to_owned();
    let port = admin.rsplit(':').next().unwrap_or_default();
    refuses_to_start(scene, "ADMIN_PORT", port).await
}
