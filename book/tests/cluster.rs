//! `cargo learn cluster`, as an instructor or a script runs it: without a terminal.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::redis;
use tests::redis::resp::ask;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// The whole run: the build of milestone 5, where it is not built yet, included.
const LIMIT: Duration = Duration::from_secs(300);

fn cluster(arguments: &[&str]) -> Command {
    let mut learn = Command::new(env!("CARGO_BIN_EXE_learn"));
    learn.arg("cluster").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    learn
}

/// What it printed, after its end.
async fn run(mut learn: Command) -> Result<(Output, String)> {
    let output = timeout(LIMIT, learn.output()).await.context("it does not end")??;
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let said = said.concat();
    Ok((output, said))
}

/// Whether there is a Redis on this machine. Where everything has to be checked, there must be.
fn has_redis() -> bool {
    let missing = redis::missing();
    assert!(missing.is_none() || std::env::var("CI").as_deref() != Ok("true"), "{missing:?}");
    missing.is_none()
}

#[tokio::test]
async fn nothing_is_lost_whatever_a_script_does() {
    if !has_redis() {
        return;
    }
    let script = "wait 1, kill 2, wait 2, start 2, kill redis, wait 1, start redis, wait 1, \
        cut 3, wait 3, mend 3, stop 1, start 1, freeze redis, wait 1, thaw redis, wait 1";
    let (output, said) = run(cluster(&["--port", "0", "--script", script])).await.unwrap();
    assert!(output.status.success(), "{said}");
    for part in [
        "node 2 was killed (kill -9); it had ",
        "node 2 is up again",
        "Redis was killed (kill -9)",
        "node 3 is cut off from Redis",
        "node 1 has stopped after",
        "all 12 can talk again after",
        " · waiting 0 · seen ",
        " · lost 0 · twice 0\nNothing was lost, and nothing came twice",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("sent 0 · acked 0"), "{said}");
}

#[tokio::test]
async fn a_cluster_that_is_left_broken_is_mended_before_all_is_counted() {
    if !has_redis() {
        return;
    }
    let script = "wait 1, kill 1, kill 2, wait 1, kill redis, wait 1, quit, start 1";
    let (output, said) =
        run(cluster(&["--port", "0", "--nodes", "2", "--robots", "3", "--script", script]))
            .await
            .unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the end: all is mended"), "{said}");
    assert!(said.contains(" · lost 0 · twice 0\n"), "{said}");
}

/// Starts a cluster. Gives it with what it has still to say, and the address of its Redis.
async fn start(script: &str) -> Result<(Child, Lines<BufReader<ChildStdout>>, SocketAddr)> {
    let mut learn = cluster(&["--port", "0", "--script", script]);
    let mut child = learn.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    loop {
        let line = timeout(LIMIT, lines.next_line()).await??.context("no Redis")?;
        let port = line.strip_prefix("redis-cli -p ").and_then(|rest| rest.split(' ').next());
        if let Some(port) = port {
            return Ok((child, lines, SocketAddr::from(([127, 0, 0, 1], port.parse()?))));
        }
    }
}

/// Takes a message out of Redis as soon as it is there. By then all robots are.
async fn rob(redis: SocketAddr) -> Result<()> {
    let robbing = async {
        loop {
            for key in ask(redis, &["KEYS", "*red*"]).await?.texts() {
                if ask(redis, &["TYPE", &key]).await?.is("stream") {
                    let gone = ask(redis, &["XDEL", &key, "5-0"]).await?.number()?;
                    if gone == 1 {
                        return Ok(());
                    }
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, robbing).await?
}

#[tokio::test]
async fn a_message_that_vanishes_from_redis_is_called_lost() {
    if !has_redis() {
        return;
    }
    let (mut child, mut lines, redis) = start("wait 6").await.unwrap();
    rob(redis).await.unwrap();
    let mut said = String::new();
    while let Some(line) = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap() {
        said += &format!("{line}\n");
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{said}");
    assert!(said.contains(" · lost 1 · twice 0\nThat should not happen"), "{said}");
}

#[tokio::test]
async fn without_redis_it_says_how_to_install_it() {
    let mut learn = cluster(&["--script", "quit"]);
    learn.env("PATH", "");
    let (output, said) = run(learn).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentence = said.trim();
    assert!(sentence.starts_with("There is no redis-server here"), "{said}");
    for part in ["apt-get install redis-server", "brew install redis", "WSL"] {
        assert!(sentence.contains(part) && !sentence.contains('\n'), "{said}");
    }
}

#[tokio::test]
async fn what_can_not_be_played_is_one_sentence() {
    if !has_redis() {
        return;
    }
    for (arguments, part) in [
        (&[][..], "There is no terminal to take keys from: say what to do with --script"),
        (&["--script", "kill 4"], "The script wants node 4, and there are 3"),
    ] {
        let (output, said) = run(cluster(arguments)).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.trim(), part);
    }
    let (output, said) = run(cluster(&["--script", "burn 2"])).await.unwrap();
    assert!(!output.status.success());
    assert!(said.contains("\"burn 2\" is no step; there are kill, stop, start"), "{said}");
}
