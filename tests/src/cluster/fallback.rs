//! Without a WebSocket each request may reach another node.

use serde_json::json;

use super::{CLUSTER, over_redis};
use crate::event::{is_presence, json_of, text, with};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::{history, seq};
use crate::step4::fallback::{Caller, event};

const ANY_HINT: &str = "A node that gets a request of a session whose stream is elsewhere finds its rights in Redis, and passes on to the stream's node what changes it, by the user's channel.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "every_request_may_reach_another_node",
        sentence: "Without a WebSocket every request may reach another node",
        expected: "`welcome` from the first, the stream from the second, `ack` from the third, and the message in the stream",
        hint: ANY_HINT,
        run: |scene| Box::pin(any_node(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_stream_follows_what_is_posted_to_another_node",
        sentence: "A stream follows what its client posts to another node",
        expected: "`joined` in the stream for a `join` posted elsewhere and messages from then on; `left` for a `leave` and nothing from then on",
        hint: ANY_HINT,
        run: |scene| Box::pin(follows(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "errors_come_from_whichever_node_is_asked",
        sentence: "Errors come from whichever node is asked",
        expected: "`not_in_room` and `id_conflict` with the message's id from a node where the stream is not, and the first `ack` again for a repeated id",
        hint: ANY_HINT,
        run: |scene| Box::pin(errors(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_stream_resumes_at_another_node",
        sentence: "A stream resumes at another node",
        expected: "every message after the last `id:`, without a gap, wherever the stream is opened again",
        hint: "The cursors in `id:` are Redis' own numbers: any node can go on from there.",
        run: |scene| Box::pin(resumes(scene)),
        ..CLUSTER
    },
];

async fn any_node(scene: &mut Scene) -> Check {
    let (_redis, [a, b, c]) = over_redis(scene).await?;
    let ada = Caller::hello(&a, "ada").await?;
    let mut stream = ada.listen(&b).await?;
    let mut grace = c.enter("grace").await?;
    for round in 1..=5 {
        for (number, node) in [(0, &a), (1, &b), (2, &c)] {
            let words = format!("round {round}, {number}");
            let ack = ada.store(node, &words).await?;
            let message = stream.expect_text(&words).await?;
            grace.expect_field("message", "text", &words).await?;
            if seq(&ack) != seq(&message) || seq(&ack) != (round - 1) * 3 + number + 1 {
                return Err(stream.mismatch(&json_of(&message)));
            }
        }
    }
    Ok(())
}

async fn follows(scene: &mut Scene) -> Check {
    let (_redis, [a, b, c]) = over_redis(scene).await?;
    let ada = Caller::hello(&a, "ada").await?;
    let mut stream = ada.listen(&b).await?;
    let other = scene.name("other");
    let mut grace = c.greet("grace").await?;
    grace.room.clone_from(&other);
    grace.join(&other).await?;
    let posted = ada.post(&c, &json!({"type": "join", "room": other})).await?;
    is_fine(scene, &posted)?;
    let joined = stream.expect("joined").await?;
    if text(&joined, "room") != other {
        return Err(stream.mismatch(&json_of(&joined)));
    }
    grace.expect_field("member_joined", "name", &ada.name).await?;
    grace.store("welcome").await?;
    stream.expect_text("welcome").await?;
    let answer = ada.post(&a, &with(ada.message("thanks"), "room", other.clone())).await?;
    event(scene, &answer, 200, "ack")?;
    stream.expect_text("thanks").await?;

    let posted = ada.post(&a, &json!({"type": "leave", "room": other})).await?;
    is_fine(scene, &posted)?;
    stream.expect("left").await?;
    grace.expect_field("message", "text", "welcome").await?;
    grace.expect_field("message", "text", "thanks").await?;
    grace.expect_field("member_left", "name", &ada.name).await?;
    grace.store("gone?").await?;
    ada.store(&c, "still here").await?;
    stream.expect_text("still here").await.map(drop)
}

/// A request must have been accepted, with or without a body.
fn is_fine(scene: &Scene, answer: &crate::raw::Answer) -> Check {
    scene.journal.wait_for("status 200 or 204");
    let is_fine = matches!(answer.status, 200..=204);
    if is_fine { Ok(()) } else { Err(scene.mismatch(&crate::scene::status(answer))) }
}

async fn errors(scene: &mut Scene) -> Check {
    let (_redis, [a, b, c]) = over_redis(scene).await?;
    let ada = Caller::hello(&a, "ada").await?;
    let _stream = ada.listen(&b).await?;
    let stored = ada.message("stored");
    let mut acks = Vec::new();
    for node in [&a, &b, &c] {
        let answer = ada.post(node, &stored).await?;
        acks.push(event(scene, &answer, 200, "ack")?);
    }
    scene.journal.wait_for("the same `ack` from each node");
    if acks.iter().any(|ack| Some(ack) != acks.first()) {
        return Err(scene.mismatch(&format!("{acks:?}")));
    }
    let refused = [
        ("not_in_room", with(ada.message("hi"), "room", scene.name("elsewhere"))),
        ("id_conflict", with(stored, "text", "something else")),
        ("empty_text", ada.message(" ")),
    ];
    for node in [&a, &c] {
        for (code, message) in &refused {
            let answer = ada.post(node, message).await?;
            let error = scene.is_error(&answer, answer.status, code)?;
            if text(&error, "id") != text(message, "id") {
                return Err(scene.mismatch(&json_of(&error)));
            }
        }
    }
    Ok(())
}

async fn resumes(scene: &mut Scene) -> Check {
    let (_redis, nodes) = over_redis::<3>(scene).await?;
    let [a, ..] = &nodes;
    let ada = Caller::hello(a, "ada").await?;
    let mut stream = ada.listen(a).await?;
    let mut grace = a.enter("grace").await?;
    let mut at = 0;
    for node in nodes.iter().cycle().skip(1).take(4) {
        for number in 0..3 {
            grace.store(&format!("heard {number}")).await?;
            at += 1;
            let message = stream.expect("message").await?;
            if seq(&message) != at {
                return Err(stream.mismatch(&json_of(&message)));
            }
        }
        let last_id = stream.last_id.clone();
        drop(stream);
        for number in 0..60 {
            grace.store(&format!("missed {number}")).await?;
        }
        stream = ada.listen_again(node, &last_id).await?;
        let joined = loop {
            let sent = stream.next("a `joined`").await?;
            let sent = sent.ok_or_else(|| scene.mismatch("the end of the stream"))?;
            let event = serde_json::from_str(&sent.data).unwrap_or_default();
            if !is_presence(&event) {
                break event;
            }
        };
        let missed: Vec<u64> = history(&joined).iter().map(seq).collect();
        let is_right = missed == (at + 1..=at + 60).collect::<Vec<u64>>()
            && joined.get("gap") == Some(&json!(false));
        if !is_right {
            return Err(stream.mismatch(&json_of(&joined)));
        }
        at += 60;
    }
    Ok(())
}
