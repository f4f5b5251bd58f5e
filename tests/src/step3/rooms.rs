//! To join a room, to leave it, and which rooms there are.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::event::{json_of, list, text, with};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

/// How many rooms a connection may be in.
const MAX_ROOMS: usize = 64;

/// How often to ask for the rooms again, and how many times.
const AGAIN: Duration = Duration::from_millis(20);
const TRIES: usize = 200;

const ROOM: Scenario = Scenario::of(3, "implementation/step3-room.html");
const HUB: Scenario = Scenario::of(3, "implementation/step3-hub.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "join_is_answered_with_joined",
        sentence: "Join is answered with joined",
        expected: "`joined` with the room, oneself as the only member and an empty history",
        hint: "The hub starts a room's task when the first member joins, and the room answers `joined` itself.",
        run: |scene| Box::pin(join(scene)),
        ..ROOM
    },
    Scenario {
        name: "a_message_stays_in_its_room",
        sentence: "A message stays in its room",
        expected: "for somebody in one of two rooms only what is said there, with the room's name",
        hint: "Each room keeps its own members and sends to them, not to everyone in the hub.",
        run: |scene| Box::pin(rooms_are_apart(scene)),
        ..ROOM
    },
    Scenario {
        name: "leave_is_answered_with_left",
        sentence: "Leave is answered with left, and then one hears no more of the room",
        expected: "`left` with the room, and nothing that is said there later",
        hint: "Remove the member from the room before you answer `left`.",
        run: |scene| Box::pin(leave(scene)),
        ..ROOM
    },
    Scenario {
        name: "only_members_may_speak_type_or_leave",
        sentence: "Only members may speak, type or leave",
        expected: "`error` with code `not_in_room` for each of the three, and silence in the room",
        hint: "Look into the connection's own map of rooms: a room that is not in it gets `not_in_room`.",
        run: |scene| Box::pin(not_in_room(scene)),
        ..ROOM
    },
    Scenario {
        name: "a_room_has_a_plain_name",
        sentence: "A room has a plain name",
        expected: "`error` with code `bad_room` for a name that is empty, too long, or has other characters than a-z, 0-9, _ and -",
        hint: "Check every character, and the length: 1 to 64.",
        run: |scene| Box::pin(bad_rooms(scene)),
        ..HUB
    },
    Scenario {
        name: "joining_twice_is_harmless",
        sentence: "Joining twice is harmless",
        expected: "`joined` again, oneself once among the members, and nothing for the others",
        hint: "Whoever is a member already gets the answer again; nobody is told, nothing is added.",
        run: |scene| Box::pin(join_twice(scene)),
        ..ROOM
    },
    Scenario {
        name: "one_may_be_in_64_rooms_and_not_in_65",
        sentence: "One may be in 64 rooms, and not in 65",
        expected: "`joined` for 64 rooms, `error` with code `too_many_rooms` for one more, `joined` for it once another is left",
        hint: "Count the rooms of the connection before you join one that is not among them.",
        run: |scene| Box::pin(too_many(scene)),
        ..HUB
    },
    Scenario {
        name: "rooms_lists_the_rooms_and_counts_their_members",
        sentence: "Rooms lists the rooms and counts their members",
        expected: "`rooms` with each room's `name` and number of `members`",
        hint: "The hub knows the rooms; keep the number of members where the hub can read it.",
        run: |scene| Box::pin(rooms(scene)),
        ..HUB
    },
    Scenario {
        name: "a_room_ends_with_its_last_member",
        sentence: "A room ends when its last member leaves, and its history with it",
        expected: "the room gone from `rooms`, and an empty history for the next one who joins",
        hint: "When the last member is gone, take the room out of the hub's map and let its task end.",
        run: |scene| Box::pin(ends_when_empty(scene)),
        ..HUB
    },
    Scenario {
        name: "a_room_ends_with_its_last_connection",
        sentence: "A room ends when its last member's connection breaks",
        expected: "the room gone from `rooms`",
        hint: "At the end of the connection's task leave every room it is in, whatever ended it.",
        run: |scene| Box::pin(ends_when_broken(scene)),
        ..HUB
    },
];

async fn join(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let joined = ada.join(&scene.name("rust")).await?;
    let has_no_history = joined.get("history").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if list(&joined, "members") == [ada.name.as_str()] && has_no_history {
        return Ok(());
    }
    Err(ada.mismatch(&json_of(&joined)))
}

async fn rooms_are_apart(scene: &mut Scene) -> Check {
    let (rust, node) = (scene.name("rust"), scene.name("node"));
    let mut ada = scene.greet("ada").await?;
    ada.join(&rust).await?;
    ada.join(&node).await?;
    let mut grace = scene.greet("grace").await?;
    grace.join(&node).await?;
    say_in(&mut ada, &rust, "for the rustaceans").await?;
    say_in(&mut ada, &node, "for the others").await?;
    let message = grace.expect_field("message", "text", "for the others").await?;
    if text(&message, "room") == node { Ok(()) } else { Err(grace.mismatch(&json_of(&message))) }
}

