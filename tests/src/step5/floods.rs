//! Floods: how much one may send, and that nobody else feels who sends more.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::attempts::is_limited;
use crate::client::Client;
use crate::event::{is, json_of, text};
use crate::raw::{CONTINUATION, Frame};
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;
use crate::step4::acks::seq;
use crate::step4::fallback::{Caller, event};

/// What a connection may send at once, and a second.
const BURST: usize = 100;
const A_SECOND: f64 = 20.0;

/// What a user may send at once, and a second.
const USER_BURST: usize = 150;
const USER_A_SECOND: f64 = 40.0;

/// What an address may send at once, and a second.
const ADDRESS_BURST: usize = 2000;
const ADDRESS_A_SECOND: f64 = 400.0;

/// How long somebody else's message may take while another floods, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

const FLOOD: Scenario = Scenario {
    needs: Needs::Program,
    limit: SLOW,
    ..Scenario::of(5, "production/rate-limits.html")
};

const LIMITED: (&str, &str) = ("RATE_LIMIT", "on");

const BUCKET_HINT: &str = "A token bucket (`governor`) for each connection, each user and each address: an event takes one from all three.";
const BYTES_HINT: &str = "Count the bytes as they come from the socket, frames without an end and pings among them, and close with 4029 when the bucket is empty.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "of_a_burst_of_200_messages_half_is_refused",
        sentence: "Of a burst of 200 messages about a hundred are accepted, and each of the others is told when to try again",
        expected: "an `ack` for each of the first 100, `rate_limited` with `id` and `retry_after` for the rest, and an open connection",
        hint: BUCKET_HINT,
        run: |scene| Box::pin(burst(scene)),
        ..FLOOD
    },
    Scenario {
        name: "limits_are_on_unless_they_are_switched_off",
        sentence: "Limits are on unless they are switched off",
        expected: "`rate_limited` for a burst at a server whose RATE_LIMIT is not set, and none with RATE_LIMIT=off",
        hint: "The default of a limit is the safe one.",
        run: |scene| Box::pin(by_default(scene)),
        ..FLOOD
    },
    Scenario {
        name: "after_the_pause_it_goes_on",
        sentence: "After the pause that it was told, a client goes on",
        expected: "an `ack` for the refused message, sent again after `retry_after`, and numbers without a hole",
        hint: "`governor` says how long to wait for the next token: pass it on in milliseconds, rounded up.",
        run: |scene| Box::pin(goes_on(scene)),
        ..FLOOD
    },
    Scenario {
        name: "nobody_else_feels_a_flood",
        sentence: "Nobody else feels a flood",
        expected: "an `ack` within 2 seconds for somebody else, in the same room and in another, while one floods",
        hint: "Refuse before anything is looked up or stored.",
        run: |scene| Box::pin(others(scene)),
        ..FLOOD
    },
    Scenario {
        name: "two_connections_share_their_user_s_budget",
        sentence: "Two connections of one user share a budget",
        expected: "about 150 accepted messages of 190 on two connections, although each may send 100",
        hint: BUCKET_HINT,
        run: |scene| Box::pin(shared(scene)),
        ..FLOOD
    },
    Scenario {
        name: "all_users_of_an_address_share_its_budget",
        sentence: "All users of one address share its budget",
        expected: "`rate_limited` for some of 5,600 events of 40 users, although none sends more than 140",
        hint: BUCKET_HINT,
        alone: true,
        run: |scene| Box::pin(address(scene)),
        ..FLOOD
    },
    Scenario {
        name: "who_goes_on_flooding_is_closed",
        sentence: "Who goes on flooding is closed",
        expected: "close code 4029 after some hundred refusals",
        hint: "Count the refusals in a row, and close at 200.",
        run: |scene| Box::pin(closed(scene)),
        ..FLOOD
    },
    Scenario {
        name: "a_flood_of_bytes_is_closed",
        sentence: "A flood of bytes is closed, however few events it is",
        expected: "close code 4029 for more than 512 KiB at once",
        hint: BYTES_HINT,
        run: |scene| Box::pin(bytes(scene)),
        ..FLOOD
    },
    Scenario {
        name: "a_flood_of_pings_is_closed",
        sentence: "A flood of pings is closed",
        expected: "close code 4029 for 10,000 pings of 125 bytes",
        hint: BYTES_HINT,
        run: |scene| Box::pin(pings(scene)),
        ..FLOOD
    },
    Scenario {
        name: "a_hundred_thousand_empty_fragments_are_closed",
        sentence: "A message of 100,000 empty fragments is closed",
        expected: "close code 4029 or 1008, and nobody else who waits for it",
        hint: BYTES_HINT,
        run: |scene| Box::pin(fragments(scene)),
        ..FLOOD
    },
    Scenario {
        name: "joining_and_leaving_is_limited_too",
        sentence: "Joining and leaving again and again is limited, and the others hear little of it",
        expected: "`rate_limited` for most of 1,000 joins and leaves, and at most some hundred `member_joined` for the others",
        hint: "Every event takes a token, not messages alone.",
        run: |scene| Box::pin(churn(scene)),
        ..FLOOD
    },
    Scenario {
        name: "the_fallback_has_the_same_limits",
        sentence: "The fallback has the same limits, and the same budget",
        expected: "status 429 with `rate_limited`, the message's `id`, `Retry-After` and `retry_after`",
        hint: BUCKET_HINT,
        run: |scene| Box::pin(fallback(scene)),
        ..FLOOD
    },
];

