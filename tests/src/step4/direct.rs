//! Direct conversations: rooms of two.

use serde_json::{Value, json};
use uuid::Uuid;

use super::acks::{expect_error_about, history, seq};
use super::resume::resume;
use crate::client::Client;
use crate::event::{is, json_of, list, text};
use crate::rules::names::hello_when_free;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const CONVERSATION: Scenario = Scenario::of(4, "production/queueing.html");

const NAME_HINT: &str = "Both names in lower case, sorted, joined by `:` behind `dm:`. Whoever asks for such a room must be one of the two.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_conversation_is_a_room_of_two",
        sentence: "A direct message is a message in the room of the two, and acked like any other",
        expected: "`message` in `dm:` and both names for both, `ack` for the sender",
        hint: NAME_HINT,
        run: |scene| Box::pin(both_get_it(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "the_other_one_is_joined_by_itself",
        sentence: "Who is written to is joined to the conversation",
        expected: "`joined` for the other one, with the message in its history or right behind",
        hint: "Tell the other one's connection through a channel, and let it join as if it had been asked to.",
        run: |scene| Box::pin(other_is_joined(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "nobody_else_may_join_read_or_write_a_conversation",
        sentence: "Nobody else may join, read or write a conversation",
        expected: "`error` with code `forbidden` for join, message and typing, and no word of it for anybody else",
        hint: NAME_HINT,
        run: |scene| Box::pin(forbidden(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "a_conversation_is_resumed_like_a_room",
        sentence: "A conversation is resumed like a room",
        expected: "what was written while one was away, by a join with a cursor",
        hint: "It is a room: the same log, the same numbers, the same join.",
        run: |scene| Box::pin(resumed(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "a_conversation_is_in_nobody_s_list",
        sentence: "A conversation is in nobody's list of rooms",
        expected: "`rooms` without any `dm:`",
        hint: "Leave out what begins with `dm:`: who speaks with whom is nobody else's business.",
        run: |scene| Box::pin(not_listed(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "an_addressee_who_is_not_here_is_told_of",
        sentence: "An addressee whom nobody here knows is an error that names the message",
        expected: "`error` with code `no_such_user` and the message's id",
        hint: "`HashMap::get` gives an `Option`: its `None` is `no_such_user`.",
        run: |scene| Box::pin(nobody(scene)),
        ..CONVERSATION
    },
    Scenario {
        name: "a_room_of_milestone_4_has_a_plain_name",
        sentence: "A room has a plain name, unless it is a conversation",
        expected: "`error` with code `bad_room` for a name with other characters than a-z, 0-9, _ and -, and for what only looks like a conversation",
        hint: "`dm:` with two sorted names in lower case is a conversation; everything else has to pass the check of plain names.",
        run: |scene| Box::pin(bad_rooms(scene)),
        ..CONVERSATION
    },
];

async fn both_get_it(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("Ada").await?;
    let mut grace = scene.greet("grace").await?;
    let room = room_of(&ada, &grace);
    let id = write_to(&mut ada, &grace.name, "psst").await;
    let ack = ada.ack(&id).await?;
    if text(&ack, "room") != room || seq(&ack) != 1 {
        return Err(ada.mismatch(&json_of(&ack)));
    }
    for client in [&mut ada, &mut grace] {
        let said = until_said(client, &room, "psst").await?;
        if text(&said, "id") != id || seq(&said) != 1 {
            return Err(client.mismatch(&json_of(&said)));
        }
    }
    Ok(())
}

async fn other_is_joined(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let room = room_of(&ada, &grace);
    ada.join(&room).await?;
    ada.room.clone_from(&room);
    ada.store("are you there?").await?;
    let joined = grace.expect_field("joined", "room", &room).await?;
    if history(&joined).is_empty() {
        grace.expect_field("message", "text", "are you there?").await?;
    }
    // It is a room that both are in: an answer needs nothing else.
    grace.room = room;
    grace.store("I am").await?;
    until_said(&mut ada, &grace.room, "I am").await.map(drop)
}

async fn forbidden(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let mut eve = scene.enter("eve").await?;
    let room = room_of(&ada, &grace);
    let id = write_to(&mut ada, &grace.name, "between us").await;
    ada.ack(&id).await?;
    eve.send(json!({"type": "join", "room": room})).await;
    eve.expect_error("forbidden").await?;
    eve.send(json!({"type": "join", "room": room, "epoch": Uuid::new_v4(), "after": 0})).await;
    eve.expect_error("forbidden").await?;
    eve.send(json!({"type": "typing", "room": room})).await;
    eve.expect_error("forbidden").await?;
    let id = Uuid::new_v4().to_string();
    eve.send(json!({"type": "message", "id": id, "room": room, "text": "me too"})).await;
    expect_error_about(&mut eve, "forbidden", &id).await?;
    let id = write_to(&mut ada, &grace.name, "only us").await;
    ada.ack(&id).await?;
    until_said(&mut grace, &room, "only us").await?;
    // Had anything reached eve, it would be there before her own words.
    eve.say("alone").await;
    eve.expect_field("message", "text", "alone").await.map(drop)
}

async fn resumed(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let room = room_of(&ada, &grace);
    let joined = ada.join(&room).await?;
    let epoch = text(&joined, "epoch").to_owned();
    ada.room.clone_from(&room);
    ada.store("one").await?;
    until_said(&mut grace, &room, "one").await?;
    grace.vanish();
    for words in ["two", "three"] {
        ada.store(words).await?;
    }
    let mut again = scene.connect("grace").await?;
    again.name = scene.name("grace");
    hello_when_free(&mut again).await?;
    again.room = room;
    let joined = resume(&mut again, &epoch, 1).await?;
    let texts: Vec<String> =
        history(&joined).iter().map(|said| text(said, "text").to_owned()).collect();
    if texts == ["two", "three"] { Ok(()) } else { Err(again.mismatch(&json_of(&joined))) }
}

async fn not_listed(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let grace = scene.greet("grace").await?;
    let id = write_to(&mut ada, &grace.name, "psst").await;
    ada.ack(&id).await?;
    let room = room_of(&ada, &grace);
    until_said(&mut ada, &room, "psst").await?;
    ada.send(json!({"type": "rooms"})).await;
    let rooms = ada.expect("rooms").await?;
    if json_of(&rooms).contains("dm:") { Err(ada.mismatch(&json_of(&rooms))) } else { Ok(()) }
}

async fn nobody(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for nobody in [scene.name("nobody"), String::new(), "not a name!".to_owned()] {
        let id = write_to(&mut ada, &nobody, "psst").await;
        expect_error_about(&mut ada, "no_such_user", &id).await?;
    }
    ada.store("still here").await.map(drop)
}

async fn bad_rooms(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let longest = format!("{}{}", "x".repeat(64 - scene.name("").len()), scene.name(""));
    let too_long = format!("x{longest}");
    let bad = ["", "Rust", "ru st", "ru.st", "ru/st", "dm:", "dm:ada", "dm:b:a", "🦀", &too_long];
    for room in bad {
        ada.send(json!({"type": "join", "room": room})).await;
        ada.expect_error("bad_room").await?;
    }
    ada.join(&longest).await.map(drop)
}

/// The room of two clients.
fn room_of(one: &Client, other: &Client) -> String {
    let mut names = [one.name.to_lowercase(), other.name.to_lowercase()];
    names.sort();
    format!("dm:{}", names.join(":"))
}

/// Sends a direct message, and gives its id.
async fn write_to(client: &mut Client, to: &str, words: &str) -> String {
    let id = Uuid::new_v4().to_string();
    client.send(json!({"type": "direct", "id": id, "to": to, "text": words})).await;
    id
}

/// The message with this text, from the history of the conversation or behind it.
async fn until_said(client: &mut Client, room: &str, words: &str) -> Check<Value> {
    loop {
        let event = client.next(&format!("a message with \"{words}\" in {room}")).await?;
        let all = if is(&event, "joined") { history(&event) } else { vec![event.clone()] };
        let found = all.into_iter().find(|said| text(said, "text") == words);
        match found {
            Some(said) if text(&said, "room") == room => return Ok(said),
            Some(said) => return Err(client.mismatch(&json_of(&said))),
            None if is(&event, "joined") && list(&event, "members").contains(&&*client.name) => {}
            None if is(&event, "message") || crate::event::is_presence(&event) => {}
            None => return Err(client.mismatch(&json_of(&event))),
        }
    }
}
