//! The log: useful to who operates the server, and to nobody else.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::JSON;
use crate::raw;
use crate::scenario::{Check, Needs, Scenario};
use crate::scene::Scene;
use crate::step4::fallback::Caller;
use crate::stream::Stream;

const LOG: Scenario =
    Scenario { needs: Needs::Program, ..Scenario::of(5, "production/operating.html") };

/// With all that the server and its libraries have to say.
const ALL: (&str, &str) = ("RUST_LOG", "debug");

const ESCAPE_HINT: &str =
    "Log what a client sent as a field (`?value` or JSON), never as a part of the line.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "no_password_token_or_cookie_gets_into_the_log",
        sentence: "No password, token or cookie gets into the log, whichever way one signs in",
        expected: "a log with RUST_LOG=debug that has none of them",
        hint: "Give secrets a type whose `Debug` says nothing, and never log headers, bodies or the part of an address behind the `?`.",
        run: |scene| Box::pin(secrets(scene)),
        ..LOG
    },
    Scenario {
        name: "nothing_that_people_say_gets_into_the_log",
        sentence: "Nothing that people say to each other gets into the log, nor what they search for",
        expected: "a log with RUST_LOG=debug without the text of a message, sent by any way, and without the search",
        hint: "Log that there was a message, its room and its length at most.",
        run: |scene| Box::pin(words(scene)),
        ..LOG
    },
    Scenario {
        name: "with_json_every_line_of_the_log_is_json",
        sentence: "With LOG_FORMAT=json every line of the log is JSON, whatever clients send",
        expected: "one JSON object a line, and none that a client has made up",
        hint: ESCAPE_HINT,
        run: |scene| Box::pin(json_lines(scene)),
        ..LOG
    },
    Scenario {
        name: "nobody_makes_lines_in_the_log",
        sentence: "Nobody makes lines in the log for people, or colors its reader's terminal",
        expected: "no line that begins with what a client sent, and no escape character",
        hint: ESCAPE_HINT,
        run: |scene| Box::pin(human_lines(scene)),
        ..LOG
    },
];

/// The log must not hold any of these texts.
fn is_silent_about(scene: &mut Scene, secrets: &[String]) -> Check {
    let log = scene.running()?.stderr();
    scene.journal.wait_for("a log that has lines, but none of the secrets");
    if log.trim().is_empty() {
        return Err(scene.mismatch("an empty log"));
    }
    let line = log.lines().find(|line| secrets.iter().any(|secret| line.contains(secret)));
    line.map_or(Ok(()), |line| Err(scene.mismatch(line)))
}

