//! The page: the files of the browser client, and the headers that protect whoever opens it.

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::fs::File;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// A filter that answers with the browser client of a milestone, as in `files("step02")`.
///
/// The files are read from disk at each request, so that a change shows with the next reload.
pub fn files(milestone: &str) -> BoxedFilter<(File,)> {
    warp::fs::dir(format!("{}/../client/web/{milestone}", env!("CARGO_MANIFEST_DIR"))).boxed()
}

/// The headers of every answer.
///
/// The policy lets the page run the scripts and styles of this server and nothing else: a script
/// that somebody smuggles into a message does not run. `frame_by` may show the page in a frame.
pub fn security_headers(frame_by: &[String]) -> HeaderMap {
    let policy = format!(
        "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'self' {}",
        frame_by.join(" ")
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    headers.into_iter().filter_map(|(name, value)| valid(name, value)).collect()
}

/// The settings have refused every origin that could not stand in a header, so none is left out.
fn valid(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(value).ok().map(|value| (name, value))
}
