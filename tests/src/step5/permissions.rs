//! Who may do what: checked each time, and the same for every way to ask.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::event::{is, json_of, list, text, with};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::{history, seq};
use crate::step4::fallback::Caller;
use crate::stream::{Asked, Stream};

const PERMISSION: Scenario = Scenario::of(5, "deep/threat-model.html");

const PERMISSION_HINT: &str = "One function that says whether this account may enter this room, called by join, message, typing, search and both fallbacks.";
const IDENTITY_HINT: &str =
    "Build the event that you send from what the server knows. Don't pass the client's JSON on.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_conversation_of_others_is_closed_by_every_way",
        sentence: "A conversation of two others is closed, by every command and every way to send it",
        expected: "`forbidden` for join with and without a cursor, message and typing, by WebSocket, POST and stream, and for search; and not a word of it",
        hint: PERMISSION_HINT,
        run: |scene| Box::pin(closed(scene)),
        ..PERMISSION
    },
    Scenario {
        name: "nobody_learns_who_talks_with_whom",
        sentence: "Nobody learns who talks with whom, or who is registered",
        expected: "the same answers, to the byte, for a conversation of others that exists, one that does not, and one of names that nobody has",
        hint: "Decide by the names in the room's name, before anything is looked up.",
        run: |scene| Box::pin(same_answers(scene)),
        ..PERMISSION
    },
    Scenario {
        name: "one_cannot_say_anything_in_another_s_name",
        sentence: "One cannot say anything in another's name, place or time",
        expected: "`from`, `seq` and `at` from the server in messages and conversations, one's own name in `typing`, whatever the client wrote there",
        hint: IDENTITY_HINT,
        run: |scene| Box::pin(identity(scene)),
        ..PERMISSION
    },
    Scenario {
        name: "one_cannot_act_for_another_over_http_either",
        sentence: "One cannot act in another's name over HTTP either",
        expected: "one's own name in `welcome` and messages, whatever name is in the hello, the event or a header",
        hint: IDENTITY_HINT,
        run: |scene| Box::pin(identity_by_http(scene)),
        ..PERMISSION
    },
    Scenario {
        name: "a_room_s_name_smuggles_nothing",
        sentence: "A room's name smuggles nothing into a file, a key or a query",
        expected: "`bad_room` for patterns, paths, line breaks, quotes and 10 kB, by join, message, typing, stream and search",
        hint: "Check every character, and the length, in one place that every command passes.",
        run: |scene| Box::pin(bad_rooms(scene)),
        ..PERMISSION
    },
    Scenario {
        name: "a_message_sent_again_elsewhere_is_the_same",
        sentence: "A message sent again on another connection, or by another way, is the same message",
        expected: "an `ack` with the same number on every connection of the user, `id_conflict` for another text, and another message for another user",
        hint: "The index is over the account, the namespace and the id: not over a connection or a session.",
        run: |scene| Box::pin(replay(scene)),
        ..PERMISSION
    },
];

/// The conversation of two.
fn room_of(scene: &Scene, one: &str, other: &str) -> String {
    let mut names = [scene.name(one).to_lowercase(), scene.name(other).to_lowercase()];
    names.sort();
    format!("dm:{}", names.join(":"))
}

/// Everything that one can want of a room.
fn commands(room: &str) -> Vec<Value> {
    vec![
        json!({"type": "join", "room": room}),
        json!({"type": "join", "room": room, "epoch": Uuid::nil(), "after": 0}),
        json!({"type": "message", "id": Uuid::nil(), "room": room, "text": "hi"}),
        json!({"type": "typing", "room": room}),
    ]
}

/// What a stream that asks for a room gets first, besides its welcome: an event or a status.
async fn first_of_stream(scene: &Scene, base: &str, room: &str) -> Check<Value> {
    let bearer = scene.bearer(base).await?;
    let path = format!("/events?join={room}");
    let headers = [("Authorization", bearer.as_str())];
    let mut stream = match Stream::ask(scene, base, &path, &headers).await? {
        Asked::Stream(stream) => stream,
        Asked::Refused(answer) => {
            return Ok(serde_json::from_str(&answer.body).unwrap_or(json!(answer.status)));
        }
    };
    loop {
        let Some(sent) = stream.next("`joined` or an `error`").await? else {
            return Err(stream.mismatch("the end of the stream"));
        };
        let event: Value = serde_json::from_str(&sent.data).unwrap_or_default();
        if !is(&event, "welcome") && !is(&event, "status") {
            return Ok(event);
        }
    }
}