/// How many a bucket gives at most, until now.
fn most(burst: usize, a_second: f64, began: Instant) -> usize {
    let more = a_second * began.elapsed().as_secs_f64();
    // A little for rounding, and for what had come back before.
    burst + more.ceil().max(0.0) as usize + 2
}

/// How many messages may be accepted after a flood before one is refused.
const TRIES: usize = 20;

/// What came of a flood.
#[derive(Default)]
struct Flooded {
    acked: Vec<Value>,
    refused: Vec<Value>,
}

/// Sends many messages at once.
async fn send_at_once(client: &mut Client, messages: &[Value]) {
    let frames: Vec<u8> =
        messages.iter().flat_map(|event| Frame::text(json_of(event)).encode()).collect();
    client.send_quietly(&frames).await;
}

fn messages(client: &Client, count: usize) -> Vec<Value> {
    (0..count).map(|number| client.message(&format!("number {number}"))).collect()
}

/// Reads until each of so many messages is answered.
async fn answers(client: &mut Client, count: usize) -> Check<Flooded> {
    let mut flooded = Flooded::default();
    while flooded.acked.len() + flooded.refused.len() < count {
        let event = client.answer("an `ack` or an `error`").await?;
        if is(&event, "ack") {
            flooded.acked.push(event);
        } else {
            is_refusal(client, &event)?;
            flooded.refused.push(event);
        }
    }
    Ok(flooded)
}

/// The event must say that it was too much, and when it will not be.
fn is_refusal(client: &Client, event: &Value) -> Check<Duration> {
    let pause = event.get("retry_after").and_then(Value::as_u64).unwrap_or_default();
    if text(event, "code") == "rate_limited" && pause > 0 {
        return Ok(Duration::from_millis(pause));
    }
    Err(client.mismatch(&json_of(event)))
}

async fn burst(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut ada = scene.greet("ada").await?;
    let began = Instant::now();
    let room = ada.room.clone();
    ada.join(&room).await?;
    let sent = messages(&ada, 200);
    send_at_once(&mut ada, &sent).await;
    let flooded = answers(&mut ada, 200).await?;
    let accepted = flooded.acked.len();
    let most = most(BURST, A_SECOND, began);
    scene.journal.wait_for(&format!("{} to {most} acks", BURST - 1));
    // The join has taken one.
    if !(BURST - 1..=most).contains(&accepted) {
        return Err(scene.mismatch(&format!("{accepted} acks")));
    }
    let mut wanted: Vec<&str> = sent.iter().map(|message| text(message, "id")).collect();
    let all = flooded.acked.iter().chain(&flooded.refused);
    let mut answered: Vec<&str> = all.map(|answer| text(answer, "id")).collect();
    wanted.sort_unstable();
    answered.sort_unstable();
    scene.journal.wait_for("an answer with its id for each message");
    if wanted == answered { Ok(()) } else { Err(scene.mismatch("answers to other messages")) }
}

