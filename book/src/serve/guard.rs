//! Who may ask for the panels, and press their buttons: pages of this book, and nobody else's.
//!
//! Every website that a reader has open can send requests to 127.0.0.1. What it can't do is lie about
//! where it comes from: the browser writes `Origin` and `Sec-Fetch-Site`.

use warp::http::{HeaderMap, header};

/// Whether a request was addressed to us by one of our own names.
///
/// A foreign name that points to 127.0.0.1 (DNS rebinding) would make a foreign page look like ours.
pub fn is_addressed_to_us(headers: &HeaderMap, port: u16) -> bool {
    text(headers, header::HOST.as_str())
        .is_some_and(|host| our_hosts(port).contains(&host.to_owned()))
}

/// Whether a request comes from a page of the book.
pub fn is_from_our_page(headers: &HeaderMap, port: u16) -> bool {
    let Some(host) = text(headers, header::HOST.as_str()) else { return false };
    let origin = text(headers, header::ORIGIN.as_str());
    let site = text(headers, "sec-fetch-site");
    is_addressed_to_us(headers, port)
        && origin == Some(&format!("http://{host}"))
        && site.is_none_or(|site| site == "same-origin")
}

/// The name by which a request calls this machine, without the port.
pub fn host_name(headers: &HeaderMap) -> &str {
    let host = text(headers, header::HOST.as_str()).and_then(|host| host.rsplit_once(':'));
    host.map_or("127.0.0.1", |(name, _)| name)
}

fn our_hosts(port: u16) -> [String; 2] {
    [format!("127.0.0.1:{port}"), format!("localhost:{port}")]
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_of_the_book_may() {
        for host in ["127.0.0.1:3000", "localhost:3000"] {
            let origin = format!("http://{host}");
            let request = [("host", host), ("origin", &origin), ("sec-fetch-site", "same-origin")];
            assert!(is_from_our_page(&headers(&request), 3000));
        }
    }

    #[test]
    fn nobody_else_may() {
        let ours = ("origin", "http://127.0.0.1:3000");
        let host = ("host", "127.0.0.1:3000");
        for request in [
            vec![host],
            vec![ours],
            vec![host, ("origin", "https://evil.example")],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://localhost:3000")],
            vec![host, ("origin", "http://127.0.0.1:3002")],
            vec![host, ours, ("sec-fetch-site", "cross-site")],
            vec![host, ours, ("sec-fetch-site", "same-site")],
            vec![("host", "evil.example:3000"), ("origin", "http://evil.example:3000")],
        ] {
            assert!(!is_from_our_page(&headers(&request), 3000), "{request:?}");
        }
    }
}