async fn closed(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    scene.prepare("grace").await?;
    let mut eve = scene.enter("eve").await?;
    let room = room_of(scene, "ada", "grace");
    let id = Uuid::new_v4().to_string();
    let to = scene.name("grace");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "between us"})).await;
    ada.ack(&id).await?;

    for command in commands(&room) {
        eve.send(command).await;
        eve.expect_error("forbidden").await?;
    }
    // It is also not hers by another spelling of its name.
    for spelled in [room.to_uppercase(), room.replacen("dm:", "dm::", 1), format!("{room}:")] {
        eve.send(json!({"type": "join", "room": spelled})).await;
        let error = eve.expect("error").await?;
        if !["forbidden", "bad_room"].contains(&text(&error, "code")) {
            return Err(eve.mismatch(&json_of(&error)));
        }
    }
    let caller = Caller::hello(scene, "eve").await?;
    for command in commands(&room) {
        let answer = caller.post(scene, &command).await?;
        scene.is_error(&answer, answer.status, "forbidden")?;
    }
    let error = first_of_stream(scene, "eve", &room).await?;
    if text(&error, "code") != "forbidden" {
        return Err(scene.mismatch(&json_of(&error)));
    }
    let headers = [("Authorization", caller.authorization.as_str())];
    let answer = scene.http("GET", &format!("/api/search?room={room}&q=between"), &headers).await?;
    scene.is_error(&answer, 403, "forbidden")?;
    // Had anything reached eve, it would be there before her own words.
    eve.say("alone").await;
    loop {
        let event = eve.next("what eve says").await?;
        if json_of(&event).contains("between us") {
            return Err(eve.mismatch(&json_of(&event)));
        }
        if is(&event, "message") {
            return Ok(());
        }
    }
}

async fn same_answers(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    scene.prepare("grace").await?;
    scene.prepare("alan").await?;
    let id = Uuid::new_v4().to_string();
    let to = scene.name("grace");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "psst"})).await;
    ada.ack(&id).await?;
    let mut eve = scene.greet("eve").await?;
    let rooms = [("ada", "grace"), ("ada", "alan"), ("ada", "nobody"), ("no", "body")];
    let mut all = Vec::new();
    for (one, other) in rooms {
        all.push(everything(scene, &mut eve, &room_of(scene, one, other)).await?);
    }
    scene.journal.wait_for("the same answers for each conversation of others");
    match all.iter().find(|answers| Some(*answers) != all.first()) {
        None => Ok(()),
        Some(other) => {
            let first = all.first().map(|answers| answers.join(", ")).unwrap_or_default();
            Err(scene.mismatch(&format!("{first} for one and {} for another", other.join(", "))))
        }
    }
}

/// All that somebody learns about a conversation of others.
async fn everything(scene: &Scene, eve: &mut Client, room: &str) -> Check<Vec<String>> {
    let mut answers = Vec::new();
    for command in commands(room) {
        eve.send(command).await;
        answers.push(json_of(&eve.next("an `error`").await?));
    }
    let caller = Caller::hello(scene, "eve").await?;
    for command in commands(room) {
        answers.push(caller.post(scene, &command).await?.body);
    }
    answers.push(json_of(&first_of_stream(scene, "eve", room).await?));
    let headers = [("Authorization", caller.authorization.as_str())];
    let found = scene.http("GET", &format!("/api/search?room={room}&q=psst"), &headers).await?;
    answers.push(format!("{} {}", found.status, found.body));
    Ok(answers)
}

/// What a client may write about itself, and must not be believed.
fn forged(event: Value, scene: &Scene) -> Value {
    let grace = scene.name("grace");
    let lies = [
        ("from", json!(grace)),
        ("name", json!(grace)),
        ("sender", json!(grace)),
        ("user", json!(grace)),
        ("seq", json!(999)),
        ("at", json!(1)),
        ("epoch", json!(Uuid::nil())),
        ("namespace", json!("staff")),
        ("__proto__", json!({"from": grace})),
        ("constructor", json!({"prototype": {"from": grace}})),
    ];
    lies.into_iter().fold(event, |event, (field, value)| with(event, field, value))
}

/// The event must be ada's, whatever she wrote there.
fn is_true(client: &Client, event: &Value, number: u64, scene: &Scene) -> Check {
    let at = event.get("at").and_then(Value::as_u64).unwrap_or_default();
    let fields = event.as_object().map(serde_json::Map::len).unwrap_or_default();
    let is_right = text(event, "from") == scene.name("ada")
        && seq(event) == number
        && at > 1_500_000_000_000
        // type, room, seq, id, from, text, at: nothing that the client made up.
        && fields == 7;
    if is_right { Ok(()) } else { Err(client.mismatch(&json_of(event))) }
}

