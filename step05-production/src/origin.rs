// ANCHOR: all
//! Which web pages may use this server.
//!
//! A browser lets any page of any site send requests to any server, with the visitor's cookies, and
//! sends the page's origin along. It is the server's job to look at it:
//! [RFC 6455, section 10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2).

use std::net::IpAddr;
use std::sync::Arc;

use warp::reject::{Reject, Rejection};
use warp::{Filter, reject};

/// The page that asked belongs to another site.
#[derive(Debug)]
pub struct ForeignOrigin;

impl Reject for ForeignOrigin {}

/// A filter that lets a request pass if its page may ask, and rejects it with [`ForeignOrigin`] if not.
pub fn check(allowed: Arc<[String]>) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::header::optional("origin")
        .and(warp::header::optional("host"))
        .and(warp::header::optional("sec-fetch-site"))
        .and_then(move |origin: Option<String>, host: Option<String>, site: Option<String>| {
            let (origin, host, site) = (origin.as_deref(), host.as_deref(), site.as_deref());
            let welcome = is_listed(origin, &allowed) || (is_own(origin, host) && is_near(site));
            async move { if welcome { Ok(()) } else { Err(reject::custom(ForeignOrigin)) } }
        })
        .untuple_one()
}

// ANCHOR: who
/// Whether the page is on the list, to the letter.
fn is_listed(origin: Option<&str>, allowed: &[String]) -> bool {
    origin.is_some_and(|origin| allowed.iter().any(|site| site == origin))
}

/// Whether this server served the page, on this machine. Programs have no page.
///
/// In milestone 4 it was enough that the page's origin was that of the request's `Host`. But a
/// domain may point to any address, ours included, and then both headers have the stranger's name
/// ("DNS rebinding").
fn is_own(origin: Option<&str>, host: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some() && authority == host && host.is_some_and(is_loopback)
}
// ANCHOR_END: who

/// Whether a browser says that no other site is behind the request. It leaves the origin out of some
/// requests, but not this word: [Fetch Metadata](https://www.w3.org/TR/fetch-metadata/). Programs
/// don't say it.
fn is_near(site: Option<&str>) -> bool {
    site.is_none_or(|site| site == "same-origin" || site == "none")
}

/// Whether a host, with or without a port, is this machine by a name that nobody can own.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(origin: &str) -> bool {
        let origin = Some(origin);
        is_listed(origin, &["https://chat.example".to_owned()])
            || is_own(origin, Some("127.0.0.1:3005"))
    }

    #[test]
    fn own_pages_and_listed_sites_may_ask() {
        assert!(asks("http://127.0.0.1:3005"));
        assert!(asks("https://chat.example"));
        assert!(is_own(Some("http://localhost"), Some("localhost")));
        assert!(is_own(Some("http://[::1]:3005"), Some("[::1]:3005")));
        assert!(is_own(None, Some("chat.example")), "a program");
    }

    #[test]
    fn everyone_else_may_not() {
        let others = [
            "null",
            "",
            "http://127.0.0.1:3003",
            "http://127.0.0.1:3005.example",
            "HTTP://127.0.0.1:3005",
            "https://chat.example.org",
            "https://chat.example.",
            "https://chat.example:444",
            "https://CHAT.example",
        ];
        for origin in others {
            assert!(!asks(origin), "{origin}");
        }
    }

    #[test]
    fn a_stranger_whose_name_points_here_may_not() {
        for host in ["evil.example:3005", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_own(Some(&format!("http://{host}")), Some(host)), "{host}");
        }
    }

    #[test]
    fn other_sites_are_not_near() {
        assert!(is_near(None) && is_near(Some("same-origin")) && is_near(Some("none")));
        assert!(!is_near(Some("cross-site")) && !is_near(Some("same-site")));
    }
}
// ANCHOR_END: all
