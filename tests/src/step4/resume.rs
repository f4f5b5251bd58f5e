//! Coming back: a join with a cursor gives everything that came after it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::acks::{history, seq};
use crate::client::Client;
use crate::event::{json_of, list, text};
use crate::raw::Frame;
use crate::scenario::{Check, SLOW, Scenario};
use crate::scene::Scene;

/// How many of a room's last messages can be resumed.
const KEPT: u64 = 10_000;

const RESUME: Scenario = Scenario::of(4, "production/reconnection.html");

const GAP_HINT: &str = "A cursor is good if its epoch is the log's, and `after` lies between the oldest kept message and the last. Else: the last 50, and `gap: true`.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "joined_says_where_the_room_is",
        sentence: "Joined says which count the room's numbers belong to, and how far it is",
        expected: "`joined` with an `epoch` that is a UUID, the last `seq`, and `gap` false; the same epoch each time",
        hint: "The log has an epoch: a UUID that is made with it and stays with it.",
        run: |scene| Box::pin(joined(scene)),
        ..RESUME
    },
    Scenario {
        name: "joining_again_changes_nothing",
        sentence: "Joining a room again changes nothing for the others",
        expected: "`joined` again, oneself once among the members, and every message once",
        hint: "Who is a member already gets the answer again; nobody is told, nothing is added.",
        run: |scene| Box::pin(join_twice(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_room_s_history_outlives_its_members",
        sentence: "A room's history outlives its members",
        expected: "the history for the next one who joins an empty room, and a count that goes on",
        hint: "When the last member is gone, the room's task may end: its messages are in the log.",
        run: |scene| Box::pin(outlives(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_resume_gives_every_message_after_the_cursor",
        sentence: "A resume gives every message after the cursor, also if it is more than fifty",
        expected: "`history` with all messages after `after`, oldest first, and `gap` false",
        hint: "`WHERE seq > ?` without a limit of 50: that one is for those who come without a cursor.",
        run: |scene| Box::pin(every_message(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_resume_at_the_end_has_an_empty_history",
        sentence: "A resume at the end has an empty history",
        expected: "`joined` without history and without a gap",
        hint: GAP_HINT,
        run: |scene| Box::pin(nothing_missed(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_resume_while_others_speak_has_no_seam",
        sentence: "A resume while others speak leaves no gap and repeats nothing",
        expected: "every number once and in order, from the cursor on, through the end of `history` and beyond",
        hint: "Read the history and add the member in one step of the room's task: no message can come between.",
        run: |scene| Box::pin(no_seam(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_cursor_of_another_epoch_is_a_gap",
        sentence: "A cursor of another epoch is a gap",
        expected: "`gap` true and the last messages as `history`",
        hint: GAP_HINT,
        run: |scene| Box::pin(other_epoch(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_cursor_ahead_of_the_log_is_a_gap",
        sentence: "A cursor ahead of the log is a gap",
        expected: "`gap` true and the last messages as `history`",
        hint: GAP_HINT,
        run: |scene| Box::pin(ahead(scene)),
        ..RESUME
    },
    Scenario {
        name: "a_cursor_before_the_kept_history_is_a_gap",
        sentence: "A cursor before the last 10,000 messages is a gap, one within them is none",
        expected: "all 10,000 messages for a cursor at the edge; `gap` true and the last 50 for one beyond it",
        hint: GAP_HINT,
        alone: true,
        limit: SLOW,
        run: |scene| Box::pin(fell_off(scene)),
        ..RESUME
    },
    Scenario {
        name: "half_a_cursor_is_none",
        sentence: "A join with half a cursor is a join without one",
        expected: "`joined` with the last messages and `gap` false",
        hint: "Both fields are optional; a cursor is `epoch.zip(after)`.",
        run: |scene| Box::pin(half(scene)),
        ..RESUME
    },
];

async fn joined(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let room = ada.room.clone();
    let first = ada.join(&room).await?;
    let is_right = Uuid::try_parse(text(&first, "epoch")).is_ok()
        && first.get("seq") == Some(&json!(0))
        && first.get("gap") == Some(&json!(false))
        && history(&first).is_empty()
        && list(&first, "members") == [ada.name.as_str()];
    if !is_right {
        return Err(ada.mismatch(&json_of(&first)));
    }
    ada.store("one").await?;
    ada.store("two").await?;
    let mut grace = scene.greet("grace").await?;
    let second = grace.join(&room).await?;
    let is_right = epoch(&second) == epoch(&first)
        && seq(&second) == 2
        && second.get("gap") == Some(&json!(false))
        && numbers(&second) == [1, 2];
    if is_right { Ok(()) } else { Err(grace.mismatch(&json_of(&second))) }
}

async fn join_twice(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let (room, name) = (ada.room.clone(), grace.name.clone());
    ada.expect_field("member_joined", "name", &name).await?;
    let joined = grace.join(&room).await?;
    if list(&joined, "members") != [ada.name.as_str(), name.as_str()] {
        return Err(grace.mismatch(&json_of(&joined)));
    }
    grace.store("once").await?;
    grace.store("twice").await?;
    for client in [&mut ada, &mut grace] {
        for words in ["once", "twice"] {
            // Strictly the next event: no second `member_joined`, and each message once.
            let event = client.next("what grace says").await?;
            if text(&event, "text") != words {
                return Err(client.mismatch(&json_of(&event)));
            }
        }
    }
    Ok(())
}

async fn outlives(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.store("to whom it may concern").await?;
    let said = ada.expect("message").await?;
    ada.send(json!({"type": "leave", "room": ada.room})).await;
    let room = ada.room.clone();
    ada.expect_field("left", "room", &room).await?;
    let mut grace = scene.greet("grace").await?;
    let joined = grace.join(&room).await?;
    if history(&joined) != [said] {
        return Err(grace.mismatch(&json_of(&joined)));
    }
    let ack = grace.store("it did").await?;
    if seq(&ack) == 2 { Ok(()) } else { Err(grace.mismatch(&json_of(&ack))) }
}

async fn every_message(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    say_numbers(&mut ada, 200).await?;
    let mut grace = scene.enter("grace").await?;
    let epoch = epoch(&grace.join(&ada.room).await?).to_owned();
    for after in [0, 1, 149, 150, 199] {
        let joined = resume(&mut grace, &epoch, after).await?;
        let wanted: Vec<u64> = (after + 1..=200).collect();
        let is_right = numbers(&joined) == wanted
            && joined.get("gap") == Some(&json!(false))
            && seq(&joined) == 200;
        if !is_right {
            return Err(grace.mismatch(&json_of(&joined)));
        }
    }
    Ok(())
}

async fn nothing_missed(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.store("one").await?;
    ada.expect("message").await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    let joined = resume(&mut ada, &epoch, 1).await?;
    let is_right = history(&joined).is_empty() && joined.get("gap") == Some(&json!(false));
    if is_right { Ok(()) } else { Err(ada.mismatch(&json_of(&joined))) }
}

async fn no_seam(scene: &mut Scene) -> Check {
    const ALL: u64 = 600;
    let mut ada = scene.enter("ada").await?;
    ada.store("1").await?;
    let mut grace = scene.greet("grace").await?;
    let room = ada.room.clone();
    let epoch = epoch(&grace.join(&room).await?).to_owned();
    scene.journal.note(&format!("ada sent {ALL} messages while grace left and resumed"));
    let frames: Vec<Vec<u8>> = (2..=ALL)
        .map(|number| Frame::text(json_of(&ada.message(&number.to_string()))).encode())
        .collect();
    let talking = async {
        for frame in &frames {
            ada.send_quietly(frame).await;
        }
    };
    let (mut at, mut rounds) = (1, 0);
    let listening = async {
        while at < ALL {
            grace.send(json!({"type": "leave", "room": room})).await;
            until_left(&mut grace, &mut at).await?;
            let joined = resume(&mut grace, &epoch, at).await?;
            take(&mut grace, &mut at, numbers(&joined))?;
            // Some live ones after the history, then away again.
            for _ in 0..5.min(ALL - at) {
                let said = grace.expect("message").await?;
                take(&mut grace, &mut at, vec![seq(&said)])?;
            }
            rounds += 1;
        }
        Check::Ok(())
    };
    let ((), heard) = tokio::join!(talking, listening);
    heard?;
    scene.journal.note(&format!("it took {rounds} rounds"));
    Ok(())
}

/// Takes what still comes until the room has been left.
async fn until_left(client: &mut Client, at: &mut u64) -> Check {
    loop {
        let event = client.next("`left`, or what was said before").await?;
        match text(&event, "type") {
            "left" => return Ok(()),
            "message" => take(client, at, vec![seq(&event)])?,
            _ => {}
        }
    }
}

/// The numbers must go on where the last ones ended.
fn take(client: &mut Client, at: &mut u64, numbers: Vec<u64>) -> Check {
    for number in numbers {
        if number != *at + 1 {
            return Err(client.mismatch(&format!("number {number} after number {at}")));
        }
        *at = number;
    }
    Ok(())
}

async fn other_epoch(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    say_numbers(&mut ada, 60).await?;
    let joined = resume(&mut ada, &Uuid::new_v4().to_string(), 30).await?;
    starts_afresh(&ada, &joined, 60)
}

async fn ahead(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    say_numbers(&mut ada, 60).await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    let joined = resume(&mut ada, &epoch, 61).await?;
    starts_afresh(&ada, &joined, 60)
}

async fn fell_off(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    let all = KEPT + 2;
    for _ in 0..all / 334 {
        say_numbers(&mut ada, 334).await?;
    }
    say_numbers(&mut ada, all % 334).await?;
    ada.send(json!({"type": "leave", "room": room})).await;
    ada.expect("left").await?;
    let beyond = resume(&mut ada, &epoch, 1).await?;
    starts_afresh(&ada, &beyond, all)?;
    ada.send(json!({"type": "leave", "room": room})).await;
    ada.expect("left").await?;
    // So much may come in several pages: a `joined` for each, the next where the last one ended.
    let mut at = 2;
    ada.send(json!({"type": "join", "room": room, "epoch": epoch, "after": at})).await;
    while at < all {
        let page = ada.expect_field("joined", "room", &room).await?;
        if page.get("gap") != Some(&json!(false)) {
            return Err(ada.mismatch(&json_of(&page)));
        }
        take(&mut ada, &mut at, numbers(&page))?;
    }
    Ok(())
}

async fn half(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    say_numbers(&mut ada, 60).await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    for half in [
        json!({"type": "join", "room": room, "epoch": epoch}),
        json!({"type": "join", "room": room, "after": 58}),
    ] {
        ada.send(half).await;
        let joined = ada.expect_field("joined", "room", &room).await?;
        let is_right = numbers(&joined) == (11..=60).collect::<Vec<u64>>()
            && joined.get("gap") == Some(&json!(false));
        if !is_right {
            return Err(ada.mismatch(&json_of(&joined)));
        }
    }
    Ok(())
}

/// The view of a client whose cursor is of no use: the last fifty, and said so.
fn starts_afresh(client: &Client, joined: &Value, last: u64) -> Check {
    let wanted: Vec<u64> = (last - 49..=last).collect();
    let is_right =
        joined.get("gap") == Some(&json!(true)) && numbers(joined) == wanted && seq(joined) == last;
    if is_right { Ok(()) } else { Err(client.mismatch(&json_of(joined))) }
}

/// Says so many things, and waits until each has come back.
async fn say_numbers(client: &mut Client, count: u64) -> Check {
    let frames: Vec<u8> = (0..count)
        .flat_map(|number| Frame::text(json_of(&client.message(&number.to_string()))).encode())
        .collect();
    client.send_quietly(&frames).await;
    for number in 0..count {
        client.expect_field("message", "text", &number.to_string()).await?;
    }
    Ok(())
}

/// Joins the client's room with a cursor.
pub(crate) async fn resume(client: &mut Client, epoch: &str, after: u64) -> Check<Value> {
    let room = client.room.clone();
    client.send(json!({"type": "join", "room": room, "epoch": epoch, "after": after})).await;
    client.expect_field("joined", "room", &room).await
}

/// The numbers of the messages in a `joined`.
pub(crate) fn numbers(joined: &Value) -> Vec<u64> {
    history(joined).iter().map(seq).collect()
}

/// The epoch in a `joined`.
pub(crate) fn epoch(joined: &Value) -> &str {
    text(joined, "epoch")
}