async fn identity(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut ada = scene.enter("ada").await?;
    ada.send(forged(ada.message("hi"), scene)).await;
    let said = grace.expect_field("message", "text", "hi").await?;
    is_true(&grace, &said, 1, scene)?;
    let room = ada.room.clone();
    ada.send(forged(json!({"type": "typing", "room": room}), scene)).await;
    let typing = grace.expect("typing").await?;
    if text(&typing, "name") != scene.name("ada") {
        return Err(grace.mismatch(&json_of(&typing)));
    }
    let to = scene.name("grace");
    let direct = json!({"type": "direct", "id": Uuid::new_v4(), "to": to, "text": "psst"});
    ada.send(forged(direct, scene)).await;
    let joined = grace.expect("joined").await?;
    let said = match history(&joined).pop() {
        Some(said) => said,
        None => grace.expect_field("message", "text", "psst").await?,
    };
    is_true(&grace, &said, 1, scene)?;
    let members = list(&joined, "members");
    if members.iter().all(|name| [scene.name("ada"), to.clone()].contains(&(*name).to_owned())) {
        return Ok(());
    }
    Err(grace.mismatch(&json_of(&joined)))
}

async fn identity_by_http(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let bearer = scene.bearer("ada").await?;
    let name = scene.name("grace");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-User", name.as_str()),
        ("X-Forwarded-User", name.as_str()),
        ("Remote-User", name.as_str()),
    ];
    let hello = json!({"type": "hello", "name": name, "from": name});
    let answer = scene.post("/hello", &headers, &hello).await?;
    let welcome = scene.json(&answer, 200)?;
    scene.journal.wait_for("`welcome` with one's own name");
    if text(&welcome, "name") != scene.name("ada") {
        return Err(scene.mismatch(&answer.body));
    }
    let path = format!("/events?session={}&name={name}", text(&welcome, "session"));
    let room = scene.name("room");
    let stream_path = format!("{path}&join={room}");
    let mut stream = Stream::open(scene, "ada", &stream_path, &headers).await?;
    stream.expect("joined").await?;
    let message = json!({"type": "message", "id": Uuid::new_v4(), "room": room, "text": "hi"});
    let answer = scene.post(&path, &headers, &forged(message, scene)).await?;
    scene.json(&answer, 200)?;
    let said = grace.expect_field("message", "text", "hi").await?;
    is_true(&grace, &said, 1, scene)
}

async fn bad_rooms(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let own = scene.name("ada");
    let rooms = [
        "room:*".to_owned(),
        "*".to_owned(),
        "{x}".to_owned(),
        "../etc/passwd".to_owned(),
        "..".to_owned(),
        "a b".to_owned(),
        "a\r\nb".to_owned(),
        "a\u{0}b".to_owned(),
        "'; DROP TABLE messages; --".to_owned(),
        "a\"b".to_owned(),
        "🦀".to_owned(),
        "ｒｕｓｔ".to_owned(),
        "__proto__:x".to_owned(),
        "x".repeat(10_000),
        format!("dm:*:{own}"),
        format!("dm:{own}"),
        format!("dm:{own}:{own}:{own}"),
    ];
    for room in &rooms {
        for command in commands(room) {
            ada.send(command.clone()).await;
            let error = ada.expect("error").await?;
            let code = text(&error, "code");
            // In a room that can't be, nobody is.
            let is_right = code == "bad_room" || code == "not_in_room" && !is(&command, "join");
            if !is_right {
                return Err(ada.mismatch(&json_of(&error)));
            }
        }
    }
    let bearer = scene.bearer("ada").await?;
    let headers = [("Authorization", bearer.as_str())];
    for room in ["room:*", "%7Bx%7D", "..%2Fetc", "a%0d%0ab", "a%00b", "%22", "Rust"] {
        let error = first_of_stream(scene, "ada", room).await?;
        if text(&error, "code") != "bad_room" {
            return Err(scene.mismatch(&json_of(&error)));
        }
        let answer = scene.http("GET", &format!("/api/search?room={room}&q=hi"), &headers).await?;
        scene.is_error(&answer, 400, "bad_room")?;
    }
    ada.store("still here").await.map(drop)
}

async fn replay(scene: &mut Scene) -> Check {
    let mut first = scene.enter("ada").await?;
    let mut second = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let message = first.message("once");
    let id = text(&message, "id").to_owned();
    for client in [&mut first, &mut second] {
        client.send(message.clone()).await;
        let ack = client.ack(&id).await?;
        if seq(&ack) != 1 {
            return Err(client.mismatch(&json_of(&ack)));
        }
    }
    let caller = Caller::hello(scene, "ada").await?;
    let _stream = caller.listen(scene).await?;
    let answer = caller.post(scene, &message).await?;
    let ack = scene.json(&answer, 200)?;
    if seq(&ack) != 1 {
        return Err(scene.mismatch(&answer.body));
    }
    second.send(with(message.clone(), "text", "twice")).await;
    let error = second.answer("`id_conflict`").await?;
    if text(&error, "code") != "id_conflict" {
        return Err(second.mismatch(&json_of(&error)));
    }
    grace.send(message.clone()).await;
    let ack = grace.ack(&id).await?;
    if seq(&ack) == 2 { Ok(()) } else { Err(grace.mismatch(&json_of(&ack))) }
}