async fn secrets(scene: &mut Scene) -> Check {
    scene.start(&[ALL]).await?;
    let token = scene.token("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    let bearer = format!("Bearer {token}");
    let guess = "a guess that was wrong".to_owned();
    let wrong = json!({"name": scene.name("ada"), "password": guess});
    for path in ["/api/login", "/api/token", "/api/register"] {
        scene.post(path, &[], &wrong).await?;
    }
    for own in [("Authorization", bearer.as_str()), ("Cookie", cookie.as_str())] {
        scene.http("GET", "/api/me", &[own]).await?;
        let mut wire = scene.wire_at("ada", "/ws", &[own]).await?;
        wire.send(&raw::Frame::text("{\"type\":\"rooms\"}")).await;
        wire.expect_event("rooms").await?;
        let hello = scene.post("/hello", &[own], &json!({"type": "hello"})).await?;
        scene.json(&hello, 200)?;
        let mut stream = Stream::open(scene, "ada", "/events?join=rust", &[own]).await?;
        stream.expect("welcome").await?;
    }
    // Where they don't belong, and where a body breaks off in the middle of one.
    for path in ["/ws", "/events", "/api/me", "/"] {
        scene.http("GET", &format!("{path}?token={token}&password={value}"), &[]).await?;
    }
    let broken = format!("{{\"name\":\"ada\",\"password\":\"{guess}");
    scene.http_with("POST", "/api/login", &[JSON], &broken).await?;
    scene.http("POST", "/api/logout", &[("Cookie", &cookie)]).await?;
    let secrets = [token, value.to_owned(), scene.password("ada"), guess];
    is_silent_about(scene, &secrets)
}

async fn words(scene: &mut Scene) -> Check {
    scene.start(&[ALL]).await?;
    let said = format!("for your eyes only {}", scene.tag);
    let mut ada = scene.enter("ada").await?;
    scene.prepare("grace").await?;
    ada.store(&said).await?;
    let id = Uuid::new_v4().to_string();
    let to = scene.name("grace");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": said})).await;
    ada.ack(&id).await?;
    // Events that are refused are no reason to show them.
    ada.send_text(&format!("{{\"type\":\"message\",\"text\":\"{said}")).await;
    ada.send(json!({"type": said, "text": said})).await;
    ada.send(json!({"type": "message", "room": said, "id": id, "text": said})).await;
    ada.send(json!({"type": "rooms"})).await;
    let caller = Caller::hello(scene, "grace").await?;
    let _stream = caller.listen(scene).await?;
    caller.store(scene, &said).await?;
    let headers = [("Authorization", caller.authorization.as_str())];
    let query = said.replace(' ', "%20");
    let room = scene.name("room");
    let found = scene.http("GET", &format!("/api/search?room={room}&q={query}"), &headers).await?;
    scene.has_status(&found, 200)?;
    let mark = scene.tag.clone();
    is_silent_about(scene, &[said, query, format!("eyes only {mark}"), "for+your+eyes".to_owned()])
}

/// What a client can put somewhere, in the hope that it makes a line of its own.
const FORGED: &str =
    "\n{\"level\":\"ERROR\",\"forged\":true}\nforged: \u{1b}[31mred\u{1b}[0m\r\nforged ";

/// Sends that everywhere.
async fn forge(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let events = [
        json!({"type": FORGED}),
        json!({"type": "join", "room": FORGED}),
        json!({"type": "direct", "id": Uuid::new_v4(), "to": FORGED, "text": "hi"}),
        json!({"type": "hello", "name": FORGED}),
        json!({"type": "message", "id": FORGED, "room": FORGED, "text": FORGED}),
    ];
    for event in events {
        ada.send(event).await;
        ada.expect("error").await?;
    }
    let body = json!({"name": FORGED, "password": FORGED});
    for path in ["/api/register", "/api/login", "/api/token"] {
        scene.post(path, &[], &body).await?;
    }
    let encoded = "%0A%7B%22level%22%3A%22ERROR%22%2C%22forged%22%3Atrue%7D%0Aforged%3A%1B%5B31m";
    let paths = ["/", "/ws/", "/nothing/", "/api/search?room=", "/events?session=", "/ws?session="];
    for path in paths {
        scene.http("GET", &format!("{path}{encoded}"), &[]).await?;
    }
    // A header has no line breaks, but may have quotes and bytes that are not ASCII.
    let value = "\",\"forged\":true,\"x\":\"\t\u{e9}\u{202e}";
    for name in ["User-Agent", "Origin", "Referer", "Sec-WebSocket-Protocol", "Cookie", "Host"] {
        let _ = raw::request(scene.address(), "GET", "/ws", &[(name, value)]).await;
    }
    let reason = [&1000_u16.to_be_bytes(), "\nforged: \u{1b}[31m".as_bytes()].concat();
    let mut wire = scene.wire("ada").await?;
    wire.send(&raw::Frame::new(raw::CLOSE, reason)).await;
    wire.expect_close(&[1000]).await?;
    ada.store("done").await.map(drop)
}

async fn json_lines(scene: &mut Scene) -> Check {
    scene.start(&[ALL, ("LOG_FORMAT", "json")]).await?;
    forge(scene).await?;
    let log = scene.running()?.stderr();
    scene.journal.wait_for("a JSON object in each line, and none of the client's");
    if log.trim().is_empty() {
        return Err(scene.mismatch("an empty log"));
    }
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_default();
        if !object.is_object() || object.get("forged").is_some() {
            return Err(scene.mismatch(line));
        }
    }
    Ok(())
}

async fn human_lines(scene: &mut Scene) -> Check {
    scene.start(&[ALL, ("LOG_FORMAT", "human")]).await?;
    forge(scene).await?;
    let log = scene.running()?.stderr();
    scene.journal.wait_for("lines of the server's own, without escape characters");
    let is_bad = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("forged") || line.starts_with('{') || line.contains('\u{1b}')
    };
    if log.trim().is_empty() {
        return Err(scene.mismatch("an empty log"));
    }
    log.lines().find(is_bad).map_or(Ok(()), |line| Err(scene.mismatch(&format!("{line:?}"))))
}
