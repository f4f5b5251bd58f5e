//! What is in Redis, how long it stays there, and which Redis will do.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{CLUSTER, LONG, done, nodes, over_redis, redis};
use crate::process::refuses_to_start;
use crate::redis::{Fsync, Redis, Reply};
use crate::scenario::{Check, Scenario};
use crate::scene::{Scene, status};
use crate::step4::acks::seq;
use crate::step4::fallback::Caller;
use crate::step5::attempts::guess;
use crate::step5::settings::told;

/// How long the program may take to say that there is no Redis.
const NO_REDIS: Duration = Duration::from_secs(15);

/// For how long something may stay that nobody needs any more, in ms.
const SHORTLY: u64 = 5 * 60 * 1000;

/// What the keys of accounts have in common. Names look like each other, so there are more of them than accounts.
const ACCOUNTS: &str = ":{accounts}:";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "everything_but_accounts_expires",
        sentence: "Everything in Redis but the accounts expires",
        expected: "a TTL for every key except those of the accounts, and every key below the prefix",
        hint: "Set the expiry in the same script that writes the key. A room's stream gets a long one, and a new one with each message.",
        run: |scene| Box::pin(expires(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "what_is_left_when_all_have_gone_gets_less",
        sentence: "When everyone has gone, presence and places are gone from Redis",
        expected: "no more keys than before anybody came, but for the room's count and what expires within five minutes",
        hint: "Take out what a connection has put in, when it ends; and give it a short life, in case that nobody can.",
        run: |scene| Box::pin(gets_less(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "no_token_and_no_password_is_in_redis",
        sentence: "No token, no cookie and no password is in Redis",
        expected: "none of them in what Redis has written to its disk, where every command is",
        hint: "Keep a token's SHA-256, a password's Argon2 hash, and of a message that was sent a hash of its text for comparison.",
        run: |scene| Box::pin(no_secrets(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_redis_user_without_config_will_do",
        sentence: "A user of Redis who may not use CONFIG will do",
        expected: "a chat as ever, and the user's password neither in the log nor in what --check prints",
        hint: "If you can't read `appendfsync`, don't believe that it is `always`.",
        run: |scene| Box::pin(no_config(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "without_redis_it_does_not_start",
        sentence: "With a REDIS_URL that leads nowhere the program does not start",
        expected: "one sentence on stderr within 10 seconds and exit code 1, for a bad URL, a closed port, a wrong password, and a Redis that is silent",
        hint: "Connect before you listen, with a deadline.",
        limit: LONG,
        run: |scene| Box::pin(no_redis(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "with_redis_there_is_no_backup_of_a_file",
        sentence: "With REDIS_URL there is no file to back up or to restore",
        expected: "one sentence on stderr and exit code 1 for `backup` and `restore`, and nothing in DATA_DIR after a day's work",
        hint: "A backup of Redis is a copy of its own files.",
        run: |scene| Box::pin(no_backup(scene)),
        ..CLUSTER
    },
];

/// Does a little of everything there is.
async fn a_day(a: &Scene, b: &Scene) -> Check {
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    ada.store("hi").await?;
    ada.send(json!({"type": "typing", "room": ada.room})).await;
    let id = Uuid::new_v4().to_string();
    ada.send(json!({"type": "direct", "id": id, "to": grace.name, "text": "psst"})).await;
    ada.ack(&id).await?;
    grace.expect("message").await?;
    let caller = Caller::hello(b, "alan").await?;
    let mut stream = caller.listen(a).await?;
    caller.store(a, "here").await?;
    stream.expect_text("here").await?;
    guess(a, "ada", &[]).await?;
    guess(b, "nobody", &[]).await?;
    a.sign_in_by_cookie("ada").await?;
    let bearer = format!("Bearer {}", b.sign_in("ada").await?);
    let answer = b.http("POST", "/api/logout", &[("Authorization", &bearer)]).await?;
    b.has_status(&answer, 204)
}

async fn expires(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::EverySecond).await?;
    let [a, b] = nodes(scene, &redis.url(), &[("RATE_LIMIT", "on")]).await?;
    a_day(&a, &b).await?;
    let keys = done(scene, "KEYS *", redis.keys().await)?;
    let mut stay = Vec::new();
    for key in &keys {
        let ttl = done(scene, "PTTL", redis.ask(&["PTTL", key]).await)?;
        if ttl == Reply::Number(-1) {
            stay.push(key.as_str());
        }
    }
    scene.journal.wait_for("no keys without an expiry but those of the accounts");
    let is_account = |key: &&str| key.contains(ACCOUNTS);
    if stay.is_empty() || !stay.iter().all(is_account) {
        return Err(scene.mismatch(&stay.join(", ")));
    }
    scene.journal.wait_for("the prefix before every key");
    let prefix = format!("{}:", scene.tag);
    match keys.iter().find(|key| !key.starts_with(&prefix)) {
        None => Ok(()),
        Some(key) => Err(scene.mismatch(key)),
    }
}

async fn gets_less(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    for base in ["ada", "grace"] {
        a.prepare(base).await?;
    }
    let before = done(scene, "KEYS *", redis.keys().await)?;
    for _ in 0..3 {
        let mut ada = a.enter("ada").await?;
        let mut grace = b.enter("grace").await?;
        ada.send(json!({"type": "typing", "room": ada.room})).await;
        grace.expect("typing").await?;
        ada.leave().await?;
        grace.leave().await?;
    }
    let mut left = Vec::new();
    for key in done(scene, "KEYS *", redis.keys().await)? {
        if before.contains(&key) || key.ends_with(":meta") {
            continue;
        }
        let ttl = done(scene, "PTTL", redis.ask(&["PTTL", &key]).await)?;
        let is_gone = ttl == Reply::Number(-2);
        if !is_gone && !ttl.number().is_ok_and(|ttl| ttl <= SHORTLY) {
            left.push(format!("{key} {ttl:?}"));
        }
    }
    scene.journal.wait_for("no more keys than before that stay for longer than five minutes");
    if left.is_empty() { Ok(()) } else { Err(scene.mismatch(&left.join(", "))) }
}

async fn no_secrets(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    a_day(&a, &b).await?;
    let token = a.token("ada").await?;
    let cookie = b.sign_in_by_cookie("ada").await?;
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    // Half of one would be as bad.
    let half = |secret: &str| secret.chars().take(32).collect::<String>();
    let secrets = [half(&token), half(value), scene.password("ada")];
    let written = done(scene, "read what Redis has written", redis.written())?;
    let holds = |wanted: &str| written.windows(wanted.len()).any(|it| it == wanted.as_bytes());
    scene.journal.wait_for("the name, and none of its secrets");
    if !holds(&scene.name("ada")) {
        return Err(scene.mismatch("not even the name"));
    }
    match secrets.iter().find(|secret| holds(secret)) {
        None => Ok(()),
        Some(secret) => Err(scene.mismatch(&format!("\"{secret}\""))),
    }
}

/// Lets only a user with a password in, who may not use CONFIG.
async fn lock(scene: &Scene, redis: &Redis) -> Check<String> {
    let rights = ["ACL", "SETUSER", "chat", "on", ">hunter2", "~*", "&*", "+@all", "-config"];
    done(scene, "a user of Redis without CONFIG", redis.ask(&rights).await)?;
    Ok(format!("redis://chat:hunter2@{}/0", redis.address()))
}

async fn no_config(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let url = lock(scene, &redis).await?;
    let [mut a, b] = nodes(scene, &url, &[("RUST_LOG", "debug")]).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    for number in 1..=3 {
        let ack = ada.store(&format!("number {number}")).await?;
        let heard = grace.expect("message").await?;
        if seq(&ack) != number || seq(&heard) != number {
            return Err(grace.mismatch(&crate::event::json_of(&heard)));
        }
    }
    let checked = a.program_with(&[("REDIS_URL", &url)])?.arg("--check");
    let checked = checked.run_to_end(NO_REDIS).await;
    let checked = checked.map_err(|error| scene.mismatch(&format!("{error:#}")))?;
    let said = format!("{}{}{}", a.running()?.stderr(), checked.stdout, checked.stderr);
    scene.journal.wait_for("no password in the log or the settings, which name REDIS_URL");
    if said.contains("hunter2") || !checked.stdout.contains("REDIS_URL") {
        return Err(scene.mismatch(&told(&checked)));
    }
    Ok(())
}

async fn no_redis(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::EverySecond).await?;
    let port = done(scene, "a port where nobody listens", crate::redis::lasting_port())?;
    lock(scene, &redis).await?;
    for url in ["http://127.0.0.1", "redis://", "127.0.0.1:6379", "redis://127.0.0.1:99999"] {
        refuses_to_start(scene, "REDIS_URL", url).await?;
    }
    let away = format!("redis://127.0.0.1:{port}/0");
    let wrong = format!("redis://chat:wrong@{}/0", redis.address());
    for url in [&away, &wrong] {
        is_told(scene, url).await?;
    }
    done(scene, "stopped Redis where it stands (SIGSTOP)", redis.freeze().await)?;
    is_told(scene, &redis.url()).await
}

/// The program must end in time, and say why in a sentence without a password.
async fn is_told(scene: &Scene, url: &str) -> Check {
    let program = scene.program_with(&[("REDIS_URL", url)])?;
    scene.journal.note(&format!("started the program with REDIS_URL={url}"));
    scene.journal.wait_for("one sentence on stderr about REDIS_URL, and exit code 1");
    let ended = program.run_to_end(NO_REDIS).await;
    let ended = ended.map_err(|error| scene.mismatch(&format!("{error:#}")))?;
    let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    let is_sentence = lines == 1 && !ended.stderr.contains("panicked");
    let is_right = ended.code == Some(1) && is_sentence && !ended.stderr.contains("wrong@");
    if is_right { Ok(()) } else { Err(scene.mismatch(&told(&ended))) }
}

async fn no_backup(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    a_day(&a, &b).await?;
    let file = std::env::temp_dir().join(format!("chat-tests-{}.backup", scene.tag));
    for command in ["backup", "restore"] {
        scene.journal.note(&format!("ran the program with {command}"));
        let program = a.program_with(&[("REDIS_URL", &redis.url())])?.arg(command);
        let ended = program.arg(file.display()).run_to_end(NO_REDIS).await;
        let ended = ended.map_err(|error| scene.mismatch(&format!("{error:#}")))?;
        scene.journal.wait_for("one sentence on stderr, and exit code 1");
        let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
        if ended.code != Some(1) || lines != 1 || file.exists() {
            return Err(scene.mismatch(&told(&ended)));
        }
    }
    let files = std::fs::read_dir(a.data()).map(Iterator::count).unwrap_or_default();
    scene.journal.wait_for("nothing in DATA_DIR");
    let answer = a.http("GET", "/", &[]).await?;
    a.has_status(&answer, 200).map_err(|_| scene.mismatch(&status(&answer)))?;
    if files == 0 { Ok(()) } else { Err(scene.mismatch(&format!("{files} files"))) }
}
