//! What a newcomer is told of what was said before.

use serde_json::Value;

use crate::client::Client;
use crate::event::{is, json_of, text};
use crate::raw::Frame;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

/// How many messages a newcomer gets.
const HISTORY: usize = 50;

const PAST: Scenario = Scenario::of(3, "implementation/step3-room.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_late_joiner_gets_what_was_said",
        sentence: "A late joiner gets what was said, as it was said",
        expected: "`history` with the same `message` events that the members got",
        hint: "Keep the events that you send, and put them into `joined`.",
        run: |scene| Box::pin(gets_history(scene)),
        ..PAST
    },
    Scenario {
        name: "a_late_joiner_gets_the_last_fifty_messages",
        sentence: "A late joiner gets the last fifty messages, oldest first",
        expected: "`history` with messages 10 to 59 of 60, in this order",
        hint: "A `VecDeque`: `push_back` each message, and `pop_front` once there are more than 50.",
        run: |scene| Box::pin(last_fifty(scene)),
        ..PAST
    },
    Scenario {
        name: "history_has_only_messages",
        sentence: "History has only messages",
        expected: "no `member_joined`, `typing` or the like in `history`",
        hint: "Put messages into the history, and nothing else that the room sends.",
        run: |scene| Box::pin(only_messages(scene)),
        ..PAST
    },
    Scenario {
        name: "joining_in_the_middle_leaves_no_gap",
        sentence: "Joining while others talk leaves no gap and repeats nothing",
        expected: "the next message after the end of `history`, and all that follow",
        hint: "Answer `joined` and add the member in one step of the room's task, so that no message can come between.",
        run: |scene| Box::pin(no_gap(scene)),
        ..PAST
    },
];

async fn gets_history(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.say("before you came").await;
    let said = ada.expect("message").await?;
    let mut grace = scene.greet("grace").await?;
    let history = history_of(&mut grace).await?;
    if history == [said] { Ok(()) } else { Err(grace.mismatch(&format!("{history:?}"))) }
}

async fn last_fifty(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for number in 0..HISTORY + 10 {
        let words = number.to_string();
        ada.say(&words).await;
        ada.expect_field("message", "text", &words).await?;
    }
    let mut grace = scene.greet("grace").await?;
    let history = history_of(&mut grace).await?;
    let texts: Vec<&str> = history.iter().map(|message| text(message, "text")).collect();
    let wanted: Vec<String> = (10..HISTORY + 10).map(|number| number.to_string()).collect();
    if texts == wanted {
        return Ok(());
    }
    let (first, last) = (texts.first().unwrap_or(&"none"), texts.last().unwrap_or(&"none"));
    Err(grace.mismatch(&format!("{} messages, from \"{first}\" to \"{last}\"", texts.len())))
}

async fn only_messages(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    grace.send(serde_json::json!({"type": "typing", "room": grace.room})).await;
    crate::rules::still_talks(&mut grace).await?;
    grace.leave().await?;
    let name = grace.name.clone();
    ada.expect_that("a `member_left`", |event| {
        is(event, "member_left") && text(event, "name") == name
            || is(event, "typing")
            || is(event, "message")
    })
    .await?;
    let mut alan = scene.greet("alan").await?;
    let history = history_of(&mut alan).await?;
    let is_right = matches!(history.as_slice(), [one] if is(one, "message"));
    if is_right { Ok(()) } else { Err(alan.mismatch(&format!("{history:?}"))) }
}

async fn no_gap(scene: &mut Scene) -> Check {
    const ALL: usize = 300;
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let frames: Vec<Vec<u8>> = (0..ALL)
        .map(|number| Frame::text(json_of(&ada.message(&number.to_string()))).encode())
        .collect();
    let (before, after) = frames.split_at(ALL / 3);
    scene.journal.note(&format!("ada sent the numbers from 0 to {} while grace joined", ALL - 1));
    ada.send_quietly(&before.concat()).await;
    let talking = async {
        for message in after {
            ada.send_quietly(message).await;
        }
    };
    let ((), history) = tokio::join!(talking, history_of(&mut grace));
    let history = history?;
    let first = history.first().map_or("0", |message| text(message, "text")).parse();
    let first = first.unwrap_or(usize::MAX);
    for (number, message) in (first..).zip(&history) {
        is_number(&grace, message, number)?;
    }
    for number in first.saturating_add(history.len())..ALL {
        let message = grace.expect("message").await?;
        is_number(&grace, &message, number)?;
    }
    Ok(())
}

fn is_number(client: &Client, message: &Value, number: usize) -> Check {
    if text(message, "text") == number.to_string() {
        return Ok(());
    }
    Err(client.mismatch(&format!("{message} where number {number} was due")))
}

/// Joins the scenario's room and gives the history.
async fn history_of(client: &mut Client) -> Check<Vec<Value>> {
    let room = client.room.clone();
    let joined = client.join(&room).await?;
    let history = joined.get("history").and_then(Value::as_array).cloned();
    history.ok_or_else(|| client.mismatch(&json_of(&joined)))
}
