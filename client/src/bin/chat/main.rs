//! `chat`: the chat in a terminal.
//!
//! A message's way through it, there and back:
//!
//! - `arguments`: which server, and under which name;
//! - `sign_in` and `password`: who that is, where the server has accounts;
//! - `console`: where a line is typed, or comes out of a pipe;
//! - `command`: what the line asks for;
//! - `view`: what this client knows, and so which event to send. The library takes it from here;
//! - `conversation`: the loop that carries lines there and events back;
//! - `resilient`: the same with a server that keeps sessions, over as many connections as it takes;
//! - `display`: how an event becomes a line on the screen.

mod arguments;
mod command;
mod console;
mod conversation;
mod display;
mod password;
mod resilient;
mod sign_in;
mod view;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match conversation::run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // The program that read our lines has seen enough of them: `chat … | head -3`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {}", display::clean(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
