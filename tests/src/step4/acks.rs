//! Sending: a message has an id of its sender's, and is acked once it is stored.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::event::{is, json_of, list, text, with};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const SENDING: Scenario = Scenario::of(4, "production/queueing.html");

const ID_HINT: &str = "Give the variant a field `id: Uuid`: serde refuses what has none, or another kind of text in it.";
const STORE_HINT: &str = "A UNIQUE index over namespace, sender and id, and `ON CONFLICT DO NOTHING`: then look up what is stored and compare.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_message_is_acked_with_its_number",
        sentence: "A message is acked, and the ack and the message carry the same number",
        expected: "`ack` with the message's id, its room and a `seq`; `message` with the same id and seq for everyone",
        hint: "The log gives the number; put it into the ack and into the message.",
        run: |scene| Box::pin(acked(scene)),
        ..SENDING
    },
    Scenario {
        name: "numbers_have_no_holes",
        sentence: "A room counts its messages 1, 2, 3, without holes",
        expected: "`seq` 1 to 40 in the order of the messages, in each room anew, also where some were refused",
        hint: "One writer gives the numbers, in the transaction that stores the message: `max(seq) + 1`.",
        run: |scene| Box::pin(no_holes(scene)),
        ..SENDING
    },
    Scenario {
        name: "a_message_without_an_id_is_refused",
        sentence: "A message without an id is refused",
        expected: "`error` with code `bad_json`, and an open connection",
        hint: ID_HINT,
        run: |scene| Box::pin(no_id(scene)),
        ..SENDING
    },
    Scenario {
        name: "a_message_whose_id_is_no_uuid_is_refused",
        sentence: "A message whose id is no UUID is refused",
        expected: "`error` with code `bad_json`, and an open connection",
        hint: ID_HINT,
        run: |scene| Box::pin(bad_id(scene)),
        ..SENDING
    },
    Scenario {
        name: "a_repeated_message_is_acked_again_and_said_once",
        sentence: "A repeated message is acked again with its old number, and said once",
        expected: "`ack` with the same `seq` for the same id, and no second `message`",
        hint: STORE_HINT,
        run: |scene| Box::pin(repeated(scene)),
        ..SENDING
    },
    Scenario {
        name: "a_used_id_with_another_text_is_a_conflict",
        sentence: "A used id with another text, or in another room, is a conflict",
        expected: "`error` with code `id_conflict` and the id, and nothing for the others",
        hint: STORE_HINT,
        run: |scene| Box::pin(conflict(scene)),
        ..SENDING
    },
    Scenario {
        name: "an_id_is_its_sender_s_own",
        sentence: "The same id from somebody else is another message",
        expected: "`message` and `ack` with a number of its own",
        hint: "The index is over the sender and the id, not over the id alone.",
        run: |scene| Box::pin(other_sender(scene)),
        ..SENDING
    },
    Scenario {
        name: "an_error_names_the_message_it_answers",
        sentence: "An error names the message it answers",
        expected: "`error` with the message's `id`, for `not_in_room`, `empty_text`, `text_too_long` and `bad_json`",
        hint: "Keep the id before you look at the rest of the event, and put it into whatever error comes of it.",
        run: |scene| Box::pin(error_with_id(scene)),
        ..SENDING
    },
    Scenario {
        name: "who_said_it_and_where_in_the_order_is_for_the_server_to_say",
        sentence: "Who said it, when, and where in the order is for the server to say",
        expected: "`from`, `at` and `seq` from the server, whatever the client wrote there",
        hint: "Build the event that you send from what the server knows. Don't pass the client's JSON on.",
        run: |scene| Box::pin(fields_of_the_server(scene)),
        ..SENDING
    },
    Scenario {
        name: "typing_is_not_stored",
        sentence: "Typing is not stored",
        expected: "`seq` 1 for the first message, although somebody was typing before, and a history with messages only",
        hint: "Only messages go into the log. Typing goes from the room to its members, and may be lost.",
        run: |scene| Box::pin(typing(scene)),
        ..SENDING
    },
];

async fn acked(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let message = ada.message("hi");
    let id = text(&message, "id");
    ada.send(message.clone()).await;
    let ack = ada.ack(id).await?;
    let is_right = text(&ack, "room") == ada.room && seq(&ack) == 1;
    if !is_right {
        return Err(ada.mismatch(&json_of(&ack)));
    }
    for client in [&mut ada, &mut grace] {
        let said = client.expect_field("message", "text", "hi").await?;
        if text(&said, "id") != id || seq(&said) != 1 {
            return Err(client.mismatch(&json_of(&said)));
        }
    }
    Ok(())
}