async fn by_default(scene: &mut Scene) -> Check {
    for (setting, is_limited) in [("", true), ("off", false)] {
        let env = [("RATE_LIMIT", setting)];
        if is_limited {
            scene.start(&env).await?
        } else {
            scene.again_with(&env).await?
        }
        let mut ada = scene.enter("ada").await?;
        let sent = messages(&ada, 300);
        send_at_once(&mut ada, &sent).await;
        let flooded = answers(&mut ada, 300).await?;
        scene.journal.wait_for(&format!("refusals: {is_limited}"));
        if flooded.refused.is_empty() == is_limited {
            return Err(scene.mismatch(&format!("{} refusals", flooded.refused.len())));
        }
    }
    Ok(())
}

async fn goes_on(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut ada = scene.enter("ada").await?;
    let sent = messages(&ada, BURST + 30);
    send_at_once(&mut ada, &sent).await;
    let flooded = answers(&mut ada, sent.len()).await?;
    let mut acked = flooded.acked.len() as u64;
    for number in 0..TRIES {
        // Alone, so that no other message takes the token that this one is told to wait for.
        let message = ada.message(&format!("once more {number}"));
        ada.send(message.clone()).await;
        let Some(refusal) = answers(&mut ada, 1).await?.refused.pop() else {
            acked += 1;
            continue;
        };
        let pause = is_refusal(&ada, &refusal)?;
        if pause > Duration::from_secs(5) {
            return Err(ada.mismatch(&json_of(&refusal)));
        }
        sleep(pause).await;
        ada.send(message).await;
        let ack = ada.ack(text(&refusal, "id")).await?;
        return if seq(&ack) == acked + 1 { Ok(()) } else { Err(ada.mismatch(&json_of(&ack))) };
    }
    Err(ada.mismatch("no refusal"))
}

async fn others(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut grace = scene.enter("grace").await?;
    let mut alan = scene.greet("alan").await?;
    alan.room = scene.name("elsewhere");
    let room = alan.room.clone();
    alan.join(&room).await?;
    let mut eve = scene.enter("eve").await?;
    for round in 0..10 {
        let sent = messages(&eve, 30);
        send_at_once(&mut eve, &sent).await;
        for client in [&mut grace, &mut alan] {
            let began = Instant::now();
            client.store(&format!("round {round}")).await?;
            if began.elapsed() > SOON {
                return Err(client.mismatch(&format!("an ack after {:?}", began.elapsed())));
            }
        }
    }
    let flooded = answers(&mut eve, 300).await?;
    let refused = flooded.refused.len();
    scene.journal.wait_for("refusals for eve, and none for the others");
    if refused > 0 { Ok(()) } else { Err(scene.mismatch("no refusal")) }
}

async fn shared(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let began = Instant::now();
    let both = [scene.enter("ada").await?, scene.enter("ada").await?];
    share(scene, both, began).await
}

/// Two connections of one user must have one budget.
pub(crate) async fn share(scene: &Scene, mut both: [Client; 2], began: Instant) -> Check {
    for client in &mut both {
        let sent = messages(client, BURST - 5);
        send_at_once(client, &sent).await;
    }
    let mut accepted = 0;
    for client in &mut both {
        accepted += answers(client, BURST - 5).await?.acked.len();
    }
    let most = most(USER_BURST, USER_A_SECOND, began);
    scene.journal.wait_for(&format!("{} to {most} acks of {}", USER_BURST - 2, 2 * (BURST - 5)));
    if (USER_BURST - 2..=most).contains(&accepted) && accepted < 2 * (BURST - 5) {
        return Ok(());
    }
    Err(scene.mismatch(&format!("{accepted} acks")))
}

async fn address(scene: &mut Scene) -> Check {
    const USERS: usize = 40;
    const EACH: usize = 70;
    scene.start(&[LIMITED]).await?;
    let mut clients = Vec::new();
    for number in 0..USERS {
        let base = format!("u{number}");
        let registered = scene.post("/api/register", &[], &scene.credentials(&base)).await?;
        let cookie = scene.cookie_of(&registered)?;
        for _ in 0..2 {
            let wire = scene.wire_at(&base, "/ws", &[("Cookie", &cookie)]).await?;
            clients.push(Client::new(wire, scene));
        }
    }
    scene.journal.note(&format!("each of {USERS} users asked {} times for the rooms", 2 * EACH));
    let began = Instant::now();
    let frames = Frame::text(json!({"type": "rooms"}).to_string()).encode().repeat(EACH);
    for client in &mut clients {
        client.send_quietly(&frames).await;
    }
    let (mut accepted, mut refused) = (0, 0);
    for client in &mut clients {
        for _ in 0..EACH {
            let event = client.next("`rooms` or an `error`").await?;
            if is(&event, "rooms") {
                accepted += 1;
            } else {
                is_refusal(client, &event)?;
                refused += 1;
            }
        }
    }
    let most = most(ADDRESS_BURST, ADDRESS_A_SECOND, began);
    scene.journal.wait_for(&format!("{} to {most} answers, and refusals", ADDRESS_BURST));
    if (ADDRESS_BURST - 1..=most).contains(&accepted) && refused > 0 {
        return Ok(());
    }
    Err(scene.mismatch(&format!("{accepted} answers, {refused} refusals")))
}

