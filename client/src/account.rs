// ANCHOR: all
//! Who we are: an account with a name and a password, and the token that stands for it.
//!
//! A program signs in once, by a plain HTTP request, and gets a [`Token`]. With that in its
//! [`Options`](crate::Options) each handshake says who it is, and the password can be forgotten.
//!
//! ```no_run
//! use client::{Session, Settings, account};
//!
//! # async fn sign_in() -> Result<(), client::Error> {
//! let url = "ws://127.0.0.1:3005/ws";
//! account::register(url, "ada", "a long password").await?;
//! let token = account::token(url, "ada", "a long password").await?;
//! let session = Session::open(Settings::with_token(url, token), "ada");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::io;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::connection::{Target, in_seconds, reach, target};
use crate::error::Error;
use crate::protocol::{self, ServerEvent};

/// How long a request may take, with the connection and the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that we take, in bytes. They have less than one KiB.
const MAX_ANSWER: u64 = 16 * 1024;

/// How many header lines an answer may have.
const MAX_HEADERS: usize = 64;

// ANCHOR: token
/// What signs a program in. Whoever has it is that user, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from an earlier run.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text, to keep it where nobody else can read it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> Result<HeaderValue, Error> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0));
        let mut value = value.map_err(|_| Error::BadToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
// ANCHOR_END: token

// ANCHOR: requests
/// The body of most requests. It has no `Debug`, so that a password can't get into a log.
#[derive(Serialize)]
struct Credentials<'a> {
    name: &'a str,
    password: &'a str,
}

/// Opens an account with the server whose WebSocket has this URL. Gives the name as everyone will
/// see it.
///
/// # Errors
/// The server does not take the name or the password ([`Error::NotWelcome`]), or can't be reached.
pub async fn register(url: &str, name: &str, password: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Registered {
        name: String,
    }
    let answer = post(url, "/api/register", &json(name, password), None).await?;
    answer.read().map(|Registered { name }| name)
}

/// Signs in.
///
/// # Errors
/// Name and password don't fit or were tried too often ([`Error::NotWelcome`]), or the server can't
/// be reached.
pub async fn token(url: &str, name: &str, password: &str) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Issued {
        token: String,
    }
    let answer = post(url, "/api/token", &json(name, password), None).await?;
    answer.read().map(|Issued { token }| Token(token))
}

/// Signs out. The server forgets the token, and closes the connections that were opened with it.
///
/// # Errors
/// The token was not valid, or the server can't be reached.
pub async fn logout(url: &str, token: &Token) -> Result<(), Error> {
    post(url, "/api/logout", "", Some(token)).await.map(|_answer| ())
}

fn json(name: &str, password: &str) -> String {
    // Strings always have a JSON form: the default is never used.
    serde_json::to_string(&Credentials { name, password }).unwrap_or_default()
}
// ANCHOR_END: requests

// ANCHOR: http
/// An answer that says yes.
struct Answer {
    address: String,
    body: Vec<u8>,
}

impl Answer {
    /// Reads the JSON in it.
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let problem = "its answer lacks what was asked for";
        serde_json::from_slice(&self.body)
            .map_err(|_| Error::BadAnswer { address: self.address, problem })
    }
}

/// Sends a request, and waits for an answer that says yes.
///
/// This is as much HTTP as these requests take: one to a connection, and where the server ends the
/// connection, its answer ends.
async fn post(url: &str, path: &str, body: &str, token: Option<&Token>) -> Result<Answer, Error> {
    let Target { address, .. } = target(url)?;
    let request = request(&address, path, body, token)?;
    let exchange = timeout(PATIENCE, exchange(&address, &request)).await;
    let bytes = exchange.unwrap_or(Err(Error::NoAnswer { limit: PATIENCE }))?;
    match parse(&bytes) {
        Ok(reply) if (200..300).contains(&reply.status) => {
            Ok(Answer { address, body: reply.body.to_vec() })
        }
        Ok(reply) => Err(refusal(format!("http://{address}{path}"), &reply)),
        Err(problem) => Err(Error::BadAnswer { address, problem }),
    }
}