async fn no_holes(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for number in 1..=40 {
        let ack = ada.store(&format!("number {number}")).await?;
        if seq(&ack) != number {
            return Err(ada.mismatch(&json_of(&ack)));
        }
        let said = ada.expect("message").await?;
        if seq(&said) != number {
            return Err(ada.mismatch(&json_of(&said)));
        }
        // What is refused, and what is repeated, takes no number.
        ada.say(" ").await;
        ada.expect_error("empty_text").await?;
        ada.send(with(ada.message(text(&said, "text")), "id", text(&said, "id"))).await;
        ada.ack(text(&said, "id")).await?;
    }
    ada.room = scene.name("other");
    let other = ada.room.clone();
    ada.join(&other).await?;
    let ack = ada.store("one").await?;
    if seq(&ack) == 1 { Ok(()) } else { Err(ada.mismatch(&json_of(&ack))) }
}

async fn no_id(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.send(json!({"type": "message", "room": ada.room, "text": "hi"})).await;
    ada.expect_error("bad_json").await?;
    ada.store("still here").await.map(drop)
}

async fn bad_id(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for id in [json!("42"), json!(42), json!(null), json!(""), json!(["6ad14a5e"])] {
        ada.send(with(ada.message("hi"), "id", id)).await;
        ada.expect_error("bad_json").await?;
    }
    ada.store("still here").await.map(drop)
}

async fn repeated(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let message = ada.message("once");
    let id = text(&message, "id");
    for _ in 0..3 {
        ada.send(message.clone()).await;
        let ack = ada.ack(id).await?;
        if seq(&ack) != 1 || text(&ack, "room") != ada.room {
            return Err(ada.mismatch(&json_of(&ack)));
        }
    }
    ada.store("twice").await?;
    for client in [&mut ada, &mut grace] {
        client.expect_field("message", "text", "once").await?;
        client.expect_field("message", "text", "twice").await?;
    }
    Ok(())
}

async fn conflict(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let other = scene.name("other");
    ada.join(&other).await?;
    let message = ada.message("first");
    let id = text(&message, "id").to_owned();
    ada.send(message.clone()).await;
    ada.ack(&id).await?;
    ada.expect_field("message", "text", "first").await?;
    for changed in [with(message.clone(), "text", "second"), with(message, "room", other)] {
        ada.send(changed).await;
        expect_error_about(&mut ada, "id_conflict", &id).await?;
    }
    ada.store("third").await?;
    grace.expect_field("message", "text", "first").await?;
    grace.expect_field("message", "text", "third").await.map(drop)
}

async fn other_sender(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let id = Uuid::new_v4().to_string();
    for (number, client) in (1..).zip([&mut ada, &mut grace]) {
        client.send(with(client.message("hi"), "id", id.as_str())).await;
        let ack = client.ack(&id).await?;
        if seq(&ack) != number {
            return Err(client.mismatch(&json_of(&ack)));
        }
    }
    ada.expect_field("message", "from", &ada.name.clone()).await?;
    ada.expect_field("message", "from", &grace.name).await.map(drop)
}

async fn error_with_id(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let elsewhere = scene.name("elsewhere");
    let refused = [
        ("not_in_room", with(ada.message("hi"), "room", elsewhere)),
        ("empty_text", ada.message("  ")),
        ("text_too_long", ada.message(&"x".repeat(2001))),
        ("bad_json", with(ada.message("hi"), "text", 7)),
    ];
    for (code, message) in refused {
        let id = text(&message, "id").to_owned();
        ada.send(message).await;
        expect_error_about(&mut ada, code, &id).await?;
    }
    ada.store("still here").await.map(drop)
}

async fn fields_of_the_server(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let forged = with(with(ada.message("hi"), "from", "mallory"), "at", 1);
    ada.send(with(forged, "seq", 7)).await;
    let said = ada.expect_field("message", "text", "hi").await?;
    let at = said.get("at").and_then(Value::as_u64).unwrap_or_default();
    if text(&said, "from") == ada.name && seq(&said) == 1 && at > 1_500_000_000_000 {
        return Ok(());
    }
    Err(ada.mismatch(&json_of(&said)))
}

async fn typing(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    for _ in 0..3 {
        ada.send(json!({"type": "typing", "room": ada.room})).await;
        grace.expect("typing").await?;
    }
    let ack = ada.store("hi").await?;
    if seq(&ack) != 1 {
        return Err(ada.mismatch(&json_of(&ack)));
    }
    let mut alan = scene.greet("alan").await?;
    let room = alan.room.clone();
    let joined = alan.join(&room).await?;
    let history = history(&joined);
    let is_right = list(&joined, "members").len() == 3
        && matches!(history.as_slice(), [one] if is(one, "message"));
    if is_right { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}

/// The next event must be an error with this code, about this message.
pub(crate) async fn expect_error_about(client: &mut Client, code: &str, id: &str) -> Check<Value> {
    let error = client.expect_error(code).await?;
    if text(&error, "id") == id { Ok(error) } else { Err(client.mismatch(&json_of(&error))) }
}

/// The number in an event.
pub(crate) fn seq(event: &Value) -> u64 {
    event.get("seq").and_then(Value::as_u64).unwrap_or_default()
}

/// The history in a `joined`.
pub(crate) fn history(joined: &Value) -> Vec<Value> {
    joined.get("history").and_then(Value::as_array).cloned().unwrap_or_default()
}
