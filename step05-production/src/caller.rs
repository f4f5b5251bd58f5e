// ANCHOR: all
//! Who is asking: a browser shows the cookie that it got when it signed in, a program its token.
//!
//! A token stands in headers and nowhere else. What stands in an address ends up in logs, in the
//! browser's history and in the headers of other requests.

use std::time::Duration;

use uuid::Uuid;
use warp::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use warp::http::{HeaderMap, HeaderName};
use warp::reject::{Reject, Rejection};
use warp::{Filter, reject};

use crate::accounts::{Accounts, SignedIn, Token};
use crate::log::{Answer, Unavailable};

/// A cookie of this name comes from this very host, over TLS: browsers see to it.
const SECURE_COOKIE: &str = "__Host-session";

/// The request has no token, or one that signs nobody in.
#[derive(Debug)]
pub struct NotSignedIn;

impl Reject for NotSignedIn {}

/// Nobody knows at the moment who is asking.
#[derive(Debug)]
pub struct NotKnown;

impl Reject for NotKnown {}

// ANCHOR: filter
/// A filter that finds out who is asking, and rejects a request with [`NotSignedIn`] if nobody is
/// signed in, and with [`NotKnown`] if that can't be read.
pub fn signed_in(
    accounts: Accounts,
) -> impl Filter<Extract = (SignedIn,), Error = Rejection> + Clone {
    asking(accounts).and_then(|who: Answer<SignedIn>| async move {
        who.map_err(|Unavailable| reject::custom(NotKnown))
    })
}

/// The same, for who has an answer of their own where it can't be read.
pub fn asking(
    accounts: Accounts,
) -> impl Filter<Extract = (Answer<SignedIn>,), Error = Rejection> + Clone {
    warp::header::headers_cloned().and_then(move |headers: HeaderMap| {
        let accounts = accounts.clone();
        async move {
            let token = token(&headers).ok_or_else(|| reject::custom(NotSignedIn))?;
            let signed_in = accounts.signed_in(&token).await.transpose();
            signed_in.ok_or_else(|| reject::custom(NotSignedIn))
        }
    })
}
// ANCHOR_END: filter

// ANCHOR: token
/// The token of a request: a program's or, if there is none, the one in the browser's cookie.
pub fn token(headers: &HeaderMap) -> Option<String> {
    let bearer = bearer(headers);
    // A UUID names a session of the fallback. It signs nobody in.
    let program = bearer.filter(|value| Uuid::try_parse(value).is_err());
    if let Some(token) = program {
        return Some(token.to_owned());
    }
    let secure = cookie(headers, SECURE_COOKIE);
    let plain = || cookie(headers, &plain_name(headers));
    let token = if is_https_page(headers) { secure } else { secure.or_else(plain) };
    token.map(str::to_owned)
}

/// What stands behind `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, value) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(value.trim())
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(other, _)| other.trim() == name).map(|(_, value)| value.trim())
}
// ANCHOR_END: token

// ANCHOR: cookie
/// The cookie that signs a browser in. Scripts can't read it, and other sites can't have it sent.
pub fn set_cookie(headers: &HeaderMap, secure: bool, token: &Token, max: Duration) -> String {
    write_cookie(headers, secure, token.as_str(), max.as_secs())
}

/// The cookie that makes a browser forget it.
pub fn clear_cookie(headers: &HeaderMap, secure: bool) -> String {
    write_cookie(headers, secure, "", 0)
}

fn write_cookie(headers: &HeaderMap, secure: bool, value: &str, max_age: u64) -> String {
    let name = if secure { SECURE_COOKIE.to_owned() } else { plain_name(headers) };
    let only_tls = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{only_tls}")
}

/// The name of the cookie without TLS. Browsers send a cookie to all ports of a host, so the name
/// has the port: two servers on one machine do not sign each other's users out.
fn plain_name(headers: &HeaderMap) -> String {
    let port = text(headers, &HOST).and_then(|host| host.rsplit_once(':'));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) => format!("session-{port}"),
        None => "session".to_owned(),
    }
}

