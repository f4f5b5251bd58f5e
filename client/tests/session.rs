//! The session against a server played by hand: what it does when the wire, the server or a message
//! fails, rule by rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers, too"
)]

mod scripted;

use std::time::Duration;

use client::{
    ClientEvent, Delivery, Error, Event, Rejected, ServerEvent, Session, Settings, State, Token,
};
use scripted::{Host, PATIENCE, Peer, SESSION, TOKEN, nobody, nothing_after, raw_server};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// A session of ada's that is connected and has the messages 1 and 2 of the room `rust`.
async fn in_rust(host: &Host) -> (Session, Peer) {
    in_rust_with(host, Settings::new(host.url())).await
}

async fn in_rust_with(host: &Host, settings: Settings) -> (Session, Peer) {
    let mut session = Session::open(settings, "ada");
    session.send(ClientEvent::join("rust")).unwrap();
    let mut peer = host.accept().await;
    peer.welcome_with_session(false).await;
    peer.resume(None, 1..=2).await;
    assert_eq!(numbers(&mut session, 2).await, [1, 2]);
    (session, peer)
}

/// Waits for the next connection, on which ada comes back.
async fn back(host: &Host) -> Peer {
    let mut peer = host.accept().await;
    peer.welcome_with_session(true).await;
    peer
}

async fn next(session: &mut Session) -> Event {
    soon(session.next()).await.expect("it has ended")
}

/// Waits for something that has to happen before long.
async fn soon<T>(something: impl Future<Output = T>) -> T {
    timeout(PATIENCE, something).await.expect("it does not happen")
}

/// The numbers of the next messages, as the user sees them.
async fn numbers(session: &mut Session, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let all = async {
        while numbers.len() < count {
            let Event::Came(event) = next(session).await else { continue };
            let said = match event {
                ServerEvent::Joined { history, .. } => history,
                other => vec![other],
            };
            numbers.extend(said.into_iter().filter_map(|event| match event {
                ServerEvent::Message { seq, .. } => seq,
                _ => None,
            }));
        }
    };
    soon(all).await;
    numbers
}

/// What becomes of the next message.
async fn delivery(session: &mut Session) -> (Uuid, Delivery) {
    soon(async {
        loop {
            if let Event::Delivery { id, delivery } = next(session).await {
                return (id, delivery);
            }
        }
    })
    .await
}

/// The next wait, and why there is one.
async fn waiting(session: &mut Session) -> (Duration, Error) {
    soon(async {
        loop {
            if let Event::State(State::Waiting { delay, why }) = next(session).await {
                return (delay, why);
            }
        }
    })
    .await
}

/// Why the session ends.
async fn end(session: &mut Session) -> Error {
    loop {
        match next(session).await {
            Event::State(State::Ended(why)) => {
                assert!(soon(session.next()).await.is_none(), "the last event");
                return why;
            }
            Event::State(State::Waiting { why, .. }) => panic!("it comes back after {why}"),
            _ => {}
        }
    }
}

fn say(session: &Session, text: &str) -> Uuid {
    session.send(ClientEvent::message(Some("rust".into()), text)).unwrap().unwrap()
}

fn sent(seq: u64) -> Delivery {
    Delivery::Sent { room: "rust".into(), seq }
}

fn refusal(message: &Value, code: &str, retry_after: Option<u64>) -> String {
    let (id, sentence) = (&message["id"], "No.");
    json!({"type": "error", "code": code, "message": sentence, "id": id, "retry_after": retry_after})
        .to_string()
}

#[tokio::test]
async fn a_message_is_pending_until_it_is_acked() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    let id = say(&session, "hi");
    let message = peer.take().await;
    assert_eq!(message, json!({"type": "message", "id": id, "room": "rust", "text": "hi"}));
    peer.number(3).await;
    peer.ack(&message, 3).await;
    assert_eq!(numbers(&mut session, 1).await, [3]);
    assert_eq!(delivery(&mut session).await, (id, sent(3)));
    session.close().await;
    assert_eq!(peer.closed().await, Some(1000));
}

