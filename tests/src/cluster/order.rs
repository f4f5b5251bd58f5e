//! One order for all, whichever node they are at.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{CLUSTER, over_redis};
use crate::client::Client;
use crate::event::{json_of, text, with};
use crate::raw::Frame;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::{expect_error_about, history, seq};
use crate::step4::resume::{epoch, numbers, resume};

/// How many write at once, and how much each.
const WRITERS: usize = 10;
const EACH: usize = 20;

const ORDER_HINT: &str = "Redis gives the number, in the script that stores the message. Members hear it from the feed, those of the node that sent it too: a short cut is another order.";
const ID_HINT: &str = "Look the id up in the script that stores the message, by its sender, with a hash of what it says.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "all_nodes_have_one_order",
        sentence: "All nodes have one order, however many write at once",
        expected: "the same messages with the numbers 1 to 200 for each of ten writers on three nodes, and an `ack` for each with its number",
        hint: ORDER_HINT,
        run: |scene| Box::pin(one_order(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "an_ack_means_that_redis_has_it",
        sentence: "An ack means that Redis has the message",
        expected: "the message in the history of another node, asked right after the `ack`, a hundred times over",
        hint: "The `ack` is what becomes of the script's reply. Don't send it before.",
        run: |scene| Box::pin(redis_has_it(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_message_sent_again_by_another_node_is_the_same",
        sentence: "A message that is sent again by way of another node is the same message",
        expected: "an `ack` with the same number for the second, and the message once for everyone",
        hint: ID_HINT,
        run: |scene| Box::pin(repeated(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "an_id_means_one_text_on_all_nodes",
        sentence: "An id means one text, on all nodes",
        expected: "`id_conflict` for the same id with another text, sent by way of another node",
        hint: ID_HINT,
        run: |scene| Box::pin(conflict(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_client_resumes_at_another_node",
        sentence: "A client resumes at another node",
        expected: "`joined` with every message after the cursor, `gap` false and the same epoch",
        hint: "The cursor is Redis' own: read the stream from there on.",
        run: |scene| Box::pin(elsewhere(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "chats_with_other_prefixes_do_not_meet",
        sentence: "Chats with different REDIS_PREFIX share a Redis and do not meet",
        expected: "no account, no member and no message of the other chat",
        hint: "Every key and every channel begins with the prefix.",
        run: |scene| Box::pin(prefixes(scene)),
        ..CLUSTER
    },
];

/// Each of the messages, as everyone must hear it.
async fn hears(client: &mut Client, count: usize) -> Check<Vec<Value>> {
    let mut heard = Vec::new();
    for number in 1..=count {
        let what = format!("message {number}");
        let message = client.expect_that(&what, |event| seq(event) == number as u64).await?;
        heard.push(message);
    }
    Ok(heard)
}

async fn one_order(scene: &mut Scene) -> Check {
    let (_redis, nodes) = over_redis::<3>(scene).await?;
    let mut writers = Vec::new();
    for (number, node) in (0..WRITERS).zip(nodes.iter().cycle()) {
        writers.push(node.enter(&format!("writer{number}")).await?);
    }
    for writer in &mut writers {
        let words = (0..EACH).map(|number| format!("{} {number}", writer.name));
        let frames: Vec<u8> = words
            .flat_map(|words| Frame::text(json_of(&writer.message(&words))).encode())
            .collect();
        writer.send_quietly(&frames).await;
    }
    let all = try_join_all(writers.iter_mut().map(|writer| hears(writer, WRITERS * EACH))).await?;
    let ids: BTreeSet<&str> = all.iter().flatten().map(|message| text(message, "id")).collect();
    scene.journal.wait_for("the same messages for everyone, and each once");
    if all.iter().any(|heard| Some(heard) != all.first()) || ids.len() != WRITERS * EACH {
        return Err(scene.mismatch("different ones"));
    }
    for (writer, heard) in writers.iter_mut().zip(&all) {
        let name = writer.name.clone();
        for own in heard.iter().filter(|message| text(message, "from") == name) {
            let ack = writer.ack(text(own, "id")).await?;
            if seq(&ack) != seq(own) {
                return Err(writer.mismatch(&json_of(&ack)));
            }
        }
    }
    Ok(())
}

async fn redis_has_it(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.greet("grace").await?;
    let room = grace.room.clone();
    for number in 1..=100 {
        let ack = ada.store(&format!("number {number}")).await?;
        // Joining anew shows what is there now, whatever the feed has brought.
        let joined = grace.join(&room).await?;
        let last = history(&joined).last().map(seq);
        if seq(&ack) != number || last != Some(number) {
            return Err(grace.mismatch(&json_of(&joined)));
        }
        grace.send(json!({"type": "leave", "room": room})).await;
        grace.expect_that("a `left`", |event| text(event, "type") == "left").await?;
    }
    Ok(())
}

async fn repeated(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut one = a.enter("ada").await?;
    let mut other = b.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    let message = one.message("once");
    let id = text(&message, "id");
    one.send(message.clone()).await;
    let first = one.ack(id).await?;
    other.send(message.clone()).await;
    let second = other.ack(id).await?;
    if first != second {
        return Err(other.mismatch(&json_of(&second)));
    }
    // At both at the same moment.
    let message = one.message("at once");
    let id = text(&message, "id");
    one.send(message.clone()).await;
    other.send(message.clone()).await;
    let (first, second) = (one.ack(id).await?, other.ack(id).await?);
    if first != second || seq(&first) != 2 {
        return Err(other.mismatch(&json_of(&second)));
    }
    other.store("then").await?;
    for words in ["once", "at once", "then"] {
        grace.expect_field("message", "text", words).await?;
    }
    Ok(())
}

async fn conflict(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut one = a.enter("ada").await?;
    let mut other = b.enter("ada").await?;
    let message = one.message("this");
    let id = text(&message, "id").to_owned();
    one.send(message.clone()).await;
    one.ack(&id).await?;
    other.expect_field("message", "text", "this").await?;
    other.send(with(message.clone(), "text", "that")).await;
    expect_error_about(&mut other, "id_conflict", &id).await?;
    // Somebody else's same id is another message.
    let mut grace = b.enter("grace").await?;
    grace.send(message).await;
    let ack = grace.ack(&id).await?;
    if seq(&ack) == 2 { Ok(()) } else { Err(grace.mismatch(&json_of(&ack))) }
}

async fn elsewhere(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = a.greet("grace").await?;
    let room = grace.room.clone();
    let epoch = epoch(&grace.join(&room).await?).to_owned();
    for number in 1..=60 {
        ada.store(&format!("number {number}")).await?;
    }
    for (client, after) in [(b.greet("grace").await?, 3), (b.greet("alan").await?, 0)] {
        let mut client = client;
        let joined = resume(&mut client, &epoch, after).await?;
        let is_right = numbers(&joined) == (after + 1..=60).collect::<Vec<u64>>()
            && joined.get("gap") == Some(&json!(false))
            && text(&joined, "epoch") == epoch;
        if !is_right {
            return Err(client.mismatch(&json_of(&joined)));
        }
    }
    Ok(())
}

async fn prefixes(scene: &mut Scene) -> Check {
    let redis = super::redis(crate::redis::Fsync::Always).await?;
    let [a] = super::nodes(scene, &redis.url(), &[]).await?;
    // The same start, so that a pattern that is too wide would show.
    let prefix = format!("{}2", scene.tag);
    let [mut other] = super::nodes(scene, &redis.url(), &[("REDIS_PREFIX", &prefix)]).await?;
    other.tokens = std::sync::Arc::default();
    let mut ada = a.enter("ada").await?;
    // Nobody has that name there yet.
    let registered = other.post("/api/register", &[], &other.credentials("ada")).await?;
    other.has_status(&registered, 201)?;
    let mut alone = other.enter("ada").await?;
    ada.store("here").await?;
    ada.expect_field("message", "text", "here").await?;
    let ack = alone.store("there").await?;
    alone.expect_field("message", "text", "there").await?;
    if seq(&ack) == 1 { Ok(()) } else { Err(alone.mismatch(&json_of(&ack))) }
}