/// Whether the browser speaks TLS: the page has an `https` address, or the proxy says so.
pub fn is_secure(headers: &HeaderMap, by_trusted_proxy: bool) -> bool {
    let protocols = headers.get_all("x-forwarded-proto").iter().next_back();
    let last = protocols.and_then(|line| line.to_str().ok()?.rsplit(',').next());
    let says_https = last.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"));
    is_https_page(headers) || (by_trusted_proxy && says_https)
}

fn is_https_page(headers: &HeaderMap) -> bool {
    text(headers, &ORIGIN).is_some_and(|origin| origin.starts_with("https://"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
// ANCHOR_END: cookie

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter();
        lines.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn found(lines: &[(&'static str, &str)]) -> Option<String> {
        token(&headers(lines))
    }

    #[test]
    fn a_program_shows_its_token_and_a_browser_its_cookie() {
        let host = ("host", "127.0.0.1:3005");
        let cookie = ("cookie", "theme=dark; session-3005=c00c1e; session-80=0");
        assert_eq!(found(&[host, ("authorization", "Bearer 70cen")]).as_deref(), Some("70cen"));
        assert_eq!(found(&[host, ("authorization", "bearer  70cen")]).as_deref(), Some("70cen"));
        assert_eq!(found(&[host, cookie]).as_deref(), Some("c00c1e"));
        let both = found(&[host, cookie, ("authorization", "Bearer 70cen")]);
        assert_eq!(both.as_deref(), Some("70cen"));
        assert_eq!(found(&[host, ("authorization", "Basic YTpi")]), None);
        assert_eq!(found(&[("host", "127.0.0.1:3006"), cookie]), None);
    }

    #[test]
    fn the_id_of_a_fallback_session_is_no_token() {
        let id = format!("Bearer {}", Uuid::nil());
        let lines = [("host", "chat.example"), ("authorization", id.as_str())];
        assert_eq!(found(&lines), None);
        let lines = [lines[0], lines[1], ("cookie", "session=c00c1e")];
        assert_eq!(found(&lines).as_deref(), Some("c00c1e"));
    }

    #[test]
    fn a_page_over_tls_has_a_cookie_that_nobody_else_can_have_set() {
        let (host, https) = (("host", "chat.example"), ("origin", "https://chat.example"));
        let cookies = ("cookie", "session=f00; __Host-session=c00c1e");
        assert_eq!(found(&[host, https, cookies]).as_deref(), Some("c00c1e"));
        assert_eq!(found(&[host, cookies]).as_deref(), Some("c00c1e"));
        assert_eq!(found(&[host, https, ("cookie", "session=f00")]), None);
    }

    #[test]
    fn a_cookie_is_named_by_the_port_and_secure_behind_tls() {
        let name = |host: &str| plain_name(&headers(&[("host", host)]));
        assert_eq!(name("127.0.0.1:3005"), "session-3005");
        assert_eq!(name("[::1]:3005"), "session-3005");
        assert_eq!(name("[::1]"), "session");
        assert_eq!(name("chat.example"), "session");
        assert_eq!(name("chat.example:x;y"), "session");
        let plain = clear_cookie(&headers(&[("host", "a:1")]), false);
        assert_eq!(plain, "session-1=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
        let secure = clear_cookie(&headers(&[("host", "a")]), true);
        assert_eq!(secure, "__Host-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure");
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_trusted() {
        let https = headers(&[("x-forwarded-proto", "http, https")]);
        assert!(is_secure(&https, true));
        assert!(!is_secure(&https, false));
        assert!(!is_secure(&headers(&[("x-forwarded-proto", "https, http")]), true));
        assert!(is_secure(&headers(&[("origin", "https://chat.example")]), false));
        assert!(!is_secure(&headers(&[("origin", "http://127.0.0.1:3005")]), true));
    }
}
// ANCHOR_END: all
