//! The library against a scripted server: what comes through, how it ends, and what the errors say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails, in its helpers, too"
)]

mod scripted;

use std::time::Duration;

use client::{ClientEvent, Close, Connection, Error, Options, ServerEvent, Token};
use scripted::{Host, PATIENCE, SESSION, TOKEN, nobody, raw_server, server};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

fn hello() -> ClientEvent {
    ClientEvent::hello("ada")
}

fn left(room: &str) -> ServerEvent {
    ServerEvent::Left { room: room.into() }
}

async fn next(connection: &mut Connection) -> Result<Option<ServerEvent>, Error> {
    timeout(PATIENCE, connection.next()).await.expect("nothing came")
}

async fn sentence(url: &str, options: &Options) -> String {
    Connection::open_with(url, options).await.expect_err("it opened").to_string()
}

#[tokio::test]
async fn hello_is_answered_by_welcome() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.closed().await
    })
    .await;
    let mut connection = Connection::open(&url).await.unwrap();
    connection.send(&hello()).await.unwrap();
    let welcome = next(&mut connection).await.unwrap().unwrap();
    assert!(
        matches!(welcome, ServerEvent::Welcome { name, users: None, .. } if name == "ada"),
        "a server with rooms"
    );
    connection.close().await.unwrap();
    assert_eq!(script.await.unwrap(), Some(1000));
    assert_eq!(connection.closed().map(|close| close.code), Some(1000));
}

