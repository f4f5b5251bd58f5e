//! The chat without a WebSocket, for who is signed in.

use serde_json::json;
use uuid::Uuid;

use super::sessions::until_end;
use crate::accounts::JSON;
use crate::event::{text, with};
use crate::scenario::{Check, Scenario};
use crate::scene::{Scene, status};
use crate::step4::acks::seq;
use crate::step4::fallback::{Caller, event};
use crate::stream::{Asked, Stream};

const FALLBACK: Scenario = Scenario::of(5, "production/authentication.html");

const SESSION_HINT: &str = "The cookie or token says who asks, the session which of their clients. Look a client up by both.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hello_by_http_is_for_who_is_signed_in",
        sentence: "Hello by HTTP gives a client of whoever is signed in, whatever name is in it",
        expected: "status 200 with a `welcome` that has the account's name, also without a name; 400 with `bad_json` for a broken body",
        hint: "The name comes from the session, as for a WebSocket.",
        run: |scene| Box::pin(hello(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_cookie_is_enough_for_the_fallback",
        sentence: "A cookie is enough for the fallback, and its client is named in the address or as Bearer",
        expected: "a stream and an `ack` for a cookie with `?session=`, with `Authorization: Bearer SESSION`, and for a POST without either",
        hint: SESSION_HINT,
        run: |scene| Box::pin(by_cookie(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_stream_without_a_session_begins_one",
        sentence: "A stream without a session begins one, and says so first",
        expected: "`welcome` as the first event of the stream, then `joined`, and an `ack` for a POST with its session",
        hint: "Without `session=` do what `POST /hello` does, and let the welcome be the first event.",
        run: |scene| Box::pin(begins(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_client_of_another_account_is_a_401",
        sentence: "A client of another account is a 401, and so is one that is not there",
        expected: "status 401 with `unauthorized` for GET and POST, and nothing said in the other's name",
        hint: SESSION_HINT,
        run: |scene| Box::pin(of_another(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_hello_with_another_s_session_takes_nothing_away",
        sentence: "A hello with the session of somebody else's client takes nothing away from it",
        expected: "acks and the stream as before for the one whose session it is, whatever the other says hello with",
        hint: "Two accounts may use the same UUID: the map's key is the account and the session together.",
        run: |scene| Box::pin(takes_nothing(scene)),
        ..FALLBACK
    },
    Scenario {
        name: "a_websocket_ends_the_stream_of_its_client",
        sentence: "A WebSocket ends the stream of the same client, and not those of others",
        expected: "with `?session=` of the stream, `welcome` with that session, the end of the stream, and 401 for what still comes by HTTP",
        hint: "One session, one connection of either kind: the newer one replaces the older.",
        run: |scene| Box::pin(takeover(scene)),
        ..FALLBACK
    },
];

async fn hello(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let headers = [("Authorization", bearer.as_str())];
    let hellos = [
        json!({"type": "hello"}),
        json!({"type": "hello", "name": scene.name("eve")}),
        json!({"type": "hello", "name": "not a name!"}),
    ];
    let mut sessions = Vec::new();
    for hello in &hellos {
        let answer = scene.post("/hello", &headers, hello).await?;
        let welcome = event(scene, &answer, 200, "welcome")?;
        let session = text(&welcome, "session").to_owned();
        let is_right = text(&welcome, "name") == scene.name("ada")
            && Uuid::try_parse(&session).is_ok()
            && !sessions.contains(&session);
        if !is_right {
            return Err(scene.mismatch(&status(&answer)));
        }
        sessions.push(session);
    }
    let answer = scene.http_with("POST", "/hello", &[JSON, headers[0]], "{").await?;
    scene.is_error(&answer, 400, "bad_json").map(drop)
}

async fn by_cookie(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let own = ("Cookie", cookie.as_str());
    let answer = scene.post("/hello", &[own], &json!({"type": "hello"})).await?;
    let welcome = event(scene, &answer, 200, "welcome")?;
    let session = text(&welcome, "session");
    let room = scene.name("room");
    let path = format!("/events?session={session}&join={room}");
    let mut stream = Stream::open(scene, "ada", &path, &[own]).await?;
    stream.expect("joined").await?;
    let message =
        |words: &str| json!({"type": "message", "id": Uuid::new_v4(), "room": room, "text": words});
    let bearer = format!("Bearer {session}");
    let named = format!("/events?session={session}");
    let ways: [(&str, Vec<(&str, &str)>); 3] = [
        (&named, vec![own]),
        ("/events", vec![own, ("Authorization", &bearer)]),
        ("/events", vec![own]),
    ];
    for (number, (path, headers)) in ways.iter().enumerate() {
        let answer = scene.post(path, headers, &message(&number.to_string())).await?;
        event(scene, &answer, 200, "ack")?;
        stream.expect_text(&number.to_string()).await?;
    }
    Ok(())
}

async fn begins(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let headers = [("Authorization", bearer.as_str())];
    let room = scene.name("room");
    let mut stream = Stream::open(scene, "ada", &format!("/events?join={room}"), &headers).await?;
    let welcome = stream.expect("welcome").await?;
    if text(&welcome, "name") != scene.name("ada") {
        return Err(stream.mismatch(&welcome.to_string()));
    }
    stream.expect("joined").await?;
    let path = format!("/events?session={}", text(&welcome, "session"));
    let message = json!({"type": "message", "id": Uuid::new_v4(), "room": room, "text": "hi"});
    let answer = scene.post(&path, &headers, &message).await?;
    event(scene, &answer, 200, "ack")?;
    stream.expect_text("hi").await.map(drop)
}

async fn of_another(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let bearer = scene.bearer("eve").await?;
    let headers = [("Authorization", bearer.as_str())];
    for session in [ada.session.clone(), Uuid::new_v4().to_string()] {
        let path = format!("/events?session={session}");
        let answer = scene.post(&path, &headers, &ada.message("I am ada")).await?;
        scene.is_error(&answer, 401, "unauthorized")?;
        let with_close = [headers[0], ("Connection", "close")];
        let path = format!("{path}&join={}", ada.room);
        match Stream::ask(scene, "eve", &path, &with_close).await? {
            Asked::Refused(answer) => scene.is_error(&answer, answer.status, "unauthorized")?,
            Asked::Stream(_) => return Err(scene.mismatch("a stream")),
        };
    }
    let ack = ada.store(scene, "it is me").await?;
    stream.expect_text("it is me").await?;
    if seq(&ack) == 1 { Ok(()) } else { Err(scene.mismatch(&ack.to_string())) }
}

async fn takes_nothing(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let bearer = scene.bearer("eve").await?;
    let headers = [("Authorization", bearer.as_str())];
    let hello = json!({"type": "hello", "session": ada.session});
    let answer = scene.post("/hello", &headers, &hello).await?;
    event(scene, &answer, 200, "welcome")?;
    let path = format!("/ws?session={}", ada.session);
    let _eve = scene.connect_to("eve", &path).await?;
    ada.store(scene, "still me").await?;
    stream.expect_text("still me").await?;
    let mut again = ada.listen_in(scene, &ada.room).await?;
    again.expect("joined").await.map(drop)
}

async fn takeover(scene: &mut Scene) -> Check {
    let ada = Caller::hello(scene, "ada").await?;
    let mut stream = ada.listen(scene).await?;
    let other = Caller::hello(scene, "ada").await?;
    let mut other_stream = other.listen(scene).await?;
    let mut client = scene.connect_to("ada", &format!("/ws?session={}", ada.session)).await?;
    let welcome = client.hello().await?;
    if text(&welcome, "session") != ada.session {
        return Err(client.mismatch(&welcome.to_string()));
    }
    until_end(&mut stream).await?;
    let answer = ada.post(scene, &ada.message("still me?")).await?;
    scene.is_error(&answer, 401, "unauthorized")?;
    let room = client.room.clone();
    client.join(&room).await?;
    client.send(with(client.message("here I am"), "room", room)).await;
    other_stream.expect_text("here I am").await.map(drop)
}
