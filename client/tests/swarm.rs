//! The program `swarm`, as far as it can be seen without a server of milestone 4.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails, in its helpers, too"
)]

use std::process::{Command, Output};

fn swarm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_swarm")).args(arguments).output().unwrap()
}

#[test]
fn help_reads_as_documentation() {
    let output = swarm(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in ["--clients <N>", "--cut", "--yes-remote", "Examples:", "ulimit", "Exit code:"] {
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
    let output = swarm(&["--url", &format!("ws://{address}/ws")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("swarm: nobody is listening at 127.0.0.1:"), "{said}");
}