#[tokio::test]
async fn after_a_lost_ack_the_same_id_is_sent_again() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    let id = say(&session, "hi");
    let first = peer.take().await;
    drop(peer);
    let mut peer = back(&host).await;
    peer.resume(Some(2), 3..=3).await;
    let again = peer.take().await;
    assert_eq!(again, first);
    peer.ack(&again, 3).await;
    assert_eq!(delivery(&mut session).await, (id, sent(3)));
}

#[tokio::test]
async fn a_server_that_swallows_acks_is_left_and_asked_again() {
    let host = Host::open().await;
    let answer = Duration::from_millis(200);
    let settings = Settings { answer, ..Settings::new(host.url()) };
    let (mut session, mut peer) = in_rust_with(&host, settings).await;
    say(&session, "hi");
    let first = peer.take().await;
    assert!(matches!(waiting(&mut session).await.1, Error::NoAnswer { .. }));
    let mut peer = back(&host).await;
    peer.resume(Some(2), 3..=3).await;
    assert_eq!(peer.take().await, first);
}

#[tokio::test]
async fn what_is_typed_offline_is_sent_in_order_later() {
    let host = Host::open().await;
    let (mut session, peer) = in_rust(&host).await;
    drop(peer);
    waiting(&mut session).await;
    let ids = ["one", "two", "three"].map(|text| say(&session, text));
    let mut peer = back(&host).await;
    peer.resume(Some(2), nothing_after(2)).await;
    for (seq, (id, text)) in (3..).zip(ids.into_iter().zip(["one", "two", "three"])) {
        // The next one comes only now: the one before is stored.
        let message = peer.take().await;
        assert_eq!((&message["id"], &message["text"]), (&json!(id), &json!(text)));
        peer.number(seq).await;
        peer.ack(&message, seq).await;
        assert_eq!(delivery(&mut session).await, (id, sent(seq)));
    }
}

#[tokio::test]
async fn nothing_is_said_in_a_room_before_it_is_joined_again() {
    let host = Host::open().await;
    let (session, peer) = in_rust(&host).await;
    say(&session, "hi");
    drop(peer);
    let mut peer = back(&host).await;
    assert_eq!(peer.take().await["type"], "join");
    let refused =
        json!({"type": "error", "code": "unavailable", "message": "No.", "retry_after": 50});
    peer.send(&refused.to_string()).await;
    peer.resume(Some(2), nothing_after(2)).await;
    assert_eq!(peer.take().await["text"], "hi");
}

#[tokio::test]
async fn a_message_that_comes_twice_is_seen_once() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    for seq in [3, 3, 2, 4] {
        peer.number(seq).await;
    }
    assert_eq!(numbers(&mut session, 2).await, [3, 4]);
    drop(peer);
    let mut peer = back(&host).await;
    assert_eq!(peer.take().await["after"], 4);
    peer.joined(3..=6, false).await;
    peer.number(6).await;
    peer.number(7).await;
    assert_eq!(numbers(&mut session, 3).await, [5, 6, 7]);
}

