//! What milestone 5 reads from strangers, each with what has to hold whatever comes.
//!
//! Used twice: by the fuzz targets, which look for input that reaches new code, and by a test of
//! milestone 5, which plays the seeds and what chance makes of them on every run.

#![allow(dead_code, reason = "each fuzz target uses one of them")]

use step05_production::caller;
use step05_production::conversation;
use step05_production::lookalikes::{is_reserved, looks};
use step05_production::names;
use step05_production::places::Places;
use step05_production::protocol::{self, ClientEvent};
use warp::http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};

/// A text frame.
pub fn event(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    match protocol::decode(json) {
        Ok(event) => obey(&event),
        Err(error) => {
            let answer = protocol::encode(&error);
            assert!(answer.starts_with(r#"{"type":"error","code":""#), "{answer}");
        }
    }
}

/// What is done with the texts of an event, before anybody else sees them.
fn obey(event: &ClientEvent) {
    match event {
        ClientEvent::Join { room, .. } | ClientEvent::Typing { room } => partner(room),
        ClientEvent::Message { text, room, .. } => {
            partner(room);
            trim(text);
        }
        ClientEvent::Direct { to, text, .. } => {
            partner(&conversation::between("ada", to));
            trim(text);
        }
        _ => {}
    }
}

/// Whoever has a conversation with somebody is found in its name.
fn partner(room: &str) {
    if let Ok(Some(partner)) = conversation::partner(room, "ada") {
        assert_eq!(conversation::between("ada", &partner), room);
        assert_eq!(conversation::partner(room, &partner), Ok(Some("ada".to_owned())));
    }
}

/// A trimmed text stays as it is.
fn trim(text: &str) {
    if let Ok(text) = protocol::trim(text) {
        assert_eq!(protocol::trim(&text), Ok(text));
    }
}

/// The `join` of an address, or a `Last-Event-ID`.
pub fn places(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(places) = text.parse::<Places>() else { return };
    let written = places.to_string();
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written}");
    assert_eq!(written.parse(), Ok(places), "{written}");
}

/// A name that somebody would like to have.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(name) = names::normalize(text) else { return };
    assert_eq!(names::normalize(&name).as_deref(), Ok(name.as_str()), "{text:?}");
    assert!((1..=32).contains(&name.chars().count()), "{name}");
    for same in [names::key(&name), name.to_uppercase()] {
        assert!(is_taken_by(&same, &name), "{same} is not {name}");
        assert_eq!(is_reserved(&same), is_reserved(&name), "{same} and {name}");
    }
}

/// Whether somebody with a name keeps others from having another one.
fn is_taken_by(other: &str, name: &str) -> bool {
    let (other_looks, looks) = (looks(other), looks(name));
    names::key(other) == names::key(name) || looks.iter().any(|look| other_looks.contains(look))
}

/// The headers of a request that say who it comes from, one a line.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii_start())) {
            headers.append(name, value);
        }
    }
    let bearer = caller::bearer(&headers);
    assert!(bearer.is_none_or(|value| value == value.trim()), "{bearer:?}");
    let _no_panic = (caller::token(&headers), caller::is_secure(&headers, true));
    for secure in [false, true] {
        cookie(&headers, secure);
    }
}

/// The cookie for a request is one cookie, and is found when it comes back.
fn cookie(request: &HeaderMap, secure: bool) {
    let cookie = caller::clear_cookie(request, secure);
    let (name, rest) = cookie.split_once('=').unwrap_or_default();
    assert!(
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
        "{cookie}"
    );
    assert!(rest.starts_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"), "{cookie}");
    let mut next = HeaderMap::new();
    next.extend(request.get(HOST).map(|host| (HOST, host.clone())));
    let pair = HeaderValue::from_str(&format!("a=b; {name}=c00c1e")).ok();
    next.extend(pair.map(|pair| (COOKIE, pair)));
    assert_eq!(caller::token(&next).as_deref(), Some("c00c1e"), "{next:?}");
}
