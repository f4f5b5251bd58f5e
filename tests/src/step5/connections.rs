//! One user, many connections.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::event::{is, is_presence, json_of, list, text};
use crate::rules::still_talks;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::{history, seq};

const MANY: Scenario = Scenario::of(5, "production/authentication.html");

const USER_HINT: &str = "A room's members are users, each with the connections that have joined: somebody comes with the first of them and leaves with the last.";
const SESSION_HINT: &str = "Keep the connections of an account by their session. A new one with the same session cancels the old one's token (4500).";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "welcome_comes_unasked",
        sentence: "Welcome comes unasked, and first",
        expected: "`welcome` as the first event, with the account's name, an `id` and a `session` that are UUIDs; other ones for each connection",
        hint: "Who it is, the session has said: send `welcome` right after the upgrade.",
        run: |scene| Box::pin(unasked(scene)),
        ..MANY
    },
    Scenario {
        name: "every_connection_of_a_user_hears_what_is_said",
        sentence: "Every connection of a user that has joined a room hears what is said there",
        expected: "the same `message` on both connections, the `ack` on the one that sent it, and nothing on a third that has not joined",
        hint: USER_HINT,
        run: |scene| Box::pin(all_hear(scene)),
        ..MANY
    },
    Scenario {
        name: "a_user_with_two_connections_is_one_member",
        sentence: "A user with two connections is one member",
        expected: "the name once in `members` and in the number of members, and one `member_joined`",
        hint: USER_HINT,
        run: |scene| Box::pin(one_member(scene)),
        ..MANY
    },
    Scenario {
        name: "a_user_leaves_with_the_last_connection",
        sentence: "A user leaves a room with the last connection",
        expected: "`left` for each connection that leaves, and `member_left` for the others after the last one, however it ends",
        hint: USER_HINT,
        run: |scene| Box::pin(last_leaves(scene)),
        ..MANY
    },
    Scenario {
        name: "a_conversation_comes_to_all_connections_of_both",
        sentence: "A conversation comes to all connections of both",
        expected: "`joined` and the message on each connection of either, without a join",
        hint: "When a message is stored in a `dm:` room, join every connection of both accounts that is not there yet.",
        run: |scene| Box::pin(conversation(scene)),
        ..MANY
    },
    Scenario {
        name: "a_message_waits_for_who_is_away",
        sentence: "A direct message waits for somebody who is registered and away",
        expected: "an `ack` although the other is not connected, and the message in the history when they come",
        hint: "Look the addressee up among the accounts, not among the connections.",
        run: |scene| Box::pin(away(scene)),
        ..MANY
    },
    Scenario {
        name: "coming_back_with_its_session_ends_a_client_s_old_connection",
        sentence: "A client that comes back with its session ends its own old connection, and no other",
        expected: "close code 4500 for the connection with that session, `welcome` with the same session, and an open connection for the user's other client",
        hint: SESSION_HINT,
        run: |scene| Box::pin(comes_back(scene)),
        ..MANY
    },
    Scenario {
        name: "a_session_of_another_account_ends_nothing",
        sentence: "The session of somebody else's client ends nothing",
        expected: "an open connection for both, until the session's own account comes back with it",
        hint: SESSION_HINT,
        run: |scene| Box::pin(not_of_another(scene)),
        ..MANY
    },
    Scenario {
        name: "an_old_connection_s_end_changes_nothing_for_the_new_one",
        sentence: "What an old connection still does changes nothing for the new one",
        expected: "after coming back and `join`, one member, and messages for the new connection, ten times over",
        hint: "The old connection's cleanup runs later: let it remove only what is its own, by the connection's id.",
        run: |scene| Box::pin(stays(scene)),
        ..MANY
    },
];

/// The session in a client's welcome.
pub(crate) fn session(client: &Client) -> String {
    client.welcome.as_ref().map(|welcome| text(welcome, "session").to_owned()).unwrap_or_default()
}

/// Connects with the session of an earlier connection.
pub(crate) async fn back(scene: &Scene, base: &str, session: &str) -> Check<Client> {
    scene.connect_to(base, &format!("/ws?session={session}")).await
}

async fn unasked(scene: &mut Scene) -> Check {
    let mut seen = Vec::new();
    for base in ["ada", "ada", "grace"] {
        let mut client = scene.connect(base).await?;
        let welcome = client.welcome.clone().unwrap_or_default();
        let (id, session) = (text(&welcome, "id").to_owned(), text(&welcome, "session").to_owned());
        let is_right = Uuid::try_parse(&id).is_ok()
            && Uuid::try_parse(&session).is_ok()
            && text(&welcome, "name") == scene.name(base);
        seen.extend([id, session]);
        seen.sort();
        let is_new = seen.windows(2).all(|two| matches!(two, [one, other] if one != other));
        if !is_right || !is_new {
            return Err(client.mismatch(&json_of(&welcome)));
        }
        client.send(json!({"type": "rooms"})).await;
        client.expect("rooms").await?;
    }
    Ok(())
}

async fn all_hear(scene: &mut Scene) -> Check {
    let mut first = scene.enter("ada").await?;
    let mut second = scene.enter("ada").await?;
    let mut elsewhere = scene.greet("ada").await?;
    let mut grace = scene.enter("grace").await?;
    first.store("from one").await?;
    let mut events = Vec::new();
    for client in [&mut first, &mut second, &mut grace] {
        events.push(client.expect_field("message", "text", "from one").await?);
    }
    if events.iter().any(|event| Some(event) != events.first()) {
        return Err(scene.mismatch(&format!("{events:?}")));
    }
    second.store("from the other").await?;
    first.expect_field("message", "text", "from the other").await?;
    // The third has not joined: it may not even speak there.
    elsewhere.say("me too").await;
    elsewhere.expect_error("not_in_room").await.map(drop)
}

