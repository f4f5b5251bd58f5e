//! HTTP requests that are almost right.

use super::json;
use crate::chance::Chance;
use crate::load::door::{Account, PASSWORD};

/// Methods, with what is none.
const METHODS: [&str; 12] = [
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "get",
    "\u{1}\u{2}",
];

/// Paths, with those of the other port and those that there are not.
const PATHS: [&str; 40] = [
    "/",
    "/ws",
    "/ws/",
    "/ws/general",
    "/ws/staff",
    "/ws/nowhere",
    "/ws?session=x",
    "/ws?session=6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11",
    "/hello",
    "/hello/general",
    "/events",
    "/events?session=6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11&join=hall",
    "/events?join=hall,rust",
    "/events?join=%ff",
    "/events?join=rust/x/1",
    "/events/staff?join=dm:chaos0:chaos1",
    "/events?session=",
    "/api/register",
    "/api/login",
    "/api/token",
    "/api/logout",
    "/api/me",
    "/api/search",
    "/api/search?room=hall&q=hi",
    "/api/search?room=hall&q=%22",
    "/api/search?room=hall&q=NEAR(a%20b)&before=-1",
    "/api/search?room=hall&q=*&before=1",
    "/api/search?room=hall&q=a%00b",
    "/api/search?room=dm:healthy0:healthy1&q=hi",
    "/api/search?room=%ff&q=%fe",
    "/api/search?room=hall&q=-text:x%20OR%20(&ns=staff",
    "/metrics",
    "/livez",
    "/readyz",
    "/main.js",
    "/../Cargo.toml",
    "/%2e%2e/%2e%2e/etc/passwd",
    "*",
    "http://elsewhere/ws",
    "//",
];

/// Headers, each sent or not.
const HEADERS: [&str; 40] = [
    "Content-Type: application/json",
    "Content-Type: application/json; charset=utf-8",
    "Content-Type: text/plain",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type:",
    "Origin: https://evil.example",
    "Origin: null",
    "Origin: http://127.0.0.1:1",
    "Origin: \u{ff}",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-origin",
    "Cookie: session=x",
    "Cookie: session=",
    "Cookie: a=b; session-3005=0; ; =; session",
    "Cookie: \"session\"=\"x\"",
    "Authorization: Bearer",
    "Authorization: Bearer x",
    "Authorization: Basic YTpi",
    "Authorization: Bearer 6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11",
    "Last-Event-ID: hall/x/1",
    "Last-Event-ID: %ff",
    "Last-Event-ID: hall",
    "X-Forwarded-For: 1.2.3.4, x, ::1",
    "X-Forwarded-For:",
    "X-Forwarded-Proto: https",
    "Forwarded: for=\"[::1]\"",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Key: x",
    "Sec-WebSocket-Protocol: chat.v1, other",
    "Sec-WebSocket-Protocol: ,,",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Expect: 100-continue",
    "Accept: text/event-stream",
    "Accept-Encoding: gzip",
    "Range: bytes=0-0,5-",
    "TE: trailers",
];

/// Headers that say how long the body is, right or wrong.
const LENGTHS: [&str; 6] = [
    "Content-Length: 0",
    "Content-Length: 99999999999",
    "Content-Length: -1",
    "Content-Length: x",
    "Transfer-Encoding: chunked",
    "Content-Length: 5\r\nContent-Length: 6",
];

/// A request that is right, or wrong in one way or in many.
pub fn odd(chance: &mut Chance, host: &str, account: &Account) -> Vec<u8> {
    let path = chance.pick(&PATHS).copied().unwrap_or_default();
    let method = match chance.below(3) {
        0 => chance.pick(&METHODS).copied().unwrap_or_default(),
        _ => usual(path),
    };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    if chance.below(3) > 0 {
        let authorization = account.authorization();
        head.extend(authorization.map(|value| format!("Authorization: {value}\r\n")));
    }
    if chance.below(4) > 0 {
        head.push_str("Content-Type: application/json\r\nConnection: close\r\n");
    }
    for _ in 0..chance.below(4) {
        head.push_str(chance.pick(&HEADERS).copied().unwrap_or_default());
        head.push_str("\r\n");
    }
    let body = body(chance, account);
    let length = match chance.below(8) {
        0 => chance.pick(&LENGTHS).copied().unwrap_or_default().to_owned(),
        _ => format!("Content-Length: {}", body.len()),
    };
    let mut bytes = format!("{head}{length}\r\n\r\n").into_bytes();
    bytes.extend(body);
    if chance.below(10) == 0 {
        json::damage(&mut bytes, chance);
    }
    bytes
}

/// The method that a path is for; events are read and sent at the same one.
fn usual(path: &str) -> &'static str {
    let posts = ["/hello", "/api/register", "/api/login", "/api/token", "/api/logout"];
    let is_post = posts.iter().any(|post| path.starts_with(post));
    if is_post || path.ends_with("0d9a11") { "POST" } else { "GET" }
}

/// An event, somebody's name and password, nothing, or a chunk.
fn body(chance: &mut Chance, account: &Account) -> Vec<u8> {
    let name = &account.name;
    match chance.below(8) {
        0 => Vec::new(),
        1 => format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#).into_bytes(),
        2 => format!(r#"{{"name":"{name}","password":"wrong, but long"}}"#).into_bytes(),
        3 => {
            format!(r#"{{"name":"x{}","password":"{PASSWORD}"}}"#, chance.below(9999)).into_bytes()
        }
        4 => b"5\r\nhello\r\nffffffffffffffffff\r\n".to_vec(),
        5 => br#"{"type":"hello","name":"ada"}"#.to_vec(),
        _ => json::event(chance, true),
    }
}
