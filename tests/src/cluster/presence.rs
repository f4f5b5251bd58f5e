//! Who is here, on whichever node.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{CLUSTER, LONG, LOOK, nodes, over_redis, redis};
use crate::client::Client;
use crate::event::{is, is_presence, json_of, list, text};
use crate::process::stop;
use crate::program::Stop as Signal;
use crate::redis::Fsync;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::history;

/// After what time those of a killed node are gone, with some room for a busy machine.
const GONE: Duration = Duration::from_secs(45 + 5);

/// How long the list of rooms may lag behind.
const SOON: Duration = Duration::from_secs(5);

const HERE_HINT: &str = "Presence lives in Redis, one entry for each connection with a time at which it expires; the nodes refresh their own. The first of a user tells `member_joined`, the last `member_left`.";
const EXPIRES_HINT: &str = "Whoever refreshes a room's presence also removes what has expired there, and tells who has left by that.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "members_are_those_of_all_nodes",
        sentence: "The members of a room are those of all nodes",
        expected: "all names in `joined`, `member_joined` and `member_left` at the other node, and both counted in `rooms` at either",
        hint: HERE_HINT,
        run: |scene| Box::pin(members(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_user_on_two_nodes_is_one_member",
        sentence: "A user on two nodes is one member",
        expected: "the name once in `members` and in the count; `member_left` after the last connection only",
        hint: HERE_HINT,
        run: |scene| Box::pin(one_member(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "those_of_a_killed_node_are_gone_within_45_seconds",
        sentence: "Those who were at a node that was killed are gone within 45 seconds",
        expected: "`member_left` within 45 seconds after kill -9 of the other node, no name of theirs in the next `joined`, and their places free again",
        hint: EXPIRES_HINT,
        limit: LONG,
        run: |scene| Box::pin(killed(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "those_of_a_node_that_stops_are_gone_at_once",
        sentence: "Those who were at a node that stops are gone at once",
        expected: "`member_left` within seconds after SIGTERM of the other node",
        hint: "The last that a node does for a room is to take its members out of Redis.",
        run: |scene| Box::pin(stopped(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "typing_is_seen_on_other_nodes",
        sentence: "Typing is seen on other nodes, and by nobody twice",
        expected: "one `typing` with the name for each of the others, none for who types, and none in the history",
        hint: "Publish it in the room's channel without a number.",
        run: |scene| Box::pin(typing(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_direct_message_finds_its_reader_on_another_node",
        sentence: "A direct message finds its reader on another node",
        expected: "`joined` and the message on every connection of both, without a join",
        hint: "A channel for each user: whoever has connections of theirs is told to join them.",
        run: |scene| Box::pin(direct(scene)),
        ..CLUSTER
    },
];

/// How many members a room has, by the list of rooms.
async fn counted(client: &mut Client, room: &str) -> Check<Option<u64>> {
    client.send(json!({"type": "rooms"})).await;
    let rooms = client.expect("rooms").await?;
    let all = rooms.get("rooms").and_then(Value::as_array).cloned().unwrap_or_default();
    let own = all.iter().find(|other| text(other, "name") == room);
    Ok(own.and_then(|own| own.get("members")).and_then(Value::as_u64))
}

/// The list of rooms must come to have so many members in it.
async fn has_members(client: &mut Client, room: &str, wanted: u64) -> Check {
    let end = Instant::now() + SOON;
    loop {
        let came = counted(client, room).await?;
        if came == Some(wanted) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(client.mismatch(&format!("{came:?} members, where {wanted} are here")));
        }
        sleep(LOOK).await;
    }
}

async fn members(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.greet("grace").await?;
    let room = grace.room.clone();
    let joined = grace.join(&room).await?;
    if list(&joined, "members") != [ada.name.as_str(), grace.name.as_str()] {
        return Err(grace.mismatch(&json_of(&joined)));
    }
    ada.expect_field("member_joined", "name", &grace.name).await?;
    has_members(&mut ada, &room, 2).await?;
    has_members(&mut grace, &room, 2).await?;
    grace.send(json!({"type": "leave", "room": room})).await;
    grace.expect("left").await?;
    ada.expect_field("member_left", "name", &grace.name).await?;
    has_members(&mut ada, &room, 1).await?;
    grace.join(&room).await?;
    ada.expect_field("member_joined", "name", &grace.name).await?;
    let name = grace.name.clone();
    grace.vanish();
    ada.expect_field("member_left", "name", &name).await.map(drop)
}

async fn one_member(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut grace = a.enter("grace").await?;
    let first = a.enter("ada").await?;
    grace.expect_field("member_joined", "name", &first.name).await?;
    let mut second = b.greet("ada").await?;
    let room = second.room.clone();
    let joined = second.join(&room).await?;
    if list(&joined, "members") != [first.name.as_str(), grace.name.as_str()] {
        return Err(second.mismatch(&json_of(&joined)));
    }
    has_members(&mut second, &room, 2).await?;
    first.vanish();
    // Time for the node to notice.
    sleep(Duration::from_millis(500)).await;
    second.say("hi").await;
    // Strictly the next event: neither a second `member_joined` nor a `member_left`.
    let event = grace.next("what ada says").await?;
    if !is(&event, "message") || is_presence(&event) {
        return Err(grace.mismatch(&json_of(&event)));
    }
    has_members(&mut grace, &room, 2).await?;
    let name = second.name.clone();
    second.vanish();
    grace.expect_field("member_left", "name", &name).await?;
    has_members(&mut grace, &room, 1).await
}

async fn killed(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let [a, mut b] = nodes(scene, &redis.url(), &[("MAX_CONNECTIONS_PER_USER", "1")]).await?;
    let mut ada = a.enter("ada").await?;
    let grace = b.enter("grace").await?;
    ada.expect_field("member_joined", "name", &grace.name).await?;
    scene.journal.note("killed the node where grace is (kill -9)");
    let killed = b.running()?.kill().await;
    killed.map_err(|error| scene.mismatch(&error.to_string()))?;
    let began = Instant::now();
    ada.patience = GONE;
    ada.expect_field("member_left", "name", &grace.name).await?;
    scene.journal.note(&format!("that was {:.1} s after the kill", began.elapsed().as_secs_f64()));
    let mut alan = a.greet("alan").await?;
    let room = alan.room.clone();
    let joined = alan.join(&room).await?;
    if list(&joined, "members") != [ada.name.as_str(), alan.name.as_str()] {
        return Err(alan.mismatch(&json_of(&joined)));
    }
    has_members(&mut alan, &room, 2).await?;
    // The place that the killed node held for its user.
    while began.elapsed() < GONE {
        if let Ok(mut grace) = a.enter("grace").await {
            return grace.store("here again").await.map(drop);
        }
        sleep(LOOK * 10).await;
    }
    Err(scene.mismatch("no place for grace"))
}

async fn stopped(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let [a, mut b] = nodes(scene, &redis.url(), &[("DRAIN_SECONDS", "0")]).await?;
    let mut ada = a.enter("ada").await?;
    let grace = b.enter("grace").await?;
    ada.expect_field("member_joined", "name", &grace.name).await?;
    stop(&mut b, Signal::Term).await?;
    ada.expect_field("member_left", "name", &grace.name).await?;
    let mut alan = a.greet("alan").await?;
    let room = alan.room.clone();
    let joined = alan.join(&room).await?;
    let is_right = list(&joined, "members") == [ada.name.as_str(), alan.name.as_str()];
    if is_right { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}

async fn typing(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    let mut alan = a.enter("alan").await?;
    grace.send(json!({"type": "typing", "room": grace.room})).await;
    for client in [&mut ada, &mut alan] {
        client.expect_field("typing", "name", &grace.name).await?;
    }
    grace.store("hi").await?;
    // The next thing that each of them hears.
    for client in [&mut grace, &mut ada, &mut alan] {
        client.expect_field("message", "text", "hi").await?;
    }
    let mut late = b.greet("late").await?;
    let room = late.room.clone();
    let joined = late.join(&room).await?;
    let is_right = history(&joined).len() == 1;
    if is_right { Ok(()) } else { Err(late.mismatch(&json_of(&joined))) }
}

async fn direct(scene: &mut Scene) -> Check {
    let (_redis, [a, b, c]) = over_redis(scene).await?;
    let mut ada = a.greet("ada").await?;
    let mut others = [b.greet("grace").await?, c.greet("grace").await?, c.greet("ada").await?];
    let id = Uuid::new_v4().to_string();
    let to = scene.name("grace");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "psst"})).await;
    let room = text(&ada.ack(&id).await?, "room").to_owned();
    for client in &mut others {
        let joined = client.expect_field("joined", "room", &room).await?;
        if history(&joined).is_empty() {
            client.expect_field("message", "text", "psst").await?;
        }
        client.room.clone_from(&room);
    }
    let [grace, ..] = &mut others;
    grace.store("I heard you").await?;
    for client in &mut others {
        client.expect_field("message", "text", "I heard you").await?;
    }
    // Who is registered and nowhere finds it later, at any node.
    b.prepare("alan").await?;
    let id = Uuid::new_v4().to_string();
    let to = scene.name("alan");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "call me"})).await;
    let room = text(&ada.ack(&id).await?, "room").to_owned();
    let mut alan = c.greet("alan").await?;
    let joined = alan.join(&room).await?;
    let said = history(&joined);
    let is_right = matches!(said.as_slice(), [one] if text(one, "text") == "call me");
    if is_right { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}
