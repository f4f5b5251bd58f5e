//! When Redis is away, comes back, and has forgotten something.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{CLUSTER, LONG, done, metric, nodes, over_redis, redis, until_metric, wired};
use crate::client::Client;
use crate::event::{is, is_presence, json_of, text};
use crate::proxy::{Fault, FaultProxy};
use crate::redis::Fsync;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::{history, seq};
use crate::step4::degraded::{again, refused, until, until_status};
use crate::step4::fallback::Caller;
use crate::step4::resume::{epoch, numbers, resume};

/// How soon the nodes say that Redis is away, and that it is back.
const NOTICED: Duration = Duration::from_secs(6);

/// How soon what was published to nobody is healed.
const HEALED: Duration = Duration::from_secs(15);

/// How soon a room is right again after Redis has forgotten something.
const ANEW: Duration = Duration::from_secs(20);

const AWAY_HINT: &str = "No answer for two seconds is an answer: tell everyone `degraded`, refuse what would have to be stored, and go on trying. The sockets are the node's own.";
const ROLLED_BACK_HINT: &str = "A node that holds a message which the stream has not knows that the log was rolled back: begin a new epoch, so that no cursor of the old one fits.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "while_redis_is_silent_the_nodes_say_so_and_stay",
        sentence: "While Redis is silent, the nodes say so and stay",
        expected: "`status` with `degraded` true, `unavailable` with `retry_after` for a message, 503 for a sign-in, 200 at /readyz, `degraded` 1 among the metrics; and all of it mended by itself, on the same sockets",
        hint: AWAY_HINT,
        run: |scene| Box::pin(silent(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "the_fallback_says_unavailable_too",
        sentence: "Without a WebSocket one is told that Redis is away, too",
        expected: "status 503 with `unavailable` and the message's id, `status` in the stream, and an `ack` for the same message once Redis is back",
        hint: AWAY_HINT,
        run: |scene| Box::pin(fallback(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_killed_redis_loses_nothing",
        sentence: "A Redis that is killed and started again loses nothing, and nobody has a gap",
        expected: "with appendfsync always: every acked message, the numbers without a hole, the same epoch and `gap` false for a cursor from before",
        hint: "With `always` what Redis has answered is on its disk: the run id may change, the epoch must not.",
        run: |scene| Box::pin(killed(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "without_always_a_restart_of_redis_is_a_new_epoch",
        sentence: "Without appendfsync always a restart of Redis is a new epoch",
        expected: "with everysec: an unasked `joined` with another epoch, `gap` true and the last messages; `gap` true for a cursor from before, from nodes that have restarted as well",
        hint: "Redis may have lost its last second and not know. Keep its run id beside the epoch: another one, and not `always`, means a new epoch.",
        limit: LONG,
        run: |scene| Box::pin(every_second(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_log_that_was_rolled_back_is_noticed",
        sentence: "A log that was rolled back is noticed, with always too",
        expected: "an unasked `joined` with another epoch, `gap` true and what is left, for everyone at both nodes; and `gap` true for a cursor that the old log had",
        hint: ROLLED_BACK_HINT,
        limit: LONG,
        run: |scene| Box::pin(rolled_back(scene, false)),
        ..CLUSTER
    },
    Scenario {
        name: "a_log_that_was_rolled_back_and_overtaken_is_noticed",
        sentence: "A log that was rolled back is noticed although others have written more since",
        expected: "another epoch for those who had seen what is gone, and no message under a number that they know with another text",
        hint: "Compare what a node holds with what the stream has under the same number, not the numbers alone.",
        limit: LONG,
        run: |scene| Box::pin(rolled_back(scene, true)),
        ..CLUSTER
    },
    Scenario {
        name: "a_flushed_redis_is_no_silent_hole",
        sentence: "A Redis that was emptied is no silent hole",
        expected: "`joined` with another epoch and `gap` true, or the end of the session (4501), for who was there; newcomers who register and hear each other at all nodes",
        hint: ROLLED_BACK_HINT,
        limit: LONG,
        run: |scene| Box::pin(flushed(scene)),
        ..CLUSTER
    },
];

async fn silent(scene: &mut Scene) -> Check {
    let (redis, [mut a, mut b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    ada.store("one").await?;
    done(scene, "stopped Redis where it stands (SIGSTOP)", redis.freeze().await)?;
    let frozen = Instant::now();
    let message = ada.message("two");
    ada.send(message.clone()).await;
    let (mut is_told, mut is_refused) = (false, false);
    while !(is_told && is_refused) {
        let event = ada.next("`status` with `degraded` true, and `unavailable`").await?;
        is_told |= event == json!({"type": "status", "degraded": true});
        is_refused |= text(&event, "code") == "unavailable";
    }
    until_status(&mut grace, true).await?;
    scene.journal.wait_for(&format!("`degraded` within {NOTICED:?}"));
    if frozen.elapsed() > NOTICED {
        return Err(scene.mismatch(&format!("after {:?}", frozen.elapsed())));
    }
    // Refused at once, now that it is known.
    refused(&mut grace, "not now").await?;
    for node in [&mut a, &mut b] {
        let answer = node.admin("GET", "/readyz").await?;
        node.has_status(&answer, 200)?;
        if metric(node, "degraded").await? < 1.0 {
            return Err(node.mismatch("degraded 0"));
        }
        let answer = node.post("/api/login", &[], &node.credentials("ada")).await?;
        node.has_status(&answer, 503)?;
    }
    done(scene, "let Redis go on (SIGCONT)", redis.thaw().await)?;
    let thawed = Instant::now();
    until_status(&mut ada, false).await?;
    until_status(&mut grace, false).await?;
    scene.journal.wait_for(&format!("`degraded` false within {NOTICED:?}"));
    if thawed.elapsed() > NOTICED {
        return Err(scene.mismatch(&format!("after {:?}", thawed.elapsed())));
    }
    let ack = again(&mut ada, &message).await?;
    grace.store("three").await?;
    let mut alan = b.greet("alan").await?;
    let room = alan.room.clone();
    let joined = alan.join(&room).await?;
    // Redis may have got the message before it answered nobody.
    if seq(&ack) != 2 || numbers(&joined) != [1, 2, 3] {
        return Err(alan.mismatch(&json_of(&joined)));
    }
    for node in [&mut a, &mut b] {
        until_metric(node, "degraded", NOTICED, |value| value < 1.0).await?;
    }
    b.sign_in("ada").await.map(drop)
}

async fn fallback(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    let ada = Caller::hello(&a, "ada").await?;
    let mut stream = ada.listen(&b).await?;
    done(scene, "stopped Redis where it stands (SIGSTOP)", redis.freeze().await)?;
    let message = ada.message("one");
    stream.expect("status").await?;
    let answer = ada.post(&b, &message).await?;
    let error = scene.is_error(&answer, 503, "unavailable")?;
    if text(&error, "id") != text(&message, "id") {
        return Err(scene.mismatch(&json_of(&error)));
    }
    done(scene, "let Redis go on (SIGCONT)", redis.thaw().await)?;
    stream.expect("status").await?;
    let answer = ada.post(&b, &message).await?;
    let ack = crate::step4::fallback::event(scene, &answer, 200, "ack")?;
    let heard = stream.expect_text("one").await?;
    if seq(&ack) == seq(&heard) { Ok(()) } else { Err(scene.mismatch(&json_of(&heard))) }
}

async fn killed(scene: &mut Scene) -> Check {
    let (mut redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.greet("ada").await?;
    let room = ada.room.clone();
    let old = epoch(&ada.join(&room).await?).to_owned();
    let mut grace = b.enter("grace").await?;
    // What was published before her node listened again shows at the next check of the position.
    grace.patience = HEALED;
    let mut at = 0;
    for round in 1..=3 {
        for number in 1..=20 {
            let message = ada.message(&format!("{round}: {number}"));
            ada.send(message.clone()).await;
            ada.ack(text(&message, "id")).await?;
        }
        done(scene, "killed Redis (kill -9)", redis.kill().await)?;
        let message = ada.message(&format!("{round}: while it is away"));
        ada.send(message.clone()).await;
        until_status(&mut ada, true).await?;
        done(scene, "started it again", redis.start_again().await)?;
        until_status(&mut ada, false).await?;
        let ack = again(&mut ada, &message).await?;
        if seq(&ack) != round * 21 {
            return Err(ada.mismatch(&json_of(&ack)));
        }
        while at < round * 21 {
            let heard = until(&mut grace, "every message", is_news).await?;
            at += 1;
            if seq(&heard) != at || !is(&heard, "message") {
                return Err(grace.mismatch(&json_of(&heard)));
            }
        }
    }
    let mut alan = b.greet("alan").await?;
    let joined = resume(&mut alan, &old, 1).await?;
    let is_right = numbers(&joined) == (2..=63).collect::<Vec<u64>>()
        && joined.get("gap") == Some(&json!(false))
        && epoch(&joined) == old;
    if is_right { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}

/// Whether an event is more than presence or the state of the server.
fn is_news(event: &Value) -> bool {
    !is_presence(event) && !is(event, "status")
}

/// Reads up to the unasked `joined` that begins a new view.
async fn begins_anew(client: &mut Client, old: &str) -> Check<Value> {
    let anew = |event: &Value| is(event, "joined") && epoch(event) != old;
    let joined = until(client, "an unasked `joined` with another epoch", anew).await?;
    if joined.get("gap") == Some(&json!(true)) {
        return Ok(joined);
    }
    Err(client.mismatch(&json_of(&joined)))
}

async fn every_second(scene: &mut Scene) -> Check {
    let mut redis = redis(Fsync::EverySecond).await?;
    let [mut a, mut b] = nodes(scene, &redis.url(), &[]).await?;
    let mut ada = a.greet("ada").await?;
    let room = ada.room.clone();
    let old = epoch(&ada.join(&room).await?).to_owned();
    let mut grace = b.enter("grace").await?;
    for number in 1..=3 {
        ada.store(&format!("number {number}")).await?;
    }
    done(scene, "killed Redis (kill -9)", redis.kill().await)?;
    done(scene, "started it again", redis.start_again().await)?;
    let mut epochs = Vec::new();
    for client in [&mut ada, &mut grace] {
        client.patience = ANEW;
        let joined = begins_anew(client, &old).await?;
        if numbers(&joined) != [1, 2, 3] {
            return Err(client.mismatch(&json_of(&joined)));
        }
        epochs.push(epoch(&joined).to_owned());
    }
    scene.journal.wait_for("one epoch for all");
    if epochs.first() != epochs.last() {
        return Err(scene.mismatch(&epochs.join(", ")));
    }
    ada.store("four").await?;
    let heard = grace.expect_that("message 4", |event| seq(event) == 4).await?;
    if text(&heard, "text") != "four" {
        return Err(grace.mismatch(&json_of(&heard)));
    }
    // As after a power cut: nobody is left who could know.
    let old = epochs.pop().unwrap_or_default();
    for node in [&mut a, &mut b] {
        let killed = node.running()?.kill().await;
        killed.map_err(|error| scene.mismatch(&error.to_string()))?;
    }
    done(scene, "killed Redis and all nodes (kill -9)", redis.kill().await)?;
    done(scene, "started it again", redis.start_again().await)?;
    let [c] = nodes(scene, &redis.url(), &[]).await?;
    let mut grace = c.greet("grace").await?;
    let joined = resume(&mut grace, &old, 4).await?;
    let is_right = joined.get("gap") == Some(&json!(true)) && epoch(&joined) != old;
    if is_right { Ok(()) } else { Err(grace.mismatch(&json_of(&joined))) }
}

/// Rolls the log back by three messages. Where it is overtaken, somebody else writes five before those
/// who had seen the three are asked.
async fn rolled_back(scene: &mut Scene, overtaken: bool) -> Check {
    let mut redis = redis(Fsync::Always).await?;
    let ((one_wire, a), (other_wire, b)) =
        (wired(scene, &redis).await?, wired(scene, &redis).await?);
    let wires = [one_wire, other_wire];
    let mut ada = a.greet("ada").await?;
    let room = ada.room.clone();
    let old = epoch(&ada.join(&room).await?).to_owned();
    let mut grace = b.enter("grace").await?;
    for number in 1..=3 {
        ada.store(&format!("number {number}")).await?;
    }
    let copy = done(scene, "copied what Redis has on its disk", redis.copy())?;
    for number in 4..=6 {
        ada.store(&format!("number {number}")).await?;
    }
    for number in 1..=6 {
        for client in [&mut ada, &mut grace] {
            client.expect_that("every message", |event| seq(event) == number).await?;
        }
    }
    if overtaken {
        scene.journal.note("kept both nodes from Redis");
        wires.iter().for_each(|wire| wire.set(Fault::Refuse));
        wires.iter().for_each(FaultProxy::cut);
    }
    done(scene, "put the copy in the place of Redis' log", redis.roll_back(&copy).await)?;
    if overtaken {
        // By a node that was not there before, and knows of nothing.
        let [c] = nodes(scene, &redis.url(), &[]).await?;
        let mut eve = c.enter("eve").await?;
        for number in 4..=8 {
            let message = eve.message(&format!("other {number}"));
            eve.send(message.clone()).await;
            again(&mut eve, &message).await?;
        }
        scene.journal.note("let both nodes reach Redis again");
        wires.iter().for_each(|wire| wire.set(Fault::None));
    }
    for client in [&mut ada, &mut grace] {
        client.patience = ANEW;
        let joined = begins_anew(client, &old).await?;
        let is_right = numbers(&joined).first() == Some(&1)
            && history(&joined).iter().all(|said| !is_gone(said));
        if !is_right {
            return Err(client.mismatch(&json_of(&joined)));
        }
    }
    let message = ada.message("after all");
    ada.send(message.clone()).await;
    again(&mut ada, &message).await?;
    until(&mut grace, "what is said now", |event| text(event, "text") == "after all").await?;
    for (node, after) in [(&a, 6), (&b, 5)] {
        let mut client = node.greet("alan").await?;
        let joined = resume(&mut client, &old, after).await?;
        if joined.get("gap") != Some(&json!(true)) || epoch(&joined) == old {
            return Err(client.mismatch(&json_of(&joined)));
        }
    }
    Ok(())
}

/// Whether a message was in the end of the log that was lost.
fn is_gone(said: &Value) -> bool {
    ["number 4", "number 5", "number 6"].contains(&text(said, "text"))
}

async fn flushed(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.greet("ada").await?;
    let room = ada.room.clone();
    let old = epoch(&ada.join(&room).await?).to_owned();
    for number in 1..=3 {
        ada.store(&format!("number {number}")).await?;
    }
    done(scene, "FLUSHALL", redis.ask(&["FLUSHALL"]).await)?;
    scene.tokens.lock().await.clear();
    // Newcomers, in the same room: the first message there has a number that ada knows.
    let mut new = b.enter("new").await?;
    let mut other = a.enter("other").await?;
    let id = Uuid::new_v4().to_string();
    let message = json!({"type": "message", "id": id, "room": room, "text": "hello"});
    new.send(message.clone()).await;
    let ack = again(&mut new, &message).await?;
    until(&mut other, "what the other newcomer says", |event| text(event, "text") == "hello")
        .await?;
    ada.patience = Duration::from_secs(75);
    loop {
        let event = match ada.next("a `joined` with another epoch, or the end (4501)").await {
            Ok(event) => event,
            Err(_closed) => return Ok(()),
        };
        if is(&event, "joined") && epoch(&event) != old {
            return Ok(());
        }
        if text(&event, "text") == "hello" {
            scene.journal.wait_for("no message of another epoch as if it were the next one");
            return Err(ada.mismatch(&format!("{} {}", json_of(&event), json_of(&ack))));
        }
    }
}
