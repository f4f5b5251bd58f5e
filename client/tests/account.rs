//! Registering, signing in and signing out against a scripted server: what is asked, and what the
//! answers mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails, in its helpers, too"
)]

mod scripted;

use std::time::Duration;

use client::{Error, Token, account};
use scripted::{Host, TOKEN, nobody};

const PASSWORD: &str = "correct horse";

/// What comes of signing in with a server that answers so.
async fn sign_in(status: &str, body: &str) -> Result<Token, Error> {
    let host = Host::open().await;
    let url = host.url();
    tokio::join!(account::token(&url, "ada", PASSWORD), host.answer(status, body)).0
}

#[tokio::test]
async fn a_token_is_asked_for_with_name_and_password() {
    let host = Host::open().await;
    let url = host.url();
    let answer = format!(r#"{{"token":"{TOKEN}","expires_at":1700000000000}}"#);
    let (token, request) =
        tokio::join!(account::token(&url, "ada", PASSWORD), host.answer("200 OK", &answer));
    assert_eq!(token.unwrap().as_str(), TOKEN);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/token HTTP/1.1\r\nHost: 127.0.0.1:"), "{head}");
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    assert_eq!(body, r#"{"name":"ada","password":"correct horse"}"#);
}

#[tokio::test]
async fn registering_gives_the_name_as_everyone_sees_it() {
    let host = Host::open().await;
    let url = host.url();
    let (name, request) = tokio::join!(
        account::register(&url, "Ada", PASSWORD),
        host.answer("201 Created\r\nset-cookie: session=x", r#"{"name":"ada"}"#)
    );
    assert_eq!(name.unwrap(), "ada");
    assert!(request.starts_with("POST /api/register HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn signing_out_shows_the_token_and_takes_no_content_for_a_yes() {
    let host = Host::open().await;
    let (url, token) = (host.url(), Token::new(TOKEN));
    let (done, request) =
        tokio::join!(account::logout(&url, &token), host.answer("204 No Content", ""));
    done.unwrap();
    assert!(request.starts_with("POST /api/logout HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nAuthorization: Bearer {TOKEN}\r\n")), "{request}");
}

#[tokio::test]
async fn a_no_comes_as_the_servers_own_sentence() {
    let body =
        r#"{"type":"error","code":"rate_limited","message":"Too often.","retry_after":1500}"#;
    let error = sign_in("429 Too Many Requests\r\nretry-after: 2", body).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not let us in: Too often. (rate_limited)");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    assert!(error.is_passing() && !error.wants_sign_in());

    let body = r#"{"type":"error","code":"unauthorized","message":"Wrong."}"#;
    let error = sign_in("401 Unauthorized", body).await.unwrap_err();
    assert!(error.wants_sign_in() && !error.is_passing(), "{error}");
}

#[tokio::test]
async fn a_server_without_accounts_is_told_so() {
    for status in ["404 Not Found", "405 Method Not Allowed"] {
        let said = sign_in(status, "").await.unwrap_err().to_string();
        let wanted = "it has no accounts; they come with milestone 5 (no_accounts)";
        assert_eq!(said, format!("the server does not let us in: {wanted}"));
    }
}

#[tokio::test]
async fn trouble_on_the_way_is_one_sentence_each() {
    let error = sign_in("502 Bad Gateway\r\nretry-after: 7", "<html>").await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let said = error.to_string();
    assert!(
        said.contains("/api/token was refused with HTTP 502: the server, or a proxy"),
        "{said}"
    );

    let said = sign_in("200 OK", r#"{"name":"ada"}"#).await.unwrap_err().to_string();
    assert!(said.contains("(its answer lacks what was asked for)"), "{said}");

    let host = Host::open().await;
    let url = host.url();
    let (token, _request) = tokio::join!(
        account::token(&url, "ada", PASSWORD),
        host.answer_raw("220 mail.example ESMTP\r\n")
    );
    let said = token.unwrap_err().to_string();
    assert!(said.contains("does not answer like a chat (its answer is not HTTP)"), "{said}");

    let said = account::token(&nobody().await, "ada", PASSWORD).await.unwrap_err().to_string();
    assert!(said.starts_with("nobody is listening at 127.0.0.1:"), "{said}");
    let said = account::token("http://127.0.0.1:1", "ada", PASSWORD).await.unwrap_err().to_string();
    assert!(said.contains("it does not begin with ws://"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", silent.local_addr().unwrap());
    let error = account::token(&url, "ada", PASSWORD).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let long = "x".repeat(32 * 1024);
    let error = sign_in("200 OK", &long).await.unwrap_err().to_string();
    assert!(error.contains("(its answer is cut short)"), "{error}");
}
