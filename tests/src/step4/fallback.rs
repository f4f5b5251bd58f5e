//! The same chat without a WebSocket: `POST /hello`, `GET /events`, `POST /events`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::acks::{history, seq};
use super::goodbye::STOPS;
use super::resume::numbers;
use crate::accounts::JSON;
use crate::event::{is, json_of, text};
use crate::process::{ends_well_within, stop};
use crate::program::Stop as Signal;
use crate::raw::Answer;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::{Scene, status};
use crate::stream::{Asked, Stream};

const FALLBACK: Scenario = Scenario::of(4, "production/graceful-degradation.html");

const CURSOR_HINT: &str = "Write the rooms with epoch and number into `id:`; when the browser comes back with it as `Last-Event-ID`, read it like a list of joins with cursors.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hello_by_http_gives_a_session",
        sentence: "Hello by HTTP gives a welcome with a session",
        expected: "status 200 with a `welcome`; 409 with `name_taken` where somebody has the name; 400 with `bad_name` or `bad_json`",
        hint: "`POST /hello` takes the same JSON as the first event of a WebSocket, and answers with the same event.",
        run: |scene| Box::pin(hello(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_stream_has_what_a_websocket_has",
        sentence: "A stream has what a WebSocket has",
        expected: "status 200, `text/event-stream`, first the `joined` of each room in `join=`, then every message with an `id:`",
        hint: "`warp::sse::reply`: the same events, each as the `data:` of one server-sent event.",
        run: |scene| Box::pin(stream(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_post_is_answered_with_the_ack",
        sentence: "A message by HTTP is answered with its ack, and acked again if it is repeated",
        expected: "status 200 with `ack`, and the same `seq` for the same id",
        hint: "Wait for the log's answer before you answer the request.",
        run: |scene| Box::pin(post(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_post_is_answered_with_the_error",
        sentence: "What is wrong with an event by HTTP is in the answer",
        expected: "`error` with the code and the message's id: `not_in_room`, `empty_text`, `id_conflict`, `unknown_type`",
        hint: "The error goes to whoever has asked, here into the body of the answer.",
        run: |scene| Box::pin(post_error(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_stream_resumes_by_itself",
        sentence: "A stream resumes by Last-Event-ID, without a hole and without anything twice",
        expected: "for a `GET /events` with the last `id:`, every message after it, and `gap` false",
        hint: CURSOR_HINT,
        run: |scene| Box::pin(resumes(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_stream_resumes_after_a_restart",
        sentence: "A stream resumes after a restart of the server",
        expected: "after kill -9, hello with the old session and the last `id:`, every message after it",
        hint: CURSOR_HINT,
        needs: Needs::Program,
        run: |scene| Box::pin(resumes_after_restart(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "an_unknown_session_is_a_401",
        sentence: "An unknown session is a 401",
        expected: "status 401 for GET and POST at /events, with `error` and code `unauthorized`",
        hint: "Look the session up first; no session, a wrong one and an ended one are the same.",
        run: |scene| Box::pin(unauthorized(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "pages_of_other_sites_may_not_use_the_fallback",
        sentence: "Pages of other sites may not use the fallback",
        expected: "status 403 for a foreign Origin at each of its addresses",
        hint: "The same check of `Origin` as for the WebSocket, on every route.",
        run: |scene| Box::pin(foreign(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_post_of_another_type_is_refused",
        sentence: "A POST that is not application/json is refused",
        expected: "status 415: what a form of another site can send without asking the browser is no event",
        hint: "Look at `Content-Type` before you read the body.",
        run: |scene| Box::pin(other_type(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_post_with_a_broken_body_is_refused",
        sentence: "A POST with a broken or far too long body is refused",
        expected: "status 400 with `bad_json`; 413 for more than 64 KiB; and a session that goes on",
        hint: "`warp::body::content_length_limit`, and the same `decode` as for a WebSocket.",
        run: |scene| Box::pin(broken_body(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "both_kinds_of_clients_hear_each_other",
        sentence: "Clients with and without a WebSocket hear each other, in the same order",
        expected: "the same messages with the same numbers for both",
        hint: "To a room both are the same: an outbox.",
        run: |scene| Box::pin(both_kinds(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_conversation_reaches_a_stream",
        sentence: "A direct message reaches somebody with a stream, and comes again after a resume",
        expected: "`joined` and the message in the stream, and the conversation among the cursors in its `id:`",
        hint: CURSOR_HINT,
        run: |scene| Box::pin(conversation(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_websocket_takes_over_from_a_stream",
        sentence: "A WebSocket takes over from a stream with the same session",
        expected: "`welcome` for the WebSocket, the end of the stream, and 401 for what still comes by HTTP",
        hint: "One session, one connection of either kind: the newer one replaces the older.",
        run: |scene| Box::pin(takeover(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "streams_end_when_the_server_stops",
        sentence: "Streams end when the server stops",
        expected: "`reconnect` with `after` and the end of the stream; then exit code 0 within 10 seconds",
        hint: "A stream is a connection like the others: tell it to come back, then end it.",
        needs: Needs::Program,
        limit: SLOW,
        run: |scene| Box::pin(stops(scene)),
        ..FALLBACK
    },
];

/// Somebody without a WebSocket.
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) room: String,
    pub(crate) session: String,
    /// What says who this is: the session in milestone 4, later a token.
    pub(crate) authorization: String,
}

impl Caller {
    /// Says hello by HTTP.
    pub(crate) async fn hello(scene: &Scene, base: &str) -> Check<Self> {
        let name = scene.name(base);
        let bearer = if scene.milestone < 5 { None } else { Some(scene.bearer(base).await?) };
        let own = bearer.iter().map(|bearer| ("Authorization", bearer.as_str()));
        let headers: Vec<_> = [JSON].into_iter().chain(own).collect();
        let body = json!({"type": "hello", "name": name}).to_string();
        let answer = scene.http_with("POST", "/hello", &headers, &body).await?;
        let welcome = event(scene, &answer, 200, "welcome")?;
        let session = text(&welcome, "session").to_owned();
        let authorization = bearer.unwrap_or_else(|| format!("Bearer {session}"));
        Ok(Self { name, room: scene.name("room"), session, authorization })
    }

    /// Says hello with the old session, as one does who comes back.
    pub(crate) async fn hello_again(&mut self, scene: &Scene) -> Check {
        let hello = json!({"type": "hello", "name": self.name, "session": self.session});
        let headers = [("Authorization", self.authorization.as_str())];
        let answer = scene.post("/hello", &headers, &hello).await?;
        self.session = text(&event(scene, &answer, 200, "welcome")?, "session").to_owned();
        Ok(())
    }

    /// Opens a stream in the scenario's room.
    pub(crate) async fn listen(&self, scene: &Scene) -> Check<Stream> {
        let mut stream = self.listen_in(scene, &self.room).await?;
        stream.expect("joined").await?;
        Ok(stream)
    }

    /// Opens a stream in these rooms.
    pub(crate) async fn listen_in(&self, scene: &Scene, rooms: &str) -> Check<Stream> {
        let path = format!("/events?session={}&join={rooms}", self.session);
        let headers = [("Authorization", self.authorization.as_str())];
        Stream::open(scene, &self.name, &path, &headers).await
    }

    /// Opens the stream again where it ended, as a browser does by itself.
    pub(crate) async fn listen_again(&self, scene: &Scene, last_id: &str) -> Check<Stream> {
        let path = format!("/events?session={}&join={}", self.session, self.room);
        let authorization = ("Authorization", self.authorization.as_str());
        Stream::open(scene, &self.name, &path, &[authorization, ("Last-Event-ID", last_id)]).await
    }

    /// Sends an event.
    pub(crate) async fn post(&self, scene: &Scene, event: &Value) -> Check<Answer> {
        let headers = [JSON, ("Authorization", self.authorization.as_str())];
        scene.http_with("POST", &self.path(scene), &headers, &event.to_string()).await
    }

    /// Where it sends its events.
    fn path(&self, scene: &Scene) -> String {
        let is_named = scene.milestone >= 5;
        if is_named { format!("/events?session={}", self.session) } else { "/events".to_owned() }
    }

    pub(crate) fn message(&self, words: &str) -> Value {
        json!({"type": "message", "id": Uuid::new_v4(), "room": self.room, "text": words})
    }

    /// Says something and gives its ack.
    pub(crate) async fn store(&self, scene: &Scene, words: &str) -> Check<Value> {
        let answer = self.post(scene, &self.message(words)).await?;
        event(scene, &answer, 200, "ack")
    }
}

/// The event in an answer, which must have this status and type.
pub(crate) fn event(scene: &Scene, answer: &Answer, wanted: u16, kind: &str) -> Check<Value> {
    let event = scene.json(answer, wanted)?;
    scene.journal.wait_for(&format!("status {wanted} with {}", crate::event::a(kind)));
    if is(&event, kind) { Ok(event) } else { Err(scene.mismatch(&status(answer))) }
}

async fn hello(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let hello = |name: &str| json!({"type": "hello", "name": name}).to_string();
    let taken = scene.http_with("POST", "/hello", &[JSON], &hello(&ada.name)).await?;
    scene.is_error(&taken, 409, "name_taken")?;
    let bad = scene.http_with("POST", "/hello", &[JSON], &hello("a b")).await?;
    scene.is_error(&bad, 400, "bad_name")?;
    let broken = scene.http_with("POST", "/hello", &[JSON], "{").await?;
    scene.is_error(&broken, 400, "bad_json")?;
    let again = json!({"type": "hello", "name": ada.name, "session": ada.session}).to_string();
    let again = scene.http_with("POST", "/hello", &[JSON], &again).await?;
    event(scene, &again, 200, "welcome").map(drop)
}

async fn stream(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let (one, other) = (scene.name("room"), scene.name("other"));
    let mut stream = ada.listen_in(scene, &format!("{one},{other}")).await?;
    let mut rooms = Vec::new();
    for _ in 0..2 {
        rooms.push(text(&stream.expect("joined").await?, "room").to_owned());
    }
    rooms.sort();
    if rooms != [other, one] {
        return Err(stream.mismatch(&rooms.join(", ")));
    }
    let mut grace = scene.enter("grace").await?;
    grace.store("hi").await?;
    let id = stream.last_id.clone();
    stream.expect_text("hi").await?;
    scene.journal.wait_for("another `id:` with each message");
    if stream.last_id == id { Err(stream.mismatch(&id)) } else { Ok(()) }
}

async fn post(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let message = ada.message("once");
    for _ in 0..2 {
        let answer = ada.post(scene, &message).await?;
        let ack = event(scene, &answer, 200, "ack")?;
        let is_right = text(&ack, "id") == text(&message, "id") && seq(&ack) == 1;
        if !is_right {
            return Err(scene.mismatch(&json_of(&ack)));
        }
    }
    ada.store(scene, "twice").await?;
    stream.expect_text("once").await?;
    stream.expect_text("twice").await.map(drop)
}

async fn post_error(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let _stream = ada.listen(scene).await?;
    let stored = ada.message("stored");
    ada.post(scene, &stored).await?;
    let refused = [
        ("not_in_room", crate::event::with(ada.message("hi"), "room", scene.name("elsewhere"))),
        ("empty_text", ada.message(" ")),
        ("id_conflict", crate::event::with(stored, "text", "something else")),
    ];
    for (code, message) in refused {
        let answer = ada.post(scene, &message).await?;
        let error = scene.is_error(&answer, answer.status, code)?;
        if text(&error, "id") != text(&message, "id") {
            return Err(scene.mismatch(&json_of(&error)));
        }
    }
    let answer = ada.post(scene, &json!({"type": "dance"})).await?;
    scene.is_error(&answer, answer.status, "unknown_type").map(drop)
}

async fn resumes(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let mut grace = scene.enter("grace").await?;
    let mut at = 0;
    for round in 0..3 {
        for number in 0..5 {
            grace.store(&format!("{round}: heard {number}")).await?;
        }
        for _ in 0..5 {
            goes_on(scene, &mut at, seq(&stream.expect("message").await?))?;
        }
        let last_id = stream.last_id.clone();
        drop(stream);
        for number in 0..60 {
            grace.store(&format!("{round}: missed {number}")).await?;
        }
        stream = ada.listen_again(scene, &last_id).await?;
        let joined = stream.expect("joined").await?;
        if joined.get("gap") != Some(&json!(false)) {
            return Err(stream.mismatch(&json_of(&joined)));
        }
        for number in numbers(&joined) {
            goes_on(scene, &mut at, number)?;
        }
    }
    scene.journal.wait_for("all 195 messages");
    if at == 195 { Ok(()) } else { Err(scene.mismatch(&format!("{at} messages"))) }
}

fn goes_on(scene: &Scene, at: &mut u64, number: u64) -> Check {
    if number != *at + 1 {
        return Err(scene.mismatch(&format!("number {number} after number {at}")));
    }
    *at = number;
    Ok(())
}

async fn resumes_after_restart(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    ada.store(scene, "one").await?;
    stream.expect_text("one").await?;
    let mut grace = scene.enter("grace").await?;
    grace.store("two").await?;
    let last_id = stream.last_id.clone();
    scene.kill_and_restart().await?;
    ada.hello_again(scene).await?;
    let mut stream = ada.listen_again(scene, &last_id).await?;
    let joined = stream.expect("joined").await?;
    let missed = history(&joined);
    let is_right = joined.get("gap") == Some(&json!(false))
        && matches!(missed.as_slice(), [two] if text(two, "text") == "two");
    if is_right { Ok(()) } else { Err(stream.mismatch(&json_of(&joined))) }
}

async fn unauthorized(scene: &mut Scene) -> Check {
    let nobody = Caller {
        name: scene.name("nobody"),
        room: scene.name("room"),
        session: Uuid::new_v4().to_string(),
        authorization: format!("Bearer {}", Uuid::new_v4()),
    };
    let answer = nobody.post(scene, &nobody.message("hi")).await?;
    scene.is_error(&answer, 401, "unauthorized")?;
    let body = nobody.message("hi").to_string();
    for headers in [&[JSON] as &[_], &[JSON, ("Authorization", "Bearer x")]] {
        let answer = scene.http_with("POST", "/events", headers, &body).await?;
        scene.is_error(&answer, 401, "unauthorized")?;
    }
    let path = format!("/events?session={}&join={}", nobody.session, nobody.room);
    match Stream::ask(scene, "nobody", &path, &[("Connection", "close")]).await? {
        Asked::Refused(answer) if answer.status == 401 => Ok(()),
        Asked::Refused(answer) => Err(scene.mismatch(&status(&answer))),
        Asked::Stream(_) => Err(scene.mismatch("a stream")),
    }
}

async fn foreign(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let path = format!("/events?session={}", ada.session);
    let hello = json!({"type": "hello", "name": scene.name("eve")}).to_string();
    for origin in ["https://evil.example", "null"] {
        let headers = [JSON, ("Origin", origin), ("Authorization", ada.authorization.as_str())];
        let message = ada.message("hi").to_string();
        let asked = [
            scene.http_with("POST", "/hello", &headers, &hello).await?,
            scene.http_with("POST", "/events", &headers, &message).await?,
            scene.http("GET", &path, &headers).await?,
        ];
        scene.journal.wait_for("status 403");
        for answer in asked {
            if answer.status != 403 {
                return Err(scene.mismatch(&status(&answer)));
            }
        }
    }
    Ok(())
}

async fn other_type(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let hello = json!({"type": "hello", "name": scene.name("eve")}).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let headers = [("Content-Type", kind), ("Authorization", ada.authorization.as_str())];
        let asked = [
            scene.http_with("POST", "/hello", &headers, &hello).await?,
            scene.http_with("POST", "/events", &headers, &ada.message("hi").to_string()).await?,
        ];
        scene.journal.wait_for("status 415");
        for answer in asked {
            if answer.status != 415 {
                return Err(scene.mismatch(&status(&answer)));
            }
        }
    }
    Ok(())
}

async fn broken_body(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let _stream = ada.listen(scene).await?;
    let headers = [JSON, ("Authorization", ada.authorization.as_str())];
    for body in ["{", "[]", "42", "{\"type\":\"message\"}"] {
        let answer = scene.http_with("POST", "/events", &headers, body).await?;
        scene.is_error(&answer, 400, "bad_json")?;
    }
    let far_too_long = json!({"type": "rooms", "padding": "x".repeat(70_000)}).to_string();
    let answer = scene.http_with("POST", "/events", &headers, &far_too_long).await?;
    scene.journal.wait_for("status 413");
    if answer.status != 413 {
        return Err(scene.mismatch(&status(&answer)));
    }
    ada.store(scene, "still here").await.map(drop)
}

async fn both_kinds(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let mut grace = scene.enter("grace").await?;
    for number in 0..10 {
        ada.store(scene, &format!("ada {number}")).await?;
        grace.store(&format!("grace {number}")).await?;
    }
    for number in 0..20 {
        let who = if number % 2 == 0 { "ada" } else { "grace" };
        let words = format!("{who} {}", number / 2);
        let one = stream.expect_text(&words).await?;
        let other = grace.expect_field("message", "text", &words).await?;
        if one != other || seq(&one) != number + 1 {
            return Err(grace.mismatch(&json_of(&one)));
        }
    }
    Ok(())
}

async fn conversation(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let mut grace = scene.greet("grace").await?;
    let room = format!("dm:{}:{}", ada.name, grace.name);
    grace.join(&room).await?;
    grace.room.clone_from(&room);
    grace.store("one").await?;
    let joined = stream.expect("joined").await?;
    if history(&joined).is_empty() {
        stream.expect_text("one").await?;
    }
    let last_id = stream.last_id.clone();
    drop(stream);
    grace.store("two").await?;
    let mut stream = ada.listen_again(scene, &last_id).await?;
    for _ in 0..2 {
        let joined = stream.expect("joined").await?;
        if text(&joined, "room") == room {
            let is_right =
                matches!(history(&joined).as_slice(), [two] if text(two, "text") == "two");
            return if is_right { Ok(()) } else { Err(stream.mismatch(&json_of(&joined))) };
        }
    }
    Err(stream.mismatch("no `joined` for the conversation"))
}

async fn takeover(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let mut client = scene.connect("ada").await?;
    super::sessions::hello_with(&mut client, &ada.session).await;
    client.expect("welcome").await?;
    for _ in 0..10 {
        if stream.next("the end of the stream").await?.is_none() {
            let answer = ada.post(scene, &ada.message("still me?")).await?;
            return scene.is_error(&answer, 401, "unauthorized").map(drop);
        }
    }
    Err(stream.mismatch("a stream that goes on"))
}

async fn stops(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    stop(scene, Signal::Term).await?;
    let hint = stream.expect("reconnect").await?;
    if hint.get("after").and_then(Value::as_u64).is_none() {
        return Err(stream.mismatch(&json_of(&hint)));
    }
    for _ in 0..10 {
        if stream.next("the end of the stream").await?.is_none() {
            return ends_well_within(scene, STOPS).await;
        }
    }
    Err(stream.mismatch("a stream that goes on"))
}