#[tokio::test]
async fn unknown_events_and_bad_ones_do_not_end_a_connection() {
    let (url, _script) = server(async |mut peer| {
        peer.send(r#"{"type":"weather","sun":true}"#).await;
        peer.send("not JSON").await;
        peer.send_raw(Message::binary(vec![0, 255])).await;
        peer.send_raw(Message::Ping("are you there?".into())).await;
        peer.send(r#"{"type":"left","room":"rust"}"#).await;
        peer.closed().await
    })
    .await;
    let mut connection = Connection::open(&url).await.unwrap();
    assert_eq!(next(&mut connection).await.unwrap(), Some(ServerEvent::Unknown));
    let error = next(&mut connection).await.unwrap_err().to_string();
    assert!(error.starts_with("the server sent something that is not an event I can read"));
    assert!(error.ends_with(": not JSON"), "{error}");
    let error = next(&mut connection).await.unwrap_err();
    assert!(matches!(error, Error::BadEvent { .. }), "{error:?}");
    assert_eq!(next(&mut connection).await.unwrap(), Some(left("rust")));
}

#[tokio::test]
async fn the_halves_work_apart() {
    let (url, script) = server(async |mut peer| {
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.send(r#"{"type":"left","room":"rust"}"#).await;
        peer.closed().await
    })
    .await;
    let (mut reader, mut writer) = Connection::open(&url).await.unwrap().into_split();
    let reading = tokio::spawn(async move {
        let first = reader.next().await.unwrap();
        (first, reader.next().await.unwrap(), reader.closed().cloned())
    });
    writer.send(&ClientEvent::Rooms).await.unwrap();
    writer.close().await.unwrap();
    let (first, second, close) = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!((first, second), (Some(left("rust")), None));
    assert_eq!(close.map(|close| close.code), Some(1000));
    assert_eq!(script.await.unwrap(), Some(1000));
}

#[tokio::test]
async fn waiting_may_be_given_up_without_losing_an_event() {
    let (url, _script) = server(async |mut peer| {
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.send(r#"{"type":"left","room":"rust"}"#).await;
        peer.closed().await
    })
    .await;
    let mut connection = Connection::open(&url).await.unwrap();
    for _ in 0..3 {
        timeout(Duration::from_millis(1), connection.next()).await.expect_err("nothing is due");
    }
    connection.send(&ClientEvent::Rooms).await.unwrap();
    assert_eq!(next(&mut connection).await.unwrap(), Some(left("rust")));
}

#[tokio::test]
async fn the_servers_goodbye_is_returned_and_kept() {
    let (url, script) = server(async |peer| peer.close(4008, "too slow").await).await;
    let mut connection = Connection::open(&url).await.unwrap();
    assert_eq!(connection.closed(), None);
    assert_eq!(next(&mut connection).await.unwrap(), None);
    assert_eq!(next(&mut connection).await.unwrap(), None, "and again");
    let close = Close { code: 4008, reason: "too slow".into() };
    assert_eq!(connection.closed(), Some(&close));
    assert_eq!(script.await.unwrap(), Some(4008), "the goodbye came back");
    let error = connection.send(&hello()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_cut_wire_is_an_error() {
    let (url, _script) = server(async |peer| drop(peer)).await;
    let mut connection = Connection::open(&url).await.unwrap();
    let error = next(&mut connection).await.unwrap_err().to_string();
    assert!(error.starts_with("the connection was lost"), "{error}");
}

#[tokio::test]
async fn fifty_long_messages_of_history_fit() {
    let (url, _script) = server(async |mut peer| {
        // Six bytes a character is the most that JSON takes.
        let text = "\\u0001".repeat(2000);
        let message = format!(
            r#"{{"type":"message","room":"rust","id":"00000000-0000-0000-0000-000000000000","from":"ada","text":"{text}","at":1}}"#
        );
        let history = vec![message; 50].join(",");
        peer.send(&format!(
            r#"{{"type":"joined","room":"rust","members":["ada"],"history":[{history}]}}"#
        ))
        .await;
        peer.closed().await
    })
    .await;
    let mut connection = Connection::open(&url).await.unwrap();
    let event = next(&mut connection).await.unwrap();
    assert!(matches!(event, Some(ServerEvent::Joined { history, .. }) if history.len() == 50));
}

#[tokio::test]
async fn the_longest_part_of_a_history_fits() {
    let (url, _script) = server(async |mut peer| {
        // A part has 4 MiB of text, and six bytes a character is the most that JSON takes.
        let text = "\\u0001".repeat(2000);
        let message = format!(
            r#"{{"type":"message","room":"rust","seq":1,"id":"00000000-0000-0000-0000-000000000000","from":"ada","text":"{text}","at":1}}"#
        );
        let history = vec![message; 4 * 1024 * 1024 / 2000].join(",");
        peer.send(&format!(
            r#"{{"type":"joined","room":"rust","members":["ada"],"history":[{history}]}}"#
        ))
        .await;
        peer.closed().await
    })
    .await;
    let mut connection = Connection::open(&url).await.unwrap();
    let event = next(&mut connection).await.unwrap();
    assert!(matches!(event, Some(ServerEvent::Joined { history, .. }) if history.len() == 2097));
}

#[tokio::test]
async fn too_much_is_neither_sent_nor_taken() {
    let (url, _script) = server(async |mut peer| {
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.send(&"x".repeat(2000)).await;
        peer.closed().await
    })
    .await;
    let options = Options { max_received_bytes: 1000, ..Options::default() };
    let mut connection = Connection::open_with(&url, &options).await.unwrap();
    let long = ClientEvent::message(None, "x".repeat(65536));
    let error = connection.send(&long).await.unwrap_err().to_string();
    assert!(error.starts_with("that makes 65564 bytes, and a server takes 65536"), "{error}");
    connection.send(&ClientEvent::Rooms).await.expect("the connection is still open");
    let error = next(&mut connection).await.unwrap_err().to_string();
    assert!(error.starts_with("the server sent more than this client takes"), "{error}");
}

#[tokio::test]
async fn what_is_no_websocket_url_is_told_so() {
    for (url, problem) in [
        ("http://127.0.0.1:3003/ws", "it does not begin with ws://"),
        ("127.0.0.1:3003", "it does not begin with ws://"),
        ("wss://127.0.0.1:3003/ws", "this client has no TLS, so wss:// is beyond it"),
        ("ws://", "it is not a URL at all"),
        ("ws://a b/", "it is not a URL at all"),
        ("", "it is not a URL at all"),
    ] {
        let said = sentence(url, &Options::default()).await;
        let wanted = format!("can't open {url:?}: {problem}; write it like ws://127.0.0.1:3003/ws");
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    let url = nobody().await;
    let address = url.trim_start_matches("ws://").trim_end_matches("/ws");
    let said = sentence(&url, &Options::default()).await;
    assert!(said.starts_with(&format!("nobody is listening at {address}: start the server")));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_status_and_the_origin_goes_along() {
    let (url, request) = raw_server("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let options = Options { origin: Some("http://evil.example".into()), ..Options::default() };
    let said = sentence(&url, &options).await;
    let wanted = "was refused with HTTP 403: the server does not take connections from this origin";
    assert_eq!(said, format!("{url} {wanted}"));
    assert!(request.await.unwrap().contains("\r\nOrigin: http://evil.example\r\n"));
}

#[tokio::test]
async fn an_origin_that_cannot_be_sent_is_told_so() {
    let options = Options { origin: Some("two\r\nlines".into()), ..Options::default() };
    let said = sentence("ws://127.0.0.1:1/ws", &options).await;
    assert!(said.starts_with(r#""two\r\nlines" can't be sent as an origin"#), "{said}");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_so() {
    let (url, _request) = raw_server("220 mail.example ESMTP\r\n").await;
    let said = sentence(&url, &Options::default()).await;
    assert!(said.contains("does not answer like a WebSocket server"), "{said}");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let options = Options { handshake_timeout: Duration::from_millis(500), ..Options::default() };
    let said = sentence(&format!("ws://{address}/ws"), &options).await;
    assert!(said.starts_with(&format!("{address} has not opened a WebSocket within 0.5 seconds")));
}

#[tokio::test]
async fn the_handshake_carries_the_token_and_the_session() {
    let host = Host::open().await;
    let (token, session) = (Some(Token::new(TOKEN)), Some(SESSION.parse().unwrap()));
    let options = Options { token, session, ..Options::default() };
    let url = host.url() + "?x=1";
    let (connection, (mut peer, path)) =
        tokio::join!(Connection::open_with(&url, &options), host.accept_token(TOKEN));
    assert_eq!(path, format!("/ws?x=1&session={SESSION}"));
    peer.welcome_unasked().await;
    let welcome = next(&mut connection.unwrap()).await.unwrap();
    assert!(matches!(welcome, Some(ServerEvent::Welcome { session: Some(_), .. })));
}

#[test]
fn a_token_is_not_printed_with_the_options() {
    let options = Options { token: Some(Token::new(TOKEN)), ..Options::default() };
    let printed = format!("{options:?}");
    assert!(printed.contains("Token(…)") && !printed.contains(TOKEN), "{printed}");
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_told_without_it() {
    let options = Options { token: Some(Token::new("two\r\nlines")), ..Options::default() };
    let said = sentence("ws://127.0.0.1:1/ws", &options).await;
    assert_eq!(said, "that is not a token: a server makes them of letters and digits");
}
