//! Sessions: who was cut off takes the name back, and nobody else does.

use serde_json::json;
use uuid::Uuid;

use crate::client::Client;
use crate::event::{is_presence, json_of, text};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const SESSION: Scenario = Scenario::of(4, "production/reconnection.html");

const TAKEOVER_HINT: &str = "Keep the session with the user: a hello with the same one cancels the old connection's token and takes its place.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "welcome_has_a_session",
        sentence: "Welcome has a session, and another one for everybody",
        expected: "`welcome` with a `session` that is a UUID, and is not the public `id`",
        hint: "A random UUID (v4) for each welcome: whoever knows it can take the name.",
        run: |scene| Box::pin(has_session(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_session_takes_the_name_back",
        sentence: "A session takes the name back from a connection that has not noticed it is dead",
        expected: "`welcome` with the same session for the new connection, close code 4500 for the old one",
        hint: TAKEOVER_HINT,
        run: |scene| Box::pin(takeover(scene)),
        ..SESSION
    },
    Scenario {
        name: "another_session_does_not_take_a_name",
        sentence: "Another session does not take a name",
        expected: "`error` with code `name_taken`, and nothing for the one who has the name",
        hint: "Compare the whole session, and treat a wrong one like none.",
        run: |scene| Box::pin(wrong_session(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_taken_over_room_is_left_by_nobody",
        sentence: "What the old connection still does changes nothing for the new one",
        expected: "after takeover and `join`, one member, and messages for the new connection",
        hint: "The old connection's cleanup runs later: let it remove only what is its own, by the connection's id.",
        run: |scene| Box::pin(stays_member(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_session_is_nobody_else_s_to_see",
        sentence: "Nobody else gets to see a session",
        expected: "events for the others without the session in them",
        hint: "The session is in `welcome` and nowhere else.",
        run: |scene| Box::pin(secret(scene)),
        ..SESSION
    },
];

async fn has_session(scene: &mut Scene) -> Check {
    let mut sessions = Vec::new();
    for base in ["ada", "grace"] {
        let mut client = scene.connect(base).await?;
        let welcome = client.hello().await?;
        let session = text(&welcome, "session").to_owned();
        let is_right = Uuid::try_parse(&session).is_ok()
            && session != text(&welcome, "id")
            && !sessions.contains(&session);
        if !is_right {
            return Err(client.mismatch(&json_of(&welcome)));
        }
        sessions.push(session);
    }
    Ok(())
}

async fn takeover(scene: &mut Scene) -> Check {
    let mut old = scene.connect("ada").await?;
    let session = text(&old.hello().await?, "session").to_owned();
    let mut new = scene.connect("ada").await?;
    hello_with(&mut new, &session).await;
    let welcome = new.expect("welcome").await?;
    if text(&welcome, "session") != session {
        return Err(new.mismatch(&json_of(&welcome)));
    }
    old.expect_close(4500).await?;
    let room = new.room.clone();
    new.join(&room).await?;
    new.store("here I am").await.map(drop)
}

async fn wrong_session(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut eve = scene.connect("ada").await?;
    let mut own = scene.connect("eve").await?;
    let session_of_another = text(&own.hello().await?, "session").to_owned();
    for session in [Uuid::new_v4().to_string(), session_of_another] {
        hello_with(&mut eve, &session).await;
        eve.expect_error("name_taken").await?;
    }
    ada.store("still here").await.map(drop)
}

async fn stays_member(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut old = scene.connect("ada").await?;
    let session = text(&old.hello().await?, "session").to_owned();
    let room = old.room.clone();
    for _ in 0..10 {
        old.join(&room).await?;
        let mut new = scene.connect("ada").await?;
        hello_with(&mut new, &session).await;
        new.expect("welcome").await?;
        new.join(&room).await?;
        old.expect_close(4500).await?;
        grace.say("are you there?").await;
        new.expect_field("message", "text", "are you there?").await?;
        new.store("I am").await?;
        new.expect_field("message", "text", "I am").await?;
        old = new;
    }
    Ok(())
}

async fn secret(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut ada = scene.connect("ada").await?;
    let session = text(&ada.hello().await?, "session").to_owned();
    let room = ada.room.clone();
    ada.join(&room).await?;
    ada.store("hi").await?;
    loop {
        let event = grace.next("what ada does").await?;
        if json_of(&event).contains(&session) {
            return Err(grace.mismatch(&json_of(&event)));
        }
        if !is_presence(&event) {
            return Ok(());
        }
    }
}

/// Says hello with a session.
pub(crate) async fn hello_with(client: &mut Client, session: &str) {
    client.send(json!({"type": "hello", "name": client.name, "session": session})).await;
}
