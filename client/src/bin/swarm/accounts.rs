// ANCHOR: all
//! Accounts for the clients, where the server wants some: all are signed in before the first client
//! begins.

use client::{Error, Token, account};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::arguments::Arguments;

/// The password of all of them. It is no secret, so don't run a swarm on a server that people use.
const PASSWORD: &str = "a swarm has one password";

/// How many sign in at a time. Each costs the server 20 ms of work, on as many cores as it has.
const TOGETHER: usize = 4;

/// Signs in the accounts `swarm-1`, `swarm-2` and so on, and opens those that are new. None, if the
/// clients are to say hello.
///
/// # Errors
/// The server does not take one of them, or can't be reached.
pub async fn sign_in(arguments: &Arguments) -> Result<Vec<Token>, Error> {
    let signing_in = (1..=arguments.accounts_needed()).map(|number| sign_in_one(arguments, number));
    stream::iter(signing_in).buffered(TOGETHER).try_collect().await
}

async fn sign_in_one(arguments: &Arguments, number: usize) -> Result<Token, Error> {
    let (url, name) = (&arguments.url, format!("swarm-{number}"));
    match account::register(url, &name, PASSWORD).await {
        // From an earlier swarm.
        Err(Error::NotWelcome { code, .. }) if code == "name_taken" => {}
        registered => _ = registered?,
    }
    account::token(url, &name, PASSWORD).await
}
// ANCHOR_END: all
