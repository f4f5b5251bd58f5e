//! The program `swarm`, as far as it can be seen without a server of milestone 4.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails, in its helpers, too"
)]

mod scripted;

use std::process::{Command, Output};

use scripted::{Host, TOKEN};

fn swarm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_swarm")).args(arguments).output().unwrap()
}

#[test]
fn help_reads_as_documentation() {
    let output = swarm(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in [
        "--clients <N>",
        "--cut",
        "--accounts",
        "--per-account <K>",
        "--yes-remote",
        "Examples:",
        "ulimit",
        "Exit code:",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn other_machines_are_left_alone() {
    let output = swarm(&["--url", "ws://chat.example/ws"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("swarm: chat.example may be another machine"), "{said}");
}

#[test]
fn nobody_listening_is_one_sentence() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url = format!("ws://{address}/ws");
    for arguments in [&["--url", &url][..], &["--url", &url, "--accounts"]] {
        let output = swarm(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.starts_with("swarm: nobody is listening at 127.0.0.1:"), "{said}");
    }
}

#[tokio::test]
async fn with_accounts_the_clients_sign_in_before_they_begin() {
    let host = Host::open().await;
    let url = host.url();
    let run = tokio::task::spawn_blocking(move || {
        swarm(&["--url", &url, "--accounts", "--clients", "1", "--seconds", "1", "--rate", "20"])
    });
    // It is there from an earlier run.
    let taken = r#"{"type":"error","code":"name_taken","message":"Taken."}"#;
    let request = host.answer("409 Conflict", taken).await;
    assert!(request.starts_with("POST /api/register ") && request.contains(r#""swarm-1""#));
    let token = format!(r#"{{"token":"{TOKEN}","expires_at":1700000000000}}"#);
    let request = host.answer("200 OK", &token).await;
    assert!(request.starts_with("POST /api/token ") && request.contains(r#""swarm-1""#));
    // Whether there is a server at all.
    assert_eq!(host.accept_token(TOKEN).await.0.closed().await, Some(1000));
    let (mut peer, _) = host.accept_token(TOKEN).await;
    peer.welcome_unasked().await;
    let stored = peer.store().await;
    let output = run.await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(stored > 0 && said.contains(&format!("stored {stored} ")), "{said}");
    assert!(said.starts_with("accounts: 1, all signed in after "), "{said}");
}