async fn closed(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut grace = scene.enter("grace").await?;
    let mut eve = scene.enter("eve").await?;
    let sent = messages(&eve, 3000);
    send_at_once(&mut eve, &sent).await;
    eve.expect_close(4029).await?;
    grace.store("still here").await.map(drop)
}

async fn bytes(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut eve = scene.enter("eve").await?;
    let padding = "x".repeat(60 * 1024);
    let frame = Frame::text(json!({"type": "rooms", "padding": padding}).to_string()).encode();
    scene.journal.note("eve sent 40 events of 60 KiB");
    eve.send_quietly(&frame.repeat(40)).await;
    eve.expect_close(4029).await
}

async fn pings(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut eve = scene.enter("eve").await?;
    scene.journal.note("eve sent 10,000 pings of 125 bytes");
    eve.send_quietly(&Frame::ping([b'x'; 125]).encode().repeat(10_000)).await;
    eve.expect_close(4029).await
}

async fn fragments(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut grace = scene.enter("grace").await?;
    let mut eve = scene.wire("eve").await?;
    let empty = Frame::new(CONTINUATION, []).unfinished().encode().repeat(10_000);
    eve.send(&Frame::text("{").unfinished()).await;
    for _ in 0..10 {
        eve.send_bytes(&empty, "10,000 empty fragments").await;
        let began = Instant::now();
        grace.store("between").await?;
        if began.elapsed() > SOON {
            return Err(scene.mismatch(&format!("an ack after {:?}", began.elapsed())));
        }
    }
    eve.expect_close(&[4029, 1008]).await
}

async fn churn(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let mut grace = scene.enter("grace").await?;
    let mut eve = scene.greet("eve").await?;
    let room = eve.room.clone();
    let pair: Vec<u8> = ["join", "leave"]
        .map(|kind| Frame::text(json!({"type": kind, "room": room}).to_string()).encode())
        .concat();
    let began = Instant::now();
    scene.journal.note("eve joined and left the room 500 times at once");
    eve.send_quietly(&pair.repeat(500)).await;
    eve.expect_close(4029).await?;
    let most = most(BURST, A_SECOND, began);
    grace.say("how often?").await;
    let mut heard = 0;
    loop {
        let event = grace.next("who comes and goes, then what grace says").await?;
        if is(&event, "message") {
            break;
        }
        heard += usize::from(is(&event, "member_joined"));
    }
    scene.journal.wait_for(&format!("`member_joined` some times, {most} at most"));
    if (1..=most).contains(&heard) {
        Ok(())
    } else {
        Err(scene.mismatch(&format!("{heard} times")))
    }
}

async fn fallback(scene: &mut Scene) -> Check {
    const AT_ONCE: usize = 50;
    scene.start(&[LIMITED]).await?;
    let eve = Caller::hello(scene, "eve").await?;
    let _stream = eve.listen(scene).await?;
    let mut accepted = 0;
    for _ in 0..10 {
        let messages: Vec<Value> = (0..AT_ONCE).map(|_| eve.message("hi")).collect();
        let answers = join_all(messages.iter().map(|message| eve.post(scene, message))).await;
        for (message, answer) in messages.iter().zip(answers) {
            let answer = answer?;
            if answer.status == 200 {
                event(scene, &answer, 200, "ack")?;
                accepted += 1;
                continue;
            }
            is_limited(scene, &answer)?;
            let error: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            scene.journal.wait_for("the message's id, after a hundred acks");
            let is_right = text(&error, "id") == text(message, "id") && accepted >= BURST / 2;
            let came = format!("{accepted} acks, then {error}");
            return if is_right { Ok(()) } else { Err(scene.mismatch(&came)) };
        }
    }
    Err(scene.mismatch(&format!("{accepted} acks")))
}
