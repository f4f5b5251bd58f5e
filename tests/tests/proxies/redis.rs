//! `secrets.sh` and `redis/users.acl`: a Redis started as `compose.yaml` does it, and what each user may do.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tests::load::process::wait_until;
use tests::program::Scratch;

use crate::front::{Street, deploy, succeeds};
use crate::socket::refused;
use crate::stage::PATIENCE;
use crate::{block_on, trial};

/// What the servers do, and so must be allowed to.
const ALLOWED: [&[&str]; 28] = [
    &["PING"],
    &["HELLO", "3"],
    &["TIME"],
    &["INFO", "server"],
    &["CONFIG", "GET", "appendonly"],
    &["CONFIG", "GET", "appendfsync"],
    &["SET", "chat:{room}:x", "1", "PX", "60000"],
    &["GET", "chat:{room}:x"],
    &["INCR", "chat:{room}:x"],
    &["PEXPIRE", "chat:{room}:x", "60000"],
    &["EXISTS", "chat:{room}:x"],
    &["TTL", "chat:{room}:x"],
    &["DEL", "chat:{room}:x"],
    &["HSET", "chat:{room}:meta", "e", "1"],
    &["HMGET", "chat:{room}:meta", "e", "o"],
    &["HINCRBY", "chat:{room}:meta", "o", "1"],
    &["HGETALL", "chat:{room}:meta"],
    &["ZADD", "chat:{room}:presence", "1", "ada"],
    &["ZRANGEBYSCORE", "chat:{room}:presence", "-inf", "+inf"],
    &["XADD", "chat:{room}:log", "1-0", "m", "hello"],
    &["XREVRANGE", "chat:{room}:log", "+", "-", "COUNT", "1"],
    &["XRANGE", "chat:{room}:log", "-", "+"],
    &["XTRIM", "chat:{room}:log", "MAXLEN", "1"],
    &["PUBLISH", "chat:{room}:feed", "hello"],
    &["SCRIPT", "LOAD", "return 1"],
    &["EVAL", "return redis.call('XLEN', KEYS[1])", "1", "chat:{room}:log"],
    &["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
    &["CLIENT", "SETNAME", "node-a"],
];

/// What nobody should be able to do who has got hold of a server's password.
const FORBIDDEN: [&[&str]; 22] = [
    &["SET", "other:x", "1"],
    &["GET", "other:x"],
    &["PUBLISH", "other:feed", "hello"],
    &["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "other:x"],
    &["EVAL", "return redis.call('SET', 'other:x', '1')", "0"],
    &["EVAL", "return redis.call('FLUSHALL')", "0"],
    &["FLUSHALL"],
    &["FLUSHDB"],
    &["KEYS", "chat:*"],
    &["SCAN", "0"],
    &["CONFIG", "SET", "appendonly", "no"],
    &["CONFIG", "REWRITE"],
    &["DEBUG", "SLEEP", "0"],
    &["SHUTDOWN", "NOSAVE"],
    &["MONITOR"],
    &["CLIENT", "LIST"],
    &["CLIENT", "KILL", "ID", "1"],
    &["ACL", "LIST"],
    &["SCRIPT", "FLUSH"],
    &["FUNCTION", "LIST"],
    &["REPLICAOF", "192.0.2.1", "6379"],
    &["SAVE"],
];

/// The trials.
pub fn trials() -> Vec<Trial> {
    let needs = &["redis-server", "redis-cli"];
    vec![
        trial("redis::the_servers_may_do_what_they_need_and_no_more", needs, || {
            block_on(rights(&[]))
        }),
        trial("redis::broken::the_servers_may_do_no_more", needs, || {
            let all_keys = ("~chat:* resetchannels &chat:*", "~* resetchannels &chat:*");
            refused(block_on(rights(&[all_keys])), "is allowed")
        }),
        trial("redis::new_secrets_do_not_replace_those_that_are_there", &[], secrets),
    ]
}

/// A Redis with the rules of `compose.yaml`. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    host: String,
    port: u16,
    folder: Scratch,
    child: Child,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// Makes passwords, and starts it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(changes: &[(&str, &str)]) -> Result<Self> {
        let folder = Scratch::new();
        let host = Street::new().node(0).to_string();
        // Whoever reads the book has a Redis of their own, which may listen on all addresses.
        let port = TcpListener::bind((host.as_str(), 0))?.local_addr()?.port();
        make_secrets(&folder, &format!("{host}:{port}"))?;
        let file = folder.path().join("users.acl");
        let mut rules = fs::read_to_string(&file)?;
        for (from, to) in changes {
            ensure!(rules.contains(from), "no {from} in {rules}");
            rules = rules.replacen(from, to, 1);
        }
        fs::write(&file, rules)?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", &host, "--port", &port.to_string(), "--dir"]).arg(folder.path());
        for argument in arguments()? {
            let file = file.display().to_string();
            command.arg(argument.replace("/run/secrets/redis_acl", &file));
        }
        command.stdout(File::create(folder.path().join("log"))?).stdin(Stdio::null());
        let redis = Self { host, port, child: command.spawn()?, folder };
        let is_up = async || redis.cli(&[], &["PING"]).is_ok_and(|said| said == "PONG");
        let log = || fs::read_to_string(redis.folder.path().join("log")).unwrap_or_default();
        ensure!(wait_until(PATIENCE, is_up).await, "no Redis:\n{}", log());
        Ok(redis)
    }

    /// The file that the servers are given as `REDIS_URL_FILE`.
    pub fn url_file(&self) -> PathBuf {
        self.folder.path().join("redis_url")
    }

    /// What Redis answers.
    fn cli(&self, who: &[&str], line: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-h", &self.host, "-p", &self.port.to_string(), "--no-auth-warning"]);
        let output = command.args(who).args(line).stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What it has refused somebody, for people; empty if nothing.
    ///
    /// # Errors
    /// No answer.
    pub fn refused(&self) -> Result<String> {
        let password = self.secret("redis_operator")?;
        self.cli(&["--user", "operator", "--pass", &password], &["ACL", "LOG"])
    }

    fn secret(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join(name))?)
    }
}

