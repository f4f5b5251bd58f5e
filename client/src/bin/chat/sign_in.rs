// ANCHOR: all
//! Signing in, where the server has accounts: from a password to a token.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use client::{Error, Token, account};

use crate::arguments::Arguments;
use crate::password;

/// Where a password may be besides a file. It is not an option of the command line, which every
/// program on the machine can read.
const VARIABLE: &str = "CHAT_PASSWORD";

// ANCHOR: sign_in
/// Whether we were told to sign in before we have asked the server whether it wants that.
pub fn is_wanted(arguments: &Arguments) -> bool {
    arguments.sign_up || arguments.password_file.is_some() || from_environment().is_some()
}

/// Signs in; opens the account before, if that is wanted.
///
/// # Errors
/// A sentence that says what went wrong and what to do.
pub async fn sign_in(arguments: &Arguments) -> anyhow::Result<Token> {
    let Arguments { url, name, sign_up, .. } = arguments;
    let password = password(arguments).await?;
    let explain = |error| explain(error, name);
    if *sign_up {
        account::register(url, name, &password).await.map_err(explain)?;
    }
    account::token(url, name, &password).await.map_err(explain)
}

/// The password: out of a file, out of the environment, or from the person at the terminal.
async fn password(arguments: &Arguments) -> anyhow::Result<String> {
    if let Some(path) = &arguments.password_file {
        return from_file(path);
    }
    if let Some(password) = from_environment() {
        return Ok(password);
    }
    ensure!(
        password::can_ask(),
        "the server wants you to sign in: add --password-file FILE, or put the password into {VARIABLE}; --sign-up opens an account"
    );
    let (name, sign_up) = (arguments.name.clone(), arguments.sign_up);
    // It waits for a person, and a thread of the runtime must not.
    tokio::task::spawn_blocking(move || from_person(&name, sign_up)).await?
}
// ANCHOR_END: sign_in

/// The first line of a file, so that it does not matter whether an editor has ended it.
fn from_file(path: &Path) -> anyhow::Result<String> {
    let place = path.display();
    let text = fs::read_to_string(path)
        .with_context(|| format!("can't read the password in {place}"))
        .map_err(|error| anyhow!("{error:#}"))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "the first line of {place} has to be the password, and it is empty");
    Ok(line.to_owned())
}

fn from_environment() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|password| !password.is_empty())
}

fn from_person(name: &str, sign_up: bool) -> anyhow::Result<String> {
    if !sign_up {
        return password::ask(&format!("Password of {name}: "));
    }
    let first = password::ask(&format!("A password for {name}, 8 to 256 characters: "))?;
    let second = password::ask("The same again: ")?;
    ensure!(first == second, "these were two different passwords: nothing has been done");
    Ok(first)
}

// ANCHOR: explain
/// Why a server does not sign us in or up, and what to do.
fn explain(error: Error, name: &str) -> anyhow::Error {
    let Error::NotWelcome { code, message, retry_after } = &error else { return error.into() };
    match code.as_str() {
        "name_taken" | "bad_name" => name_refused(name, message),
        "bad_password" => anyhow!("the server does not take that password: {message}"),
        "unauthorized" => {
            anyhow!("there is no account {name:?} with that password; --sign-up opens one")
        }
        "rate_limited" => {
            let seconds = retry_after.map_or(60, |wait| wait.as_millis().div_ceil(1000));
            anyhow!("too many tries to sign in: try again in {seconds} s")
        }
        _ => error.into(),
    }
}

/// What to say where a name can't be had.
pub fn name_refused(name: &str, message: &str) -> anyhow::Error {
    anyhow!("the server does not take the name {name:?}: {message} Choose another one with --name.")
}
// ANCHOR_END: explain
// ANCHOR_END: all