#[tokio::test]
async fn a_hole_is_filled_by_joining_again() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    for seq in [3, 5, 6] {
        peer.number(seq).await;
    }
    peer.resume(Some(3), 4..=6).await;
    peer.number(7).await;
    assert_eq!(numbers(&mut session, 5).await, [3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn an_ack_beyond_what_came_shows_a_hole() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    say(&session, "hi");
    let message = peer.take().await;
    peer.ack(&message, 4).await;
    peer.resume(Some(2), 3..=4).await;
    assert_eq!(numbers(&mut session, 2).await, [3, 4]);
}

#[tokio::test]
async fn a_long_history_comes_in_parts() {
    let host = Host::open().await;
    let (mut session, peer) = in_rust(&host).await;
    drop(peer);
    let mut peer = back(&host).await;
    peer.resume(Some(2), 3..=5_000).await;
    peer.joined(5_001..=10_002, false).await;
    peer.number(10_003).await;
    let numbers = numbers(&mut session, 10_001).await;
    assert_eq!(numbers, Vec::from_iter(3..=10_003));
}

#[tokio::test]
async fn a_gap_begins_afresh_and_says_so() {
    let host = Host::open().await;
    let (mut session, peer) = in_rust(&host).await;
    drop(peer);
    let mut peer = back(&host).await;
    assert_eq!(peer.take().await["after"], 2);
    peer.joined(90..=91, true).await;
    peer.number(92).await;
    let history = loop {
        if let Event::Came(ServerEvent::Joined { gap, history, .. }) = next(&mut session).await {
            assert!(gap);
            break history;
        }
    };
    assert_eq!(history.len(), 2);
    assert_eq!(numbers(&mut session, 1).await, [92]);
}

#[tokio::test]
async fn a_code_of_the_upper_band_ends_it() {
    for code in [4500, 4501, 4999] {
        let host = Host::open().await;
        let (mut session, peer) = in_rust(&host).await;
        assert_eq!(peer.close(code, "").await, Some(code));
        let why = end(&mut session).await;
        assert!(matches!(why, Error::Closed(close) if close.code == code));
        assert_eq!(session.send(ClientEvent::Rooms), Err(Rejected::Ended));
    }
}

#[tokio::test]
async fn any_other_code_brings_it_back_with_its_session_and_its_place() {
    for code in [1001, 1012, 4008, 4029, 4321] {
        let host = Host::open().await;
        let (mut session, peer) = in_rust(&host).await;
        assert_eq!(peer.close(code, "").await, Some(code));
        let (delay, why) = waiting(&mut session).await;
        assert!(matches!(why, Error::Closed(close) if close.code == code));
        assert!(!delay.is_zero() && delay <= Duration::from_secs(1), "{delay:?}");
        back(&host).await.resume(Some(2), 3..=3).await;
        assert_eq!(numbers(&mut session, 1).await, [3]);
    }
}

#[tokio::test]
async fn it_stays_away_for_as_long_as_the_server_asks() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    let asked = Instant::now();
    peer.send(r#"{"type":"reconnect","after":1500}"#).await;
    peer.close(1012, "the server is restarting").await;
    let (delay, _) = waiting(&mut session).await;
    assert!(delay > Duration::from_secs(1), "longer than the first wait ever is: {delay:?}");
    back(&host).await;
    assert!(asked.elapsed() >= Duration::from_millis(1500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_silent_wire_counts_as_cut_and_a_ping_as_life() {
    let host = Host::open().await;
    let silence = Duration::from_millis(400);
    let settings = Settings { silence, ..Settings::new(host.url()) };
    let (mut session, mut peer) = in_rust_with(&host, settings).await;
    let begun = Instant::now();
    // As long as pings come, and nothing else, it stays.
    let mut beats = tokio::time::interval(silence / 4);
    for _ in 0..8 {
        beats.tick().await;
        peer.send_raw(tokio_tungstenite::tungstenite::Message::Ping("".into())).await;
    }
    let (_, why) = waiting(&mut session).await;
    assert!(matches!(why, Error::Silent { .. }), "{why:?}");
    assert!(begun.elapsed() >= silence / 4 * 7 + silence, "{:?}", begun.elapsed());
    back(&host).await;
}

#[tokio::test]
async fn while_the_log_is_away_a_message_waits_and_keeps_its_id() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    peer.send(r#"{"type":"status","degraded":true}"#).await;
    assert!(matches!(next(&mut session).await, Event::State(State::Degraded)));
    let ids = ["one", "two"].map(|text| say(&session, text));
    let first = peer.take().await;
    let refused = Instant::now();
    peer.send(&refusal(&first, "unavailable", Some(300))).await;
    // Not "two": it would come before "one".
    let again = peer.take().await;
    assert_eq!(again, first);
    assert!(refused.elapsed() >= Duration::from_millis(300));
    peer.send(r#"{"type":"status","degraded":false}"#).await;
    assert!(matches!(next(&mut session).await, Event::State(State::Connected)));
    peer.number(3).await;
    peer.ack(&again, 3).await;
    assert_eq!(delivery(&mut session).await, (ids[0], sent(3)));
    assert_eq!(peer.take().await["id"], json!(ids[1]));
}

#[tokio::test]
async fn a_message_that_is_refused_for_good_fails_and_the_next_one_goes() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    let ids = ["one", "two"].map(|text| say(&session, text));
    let first = peer.take().await;
    peer.send(&refusal(&first, "id_conflict", None)).await;
    let (id, failed) = delivery(&mut session).await;
    let (code, message, text) = ("id_conflict".into(), "No.".into(), "one".into());
    assert_eq!((id, failed), (ids[0], Delivery::Failed { code, message, text }));
    assert_eq!(peer.take().await["id"], json!(ids[1]));
}

#[tokio::test]
async fn a_direct_message_goes_through_its_room_once_there_is_one() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    let id = session.send(ClientEvent::direct("Grace", "psst")).unwrap().unwrap();
    let direct = json!({"type": "direct", "id": id, "to": "Grace", "text": "psst"});
    assert_eq!(peer.take().await, direct);
    let joined = json!({
        "type": "joined", "room": "dm:ada:grace", "epoch": Uuid::nil(), "seq": 0,
        "members": ["ada"], "history": [], "gap": false,
    })
    .to_string();
    peer.send(&joined).await;
    while !matches!(next(&mut session).await, Event::Came(ServerEvent::Joined { .. })) {}
    drop(peer);
    let mut peer = back(&host).await;
    let rooms = [peer.take().await, {
        peer.send(&joined).await;
        peer.take().await
    }];
    assert_eq!(rooms.map(|join| join["room"].clone()), ["dm:ada:grace", "rust"]);
    let message = json!({"type": "message", "id": id, "room": "dm:ada:grace", "text": "psst"});
    assert_eq!(peer.take().await, message);
}

#[tokio::test]
async fn a_partner_who_is_not_back_yet_is_waited_for_but_a_stranger_is_not() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    session.send(ClientEvent::direct("nobody", "psst")).unwrap();
    let direct = peer.take().await;
    peer.send(&refusal(&direct, "no_such_user", None)).await;
    assert!(matches!(delivery(&mut session).await.1, Delivery::Failed { .. }));
    session.send(ClientEvent::direct("grace", "psst")).unwrap();
    let direct = peer.take().await;
    drop(peer);
    let mut peer = back(&host).await;
    assert_eq!(peer.take().await["type"], "join");
    peer.joined(nothing_after(2), false).await;
    assert_eq!(peer.take().await, direct);
    peer.send(&refusal(&direct, "no_such_user", None)).await;
    assert_eq!(peer.take().await, direct);
}

#[tokio::test]
async fn a_name_that_is_taken_ends_a_newcomer_but_not_one_who_had_it() {
    const TAKEN: &str = r#"{"type":"error","code":"name_taken","message":"Taken."}"#;
    let host = Host::open().await;
    let mut newcomer = Session::open(Settings::new(host.url()), "ada");
    let mut peer = host.accept().await;
    peer.take().await;
    peer.send(TAKEN).await;
    assert!(matches!(end(&mut newcomer).await, Error::NotWelcome { .. }));

    let (mut session, peer) = in_rust(&host).await;
    drop(peer);
    waiting(&mut session).await;
    let mut peer = host.accept().await;
    peer.take().await;
    peer.send(TAKEN).await;
    assert!(matches!(waiting(&mut session).await.1, Error::NotWelcome { .. }));
    back(&host).await.resume(Some(2), nothing_after(2)).await;
}

#[tokio::test]
async fn a_server_that_keeps_no_sessions_is_told_so() {
    let host = Host::open().await;
    let mut session = Session::open(Settings::new(host.url()), "ada");
    host.accept().await.welcome().await;
    let why = end(&mut session).await.to_string();
    assert!(why.contains("it keeps no sessions"), "{why}");
}

#[tokio::test]
async fn a_refusal_for_good_ends_it_and_one_for_now_does_not() {
    let (url, _request) = raw_server("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let mut session = Session::open(Settings::new(url), "ada");
    assert!(matches!(end(&mut session).await, Error::Refused { status: 403, .. }));
    let (url, _request) = raw_server("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let mut session = Session::open(Settings::new(url), "ada");
    assert!(matches!(waiting(&mut session).await.1, Error::Refused { status: 503, .. }));
}

#[tokio::test(start_paused = true)]
async fn the_attempts_become_fewer() {
    let mut session = Session::open(Settings::new(nobody().await), "ada");
    for attempt in 0..8 {
        let (delay, why) = waiting(&mut session).await;
        assert!(matches!(why, Error::NobodyListening { .. }), "{why:?}");
        let limit = Duration::from_secs((1 << attempt).min(20));
        assert!(!delay.is_zero() && delay <= limit, "attempt {attempt}: {delay:?}");
        let begun = Instant::now();
        assert!(matches!(next(&mut session).await, Event::State(State::Connecting)));
        let waited = begun.elapsed();
        assert!(waited + Duration::from_millis(5) >= delay, "{waited:?} of {delay:?}");
    }
}

#[tokio::test]
async fn a_full_outbox_says_so_and_forgets_nothing() {
    let session = Session::open(Settings::new(nobody().await), "ada");
    session.send(ClientEvent::join("rust")).unwrap();
    for n in 0..1000 {
        say(&session, &n.to_string());
    }
    let one_more = session.send(ClientEvent::message(Some("rust".into()), "one more"));
    assert_eq!(one_more, Err(Rejected::Full));
}

#[tokio::test]
async fn what_is_said_in_a_room_one_is_not_in_fails() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    session.send(ClientEvent::message(Some("go".into()), "hi")).unwrap();
    let (_, failed) = delivery(&mut session).await;
    assert!(matches!(failed, Delivery::Failed { code, .. } if code == "not_in_room"));
    // What is said before leaving is said, what is said after it is not.
    say(&session, "bye");
    session.send(ClientEvent::Leave { room: "rust".into() }).unwrap();
    let bye = peer.take().await;
    peer.number(3).await;
    peer.ack(&bye, 3).await;
    assert_eq!(peer.take().await, json!({"type": "leave", "room": "rust"}));
    peer.send(r#"{"type":"left","room":"rust"}"#).await;
    assert_eq!(delivery(&mut session).await.1, sent(3));
    while !matches!(next(&mut session).await, Event::Came(ServerEvent::Left { .. })) {}
    say(&session, "late");
    assert!(matches!(delivery(&mut session).await.1, Delivery::Failed { .. }));
}

#[tokio::test]
async fn a_cut_on_purpose_heals() {
    let host = Host::open().await;
    let (mut session, _peer) = in_rust(&host).await;
    session.cut().unwrap();
    back(&host).await.resume(Some(2), 3..=3).await;
    assert_eq!(numbers(&mut session, 1).await, [3]);
}

#[tokio::test]
async fn a_user_who_takes_nothing_stops_the_reading_and_then_gets_everything() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust(&host).await;
    for seq in 3..=2000 {
        peer.number(seq).await;
    }
    assert_eq!(numbers(&mut session, 1998).await, Vec::from_iter(3..=2000));
}

/// A session of ada's with a token, which is connected and has the messages 1 and 2 of `rust`.
async fn in_rust_with_token(host: &Host) -> (Session, Peer) {
    let mut session = Session::open(Settings::with_token(host.url(), Token::new(TOKEN)), "ada");
    session.send(ClientEvent::join("rust")).unwrap();
    let (mut peer, path) = host.accept_token(TOKEN).await;
    assert_eq!(path, "/ws");
    peer.welcome_unasked().await;
    // The first event is the join: no hello.
    peer.resume(None, 1..=2).await;
    assert_eq!(numbers(&mut session, 2).await, [1, 2]);
    (session, peer)
}

#[tokio::test]
async fn with_a_token_it_says_no_hello_and_comes_back_with_its_session_in_the_url() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust_with_token(&host).await;
    let id = say(&session, "hi");
    let first = peer.take().await;
    drop(peer);
    let (mut peer, path) = host.accept_token(TOKEN).await;
    assert_eq!(path, format!("/ws?session={SESSION}"));
    peer.welcome_unasked().await;
    peer.resume(Some(2), nothing_after(2)).await;
    assert_eq!(peer.take().await, first);
    peer.number(3).await;
    peer.ack(&first, 3).await;
    assert_eq!(delivery(&mut session).await, (id, sent(3)));
}

#[tokio::test]
async fn who_has_to_sign_in_again_does_not_come_back() {
    let host = Host::open().await;
    let (mut session, peer) = in_rust_with_token(&host).await;
    drop(peer);
    let error = r#"{"type":"error","code":"unauthorized","message":"Sign in."}"#;
    let request = host.answer("401 Unauthorized", error).await;
    assert!(request.starts_with(&format!("GET /ws?session={SESSION} HTTP/1.1\r\n")), "{request}");
    waiting(&mut session).await;
    let why = end(&mut session).await;
    assert!(matches!(why, Error::Refused { status: 401, .. }) && why.wants_sign_in());
    let wanted = "HTTP 401: the server wants you to sign in; if you have, sign in again";
    assert_eq!(why.to_string(), format!("{} was refused with {wanted}", host.url()));

    let (mut session, peer) = in_rust_with_token(&host).await;
    assert_eq!(peer.close(4501, "").await, Some(4501));
    assert!(end(&mut session).await.wants_sign_in());
}

#[tokio::test]
async fn a_full_server_is_left_alone_for_as_long_as_it_asks() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let host = Host::open().await;
        let mut session = Session::open(Settings::with_token(host.url(), Token::new(TOKEN)), "ada");
        host.answer(&format!("{status}\r\nretry-after: 2"), "").await;
        let (delay, why) = waiting(&mut session).await;
        assert_eq!(why.retry_after(), Some(Duration::from_secs(2)));
        assert!((2000..=3000).contains(&delay.as_millis()), "{delay:?}");
        host.accept_token(TOKEN).await.0.welcome_unasked().await;
    }
}

#[tokio::test]
async fn who_says_too_much_waits_and_then_says_it_again() {
    let host = Host::open().await;
    let (mut session, mut peer) = in_rust_with_token(&host).await;
    let id = say(&session, "hi");
    let first = peer.take().await;
    let refused = Instant::now();
    peer.send(&refusal(&first, "rate_limited", Some(1200))).await;
    assert_eq!(peer.take().await, first);
    assert!(refused.elapsed() >= Duration::from_millis(1200), "{:?}", refused.elapsed());
    peer.number(3).await;
    peer.ack(&first, 3).await;
    assert_eq!(delivery(&mut session).await, (id, sent(3)));
}

#[tokio::test]
async fn who_is_sent_away_for_flooding_stays_away_longer_each_time() {
    let host = Host::open().await;
    let mut session = Session::open(Settings::with_token(host.url(), Token::new(TOKEN)), "ada");
    for _ in 0..8 {
        let (mut peer, _) = host.accept_token(TOKEN).await;
        peer.welcome_unasked().await;
        assert_eq!(peer.close(4029, "").await, Some(4029));
        // Longer than the first wait ever is.
        if waiting(&mut session).await.0 > Duration::from_secs(1) {
            return;
        }
    }
    panic!("it comes back soon each time");
}