fn make_secrets(folder: &Scratch, redis: &str) -> Result<()> {
    succeeds(Command::new("sh").arg(deploy().join("secrets.sh")).arg(folder.path()).arg(redis))
}

/// The arguments of `redis-server` in `compose.yaml`.
fn arguments() -> Result<Vec<String>> {
    let compose = fs::read_to_string(deploy().join("compose.yaml"))?;
    let rest = compose.split_once("      - redis-server\n").context("no redis-server")?.1;
    let lines = rest.lines().map(str::trim).take_while(|line| line.starts_with(['-', '#']));
    let arguments = lines.filter_map(|line| line.strip_prefix("- "));
    Ok(arguments.map(str::to_owned).collect())
}

async fn rights(changes: &[(&str, &str)]) -> Result<()> {
    let redis = Redis::start(changes).await?;
    let url = redis.secret("redis_url")?;
    let chat = ["-u", url.as_str()];
    for line in ALLOWED {
        let said = redis.cli(&chat, line)?;
        ensure!(!is_refusal(&said), "{line:?} is refused: {said}");
    }
    for line in FORBIDDEN {
        let said = redis.cli(&chat, line)?;
        ensure!(is_refusal(&said), "{line:?} is allowed: {said}");
    }
    let said = redis.cli(&chat, &["CONFIG", "GET", "append*"])?;
    ensure!(said.contains("appendfsync\nalways") && said.contains("appendonly\nyes"), "{said}");
    let said = redis.cli(&chat, &["INFO", "memory"])?;
    ensure!(said.contains("maxmemory_policy:noeviction"), "{said}");

    // Who has not signed in may ask whether it lives.
    let said = redis.cli(&[], &["GET", "chat:x"])?;
    ensure!(is_refusal(&said), "a stranger reads: {said}");
    let password = redis.secret("redis_operator")?;
    let operator = ["--user", "operator", "--pass", password.as_str()];
    let said = redis.cli(&operator, &["FLUSHALL"])?;
    ensure!(said == "OK", "the operator may not: {said}");
    Ok(())
}

/// Whether Redis does not do that for this user. `DEBUG` is off for everyone.
fn is_refusal(said: &str) -> bool {
    let refusals = ["NOPERM", "ACL failure", "can't access", "can't run", "DEBUG command not"];
    refusals.iter().any(|refusal| said.contains(refusal))
}

fn secrets() -> Result<()> {
    let folder = Scratch::new();
    make_secrets(&folder, "redis:6379")?;
    let read = || fs::read_to_string(folder.path().join("redis_url"));
    let first = read()?;
    ensure!(first.starts_with("redis://chat:") && first.ends_with("@redis:6379/0"), "{first}");
    let acl = fs::read_to_string(folder.path().join("users.acl"))?;
    ensure!(!acl.contains("SHA256"), "no password in {acl}");
    refused(make_secrets(&folder, "redis:6379"), "is there already")?;
    ensure!(read()? == first, "replaced");
    Ok(())
}