async fn one_member(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let first = scene.enter("ada").await?;
    grace.expect_field("member_joined", "name", &first.name).await?;
    let mut second = scene.greet("ada").await?;
    let room = second.room.clone();
    let joined = second.join(&room).await?;
    if list(&joined, "members") != [first.name.as_str(), grace.name.as_str()] {
        return Err(second.mismatch(&json_of(&joined)));
    }
    second.send(json!({"type": "rooms"})).await;
    let rooms = second.expect("rooms").await?;
    let all = rooms.get("rooms").and_then(Value::as_array).cloned().unwrap_or_default();
    let own = all.iter().find(|other| text(other, "name") == room);
    if own.and_then(|own| own.get("members")) != Some(&json!(2)) {
        return Err(second.mismatch(&json_of(&rooms)));
    }
    second.say("hi").await;
    // Strictly the next event: no second `member_joined`.
    let event = grace.next("what ada says").await?;
    if is(&event, "message") { Ok(()) } else { Err(grace.mismatch(&json_of(&event))) }
}

async fn last_leaves(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut first = scene.enter("ada").await?;
    let second = scene.enter("ada").await?;
    let third = scene.enter("ada").await?;
    let name = first.name.clone();
    grace.expect_field("member_joined", "name", &name).await?;
    let room = first.room.clone();
    first.send(json!({"type": "leave", "room": room})).await;
    first.expect_field("left", "room", &room).await?;
    second.vanish();
    nobody_left(&mut grace).await?;
    third.vanish();
    grace.expect_field("member_left", "name", &name).await?;
    nobody_left(&mut grace).await
}

/// What one says must be the next thing one hears.
async fn nobody_left(client: &mut Client) -> Check {
    // Time for the server to notice that a connection has ended.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.say("who is here?").await;
    let event = client.next("what was said, and nobody who left before").await?;
    if is_presence(&event) { Err(client.mismatch(&json_of(&event))) } else { Ok(()) }
}

async fn conversation(scene: &mut Scene) -> Check {
    let mut all = Vec::new();
    for base in ["ada", "ada", "grace", "grace"] {
        all.push(scene.greet(base).await?);
    }
    let id = Uuid::new_v4().to_string();
    let direct = json!({"type": "direct", "id": id, "to": scene.name("grace"), "text": "psst"});
    let sender = all.first_mut().ok_or_else(|| scene.mismatch("no client"))?;
    sender.send(direct).await;
    sender.ack(&id).await?;
    for client in &mut all {
        let joined = client.expect("joined").await?;
        let members = list(&joined, "members").len();
        if !text(&joined, "room").starts_with("dm:") || members > 2 {
            return Err(client.mismatch(&json_of(&joined)));
        }
        if history(&joined).is_empty() {
            client.expect_field("message", "text", "psst").await?;
        }
        client.room = text(&joined, "room").to_owned();
    }
    // Each of them is in it now, and may answer.
    let last = all.last_mut().ok_or_else(|| scene.mismatch("no client"))?;
    last.store("I heard you").await?;
    for client in &mut all {
        client.expect_field("message", "text", "I heard you").await?;
    }
    Ok(())
}

async fn away(scene: &mut Scene) -> Check {
    scene.prepare("alan").await?;
    let mut ada = scene.greet("ada").await?;
    let id = Uuid::new_v4().to_string();
    let to = scene.name("ALAN");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "call me"})).await;
    let ack = ada.ack(&id).await?;
    let room = text(&ack, "room").to_owned();
    if seq(&ack) != 1 || !room.starts_with("dm:") {
        return Err(ada.mismatch(&json_of(&ack)));
    }
    let mut alan = scene.greet("alan").await?;
    let joined = alan.join(&room).await?;
    let said = history(&joined);
    let is_right = matches!(said.as_slice(), [one] if text(one, "text") == "call me");
    if is_right { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}

async fn comes_back(scene: &mut Scene) -> Check {
    let mut old = scene.enter("ada").await?;
    let mut other = scene.enter("ada").await?;
    let mut new = back(scene, "ada", &session(&old)).await?;
    if session(&new) != session(&old) {
        return Err(new.mismatch("a welcome with another session"));
    }
    old.expect_close(4500).await?;
    let room = new.room.clone();
    new.join(&room).await?;
    new.store("here I am").await?;
    other.expect_field("message", "text", "here I am").await?;
    still_talks(&mut other).await
}

async fn not_of_another(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut eve = back(scene, "eve", &session(&ada)).await?;
    let room = eve.room.clone();
    eve.join(&room).await?;
    let unknown = back(scene, "eve", &Uuid::new_v4().to_string()).await?;
    if Uuid::try_parse(&session(&unknown)).is_err() {
        return Err(unknown.mismatch("no session"));
    }
    still_talks(&mut ada).await?;
    eve.expect_field("message", "text", "still here").await?;
    // Nor does its own owner lose it by that.
    let again = back(scene, "ada", &session(&ada)).await?;
    ada.expect_close(4500).await?;
    drop(again);
    still_talks(&mut eve).await
}

async fn stays(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut old = scene.enter("ada").await?;
    let own = session(&old);
    for _ in 0..10 {
        let mut new = back(scene, "ada", &own).await?;
        let room = new.room.clone();
        let joined = new.join(&room).await?;
        if list(&joined, "members").len() != 2 {
            return Err(new.mismatch(&json_of(&joined)));
        }
        old.expect_close(4500).await?;
        grace.say("are you there?").await;
        new.expect_field("message", "text", "are you there?").await?;
        new.store("I am").await?;
        new.expect_field("message", "text", "I am").await?;
        old = new;
    }
    Ok(())
}
