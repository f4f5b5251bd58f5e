//! Which web pages may open a WebSocket here.
//!
//! A browser lets any page of any site connect to any server, and sends the page's origin along.
//! It is the server's job to look at it: [RFC 6455, section 10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2).

use std::sync::Arc;

use warp::reject::{Reject, Rejection};
use warp::{Filter, reject};

/// The page that asked belongs to another site.
#[derive(Debug)]
pub struct ForeignOrigin;

impl Reject for ForeignOrigin {}

/// A filter that lets a request pass if its page may connect, and rejects it with [`ForeignOrigin`] if not.
pub fn check(allowed: Arc<[String]>) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::header::optional("origin")
        .and(warp::header::optional("host"))
        .and_then(move |origin: Option<String>, host: Option<String>| {
            let welcome = may_connect(origin.as_deref(), host.as_deref(), &allowed);
            async move { if welcome { Ok(()) } else { Err(reject::custom(ForeignOrigin)) } }
        })
        .untuple_one()
}

/// Programs send no origin and may connect; a page may if this server served it, or if it is on the list.
fn may_connect(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let own_page = authority.is_some() && authority == host;
    own_page || allowed.iter().any(|site| site == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(origin: &str) -> bool {
        may_connect(Some(origin), Some("127.0.0.1:3002"), &["https://chat.example".to_owned()])
    }

    #[test]
    fn own_pages_listed_sites_and_programs_may_connect() {
        assert!(asks("http://127.0.0.1:3002"));
        assert!(asks("https://chat.example"));
        assert!(may_connect(None, Some("127.0.0.1:3002"), &[]));
    }

    #[test]
    fn everyone_else_may_not() {
        let others = [
            "null",
            "",
            "http://127.0.0.1:3003",
            "http://127.0.0.1:3002.example",
            "https://chat.example.org",
        ];
        for origin in others {
            assert!(!asks(origin), "{origin}");
        }
    }
}
