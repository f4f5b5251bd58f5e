// ANCHOR: all
//! `step05-production health`: asks the server on this machine whether it is alive. A container's
//! health check needs a program for that, and an image as small as ours has no other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the answer may take. Docker's and systemd's own limits are longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// As much of the answer as is looked at.
const FIRST_LINE: u64 = 64;

// ANCHOR: health
/// Asks the admin port for `/livez`.
///
/// # Errors
/// A sentence that says what came instead of 200.
pub async fn check(host: &str, port: u16) -> Result<String, String> {
    let host = reachable(host);
    let sick = |why: String| format!("not alive: the admin port, {port} on {host}, {why}");
    match timeout(PATIENCE, ask(&host, port)).await {
        Ok(Ok(line)) if line.contains(" 200 ") => Ok(format!("alive, says port {port} on {host}")),
        Ok(Ok(line)) => Err(sick(format!("answers \"{}\"", line.escape_default()))),
        Ok(Err(error)) => Err(sick(format!("does not answer: {error}"))),
        Err(_elapsed) => Err(sick(format!("has not answered for {} s", PATIENCE.as_secs()))),
    }
}

/// Sends the request, and reads the first line of the answer.
async fn ask(host: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(FIRST_LINE).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// One can listen on all addresses (`0.0.0.0` or `::`), but has to ask at one of them.
fn reachable(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.to_string(),
        _ => host.to_owned(),
    }
}
// ANCHOR_END: health

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers one request with this.
    async fn answers(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /livez HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_server_that_says_200_is_alive() {
        let port = answers("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nalive\n").await;
        let said = check("0.0.0.0", port).await.unwrap();
        assert_eq!(said, format!("alive, says port {port} on 127.0.0.1"));
    }

    #[tokio::test]
    async fn any_other_answer_is_one_sentence() {
        for (answer, sentence) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answers \"HTTP/1.1 503"),
            ("\u{1b}[2J", "answers \"\\u{1b}[2J\""),
            ("", "answers \"\""),
        ] {
            let port = answers(answer).await;
            let said = check("127.0.0.1", port).await.unwrap_err();
            assert!(said.contains(sentence) && said.lines().count() == 1, "{said}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_one_sentence() {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let said = check("127.0.0.1", port).await.unwrap_err();
        assert!(said.contains("does not answer") && said.lines().count() == 1, "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = check("127.0.0.1", port).await.unwrap_err();
        assert!(said.contains("has not answered for 3 s"), "{said}");
    }
}
// ANCHOR_END: all