fn request(address: &str, path: &str, body: &str, token: Option<&Token>) -> Result<String, Error> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if let Some(token) = token {
        let value = token.header()?;
        let value = value.to_str().map_err(|_| Error::BadToken)?;
        head += &format!("Authorization: {value}\r\n");
    }
    let length = body.len();
    head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    Ok(head + "\r\n" + body)
}

/// Sends a request on a connection of its own, and takes what comes until its end.
async fn exchange(address: &str, request: &str) -> Result<Vec<u8>, Error> {
    let lost = |error: io::Error| Error::Lost { problem: error.to_string() };
    let mut stream = reach(address).await?;
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut bytes = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut bytes).await {
        Err(error) if bytes.is_empty() => Err(lost(error)),
        // A server that says no before it has read everything may cut the wire after its answer.
        Ok(_) | Err(_) => Ok(bytes),
    }
}

/// The parts of an answer that we look at.
#[derive(Debug, PartialEq, Eq)]
struct Reply<'a> {
    status: u16,
    retry_after: Option<Duration>,
    body: &'a [u8],
}

/// Takes an answer apart, or says what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Reply<'_>, &'static str> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let Ok(Status::Complete(start)) = response.parse(bytes) else {
        return Err("its answer is not HTTP");
    };
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(header.value).ok()
    };
    let status = response.code.ok_or("its answer has no status")?;
    let body = bytes.get(start..).unwrap_or_default();
    if header("transfer-encoding").is_some() {
        return Err("its answer comes in chunks");
    }
    if header("content-length").is_some_and(|length| length.parse() != Ok(body.len())) {
        return Err("its answer is cut short");
    }
    Ok(Reply { status, retry_after: header("retry-after").and_then(in_seconds), body })
}

/// What an answer means that says no.
fn refusal(url: String, reply: &Reply<'_>) -> Error {
    let said = str::from_utf8(reply.body).ok().and_then(|json| protocol::decode(json).ok());
    match (said, reply.status) {
        (Some(ServerEvent::Error { code, message, retry_after, .. }), _) => {
            let retry_after = retry_after.map(Duration::from_millis).or(reply.retry_after);
            Error::NotWelcome { code, message, retry_after }
        }
        (_, 404 | 405) => {
            let message = "it has no accounts; they come with milestone 5".to_owned();
            Error::NotWelcome { code: "no_accounts".to_owned(), message, retry_after: None }
        }
        (_, status) => Error::Refused { url, status, retry_after: reply.retry_after },
    }
}
// ANCHOR_END: http

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let token = Token::new("5ec2e7");
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(format!("{:?}", token.header().unwrap()), "Sensitive");
        assert!(matches!(Token::new("two\r\nlines").header(), Err(Error::BadToken)));
    }

    #[test]
    fn a_request_says_how_long_it_is_and_who_asks() {
        let asked = request("[::1]:3005", "/api/logout", "", Some(&Token::new("5ec2e7"))).unwrap();
        let wanted = "POST /api/logout HTTP/1.1\r\nHost: [::1]:3005\r\nConnection: close\r\n\
            Authorization: Bearer 5ec2e7\r\nContent-Type: application/json\r\n\
            Content-Length: 0\r\n\r\n";
        assert_eq!(asked, wanted);
        let body = json("ada", "\"é");
        let asked = request("localhost:80", "/api/token", &body, None).unwrap();
        assert!(
            asked.ends_with(
                "\r\nContent-Length: 32\r\n\r\n{\"name\":\"ada\",\"password\":\"\\\"é\"}"
            )
        );
    }

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 429 No\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\n{}";
        let retry_after = Some(Duration::from_secs(2));
        assert_eq!(parse(whole), Ok(Reply { status: 429, retry_after, body: b"{}" }));
        let short = &whole[..whole.len() - 1];
        assert_eq!(parse(short), Err("its answer is cut short"));
        assert_eq!(parse(&whole[..20]), Err("its answer is not HTTP"));
        assert_eq!(parse(b"220 mail.example ESMTP\r\n"), Err("its answer is not HTTP"));
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(parse(chunks), Err("its answer comes in chunks"));
        let empty = Reply { status: 204, retry_after: None, body: b"" };
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(empty));
    }
}
// ANCHOR_END: all
