//! The book's two people at milestone 5: they get an account there, and a cookie for each panel.

use anyhow::{Context, Result};
use learn::serve::people::{Accounts, PEOPLE};
use tests::program::{Program, Running, Scratch};
use tests::raw;
use tokio::net::TcpStream;

async fn milestone() -> Result<Running> {
    Program::cargo_package("step05-production").start().await
}

fn accounts(server: &Running, folder: &Scratch) -> Result<Accounts> {
    Ok(Accounts::new(server.address().parse()?, &folder.path().join("password")))
}

/// Who the server says a cookie is.
async fn who_is(server: &Running, host: &str, cookie: &str) -> Result<String> {
    let shown = [("Cookie", cookie.split(';').next().context("no cookie")?)];
    let stream = TcpStream::connect(server.address()).await?;
    Ok(raw::request_on(stream, host, "GET", "/api/me", &shown, "").await?.body)
}

#[tokio::test]
async fn both_are_signed_in_also_after_a_restart_of_the_book() {
    let (server, folder) = (milestone().await.unwrap(), Scratch::new());
    for _ in 0..2 {
        let accounts = accounts(&server, &folder).unwrap();
        for (_, name) in PEOPLE {
            let cookie = accounts.sign_in(name, "127.0.0.1:4711").await.unwrap();
            assert!(cookie.starts_with("session-4711="), "{cookie}");
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let me = who_is(&server, "127.0.0.1:4711", &cookie).await.unwrap();
            assert_eq!(me, format!("{{\"name\":\"{name}\"}}"));
        }
    }
}

#[tokio::test]
async fn two_pages_that_open_at_once_are_both_signed_in() {
    let (server, folder) = (milestone().await.unwrap(), Scratch::new());
    let accounts = accounts(&server, &folder).unwrap();
    let both = tokio::join!(accounts.sign_in("ada", "a:1"), accounts.sign_in("ada", "a:1"));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}

#[tokio::test]
async fn an_account_of_somebody_else_is_one_sentence() {
    let server = milestone().await.unwrap();
    let theirs = accounts(&server, &Scratch::new()).unwrap();
    let ours = accounts(&server, &Scratch::new()).unwrap();
    theirs.sign_in("ada", "a:1").await.unwrap();
    let sentence = ours.sign_in("ada", "a:1").await.unwrap_err();
    assert!(sentence.to_string().contains("ada has another password"), "{sentence}");
}