async fn leave(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let room = ada.room.clone();
    ada.send(json!({"type": "leave", "room": room})).await;
    ada.expect_field("left", "room", &room).await?;
    crate::rules::still_talks(&mut grace).await?;
    grace.send(json!({"type": "direct", "to": ada.name, "text": "did you hear?"})).await;
    ada.expect_field("direct", "text", "did you hear?").await.map(drop)
}

async fn not_in_room(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut ada = scene.greet("ada").await?;
    ada.say("may I?").await;
    ada.expect_error("not_in_room").await?;
    for kind in ["typing", "leave"] {
        ada.send(json!({"type": kind, "room": ada.room})).await;
        ada.expect_error("not_in_room").await?;
    }
    crate::rules::still_talks(&mut grace).await?;
    let room = ada.room.clone();
    ada.join(&room).await.map(drop)
}

async fn bad_rooms(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let longest = format!("{}{}", "x".repeat(64 - scene.name("").len()), scene.name(""));
    let too_long = format!("x{longest}");
    let bad = ["", "Rust", "ru st", "ru.st", "ru/st", "dm:ada:grace", "🦀", "żółw", &too_long];
    for room in bad {
        ada.send(json!({"type": "join", "room": room})).await;
        ada.expect_error("bad_room").await?;
    }
    ada.join(&longest).await.map(drop)
}

async fn join_twice(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let (room, name) = (ada.room.clone(), grace.name.clone());
    ada.expect_field("member_joined", "name", &name).await?;
    let joined = grace.join(&room).await?;
    if list(&joined, "members") != [ada.name.as_str(), grace.name.as_str()] {
        return Err(grace.mismatch(&json_of(&joined)));
    }
    grace.say("hi").await;
    for client in [&mut ada, &mut grace] {
        // Strictly the next event: no second `member_joined`, and the message once.
        let event = client.next("what grace says").await?;
        if text(&event, "text") != "hi" {
            return Err(client.mismatch(&json_of(&event)));
        }
    }
    crate::rules::still_talks(&mut grace).await
}

async fn too_many(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let room = |number: usize| scene.name(&format!("room{number}"));
    for number in 0..MAX_ROOMS {
        ada.join(&room(number)).await?;
    }
    let one_more = room(MAX_ROOMS);
    ada.send(json!({"type": "join", "room": one_more})).await;
    ada.expect_error("too_many_rooms").await?;
    // A room one is in already is not one more.
    ada.join(&room(0)).await?;
    ada.send(json!({"type": "leave", "room": room(0)})).await;
    ada.expect_field("left", "room", &room(0)).await?;
    ada.join(&one_more).await.map(drop)
}

async fn rooms(scene: &mut Scene) -> Check {
    let (rust, node) = (scene.name("rust"), scene.name("node"));
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    ada.join(&rust).await?;
    ada.join(&node).await?;
    grace.join(&rust).await?;
    let came = own_rooms(&mut grace, &scene.tag).await?;
    let mut wanted = vec![(node, 1), (rust, 2)];
    wanted.sort();
    if came == wanted {
        return Ok(());
    }
    Err(grace.mismatch(&format!("{came:?}")))
}

async fn ends_when_empty(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    crate::rules::still_talks(&mut ada).await?;
    ada.send(json!({"type": "leave", "room": room})).await;
    ada.expect_field("left", "room", &room).await?;
    gone_from_the_list(&mut ada, &scene.tag).await?;
    let joined = ada.join(&room).await?;
    let has_no_history = joined.get("history").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if has_no_history { Ok(()) } else { Err(ada.mismatch(&json_of(&joined))) }
}

async fn ends_when_broken(scene: &mut Scene) -> Check {
    let mut grace = scene.greet("grace").await?;
    let ada = scene.enter("ada").await?;
    ada.vanish();
    gone_from_the_list(&mut grace, &scene.tag).await
}

/// The server may need a moment to notice that a room is empty.
async fn gone_from_the_list(client: &mut Client, tag: &str) -> Check {
    for _ in 0..TRIES {
        if own_rooms(client, tag).await?.is_empty() {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
    Err(client.mismatch("the empty room in the list, again and again"))
}

/// This scenario's rooms as the server lists them, by name, with the number of their members.
async fn own_rooms(client: &mut Client, tag: &str) -> Check<Vec<(String, u64)>> {
    client.send(json!({"type": "rooms"})).await;
    let event = client.expect("rooms").await?;
    let rooms = event.get("rooms").and_then(Value::as_array);
    let Some(rooms) = rooms else { return Err(client.mismatch(&json_of(&event))) };
    let count = |room: &Value| room.get("members").and_then(Value::as_u64).unwrap_or_default();
    let mut own: Vec<(String, u64)> = rooms
        .iter()
        .filter(|room| text(room, "name").contains(tag))
        .map(|room| (text(room, "name").to_owned(), count(room)))
        .collect();
    own.sort();
    Ok(own)
}

/// Says something in a room, and waits until the room has passed it on.
async fn say_in(client: &mut Client, room: &str, words: &str) -> Check {
    client.send(with(client.message(words), "room", room)).await;
    client.expect_field("message", "text", words).await.map(drop)
}
