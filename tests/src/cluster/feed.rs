//! What Redis publishes may get lost, come broken, or come from somebody else. The stream heals it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::{CLUSTER, done, metric, nodes, over_redis, redis, until_metric, wired};
use crate::client::Client;
use crate::event::{json_of, text};
use crate::redis::Fsync;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::seq;

/// How soon what was lost is healed.
const HEALED: Duration = Duration::from_secs(15);

/// Time for something published to come to a node, or to get lost.
const PUBLISHED: Duration = Duration::from_millis(300);

/// What begins every message that Redis sends to those who have subscribed.
const PUSHED: &str = "$7\r\nmessage\r\n";

const GAP_HINT: &str = "Each message in the feed has its number. One too high: read the stream from the last one on, and pass all on in order.";
const LAST_HINT: &str = "After a lost message comes nothing that shows it. Ask Redis every ten seconds how far each room is.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_lost_message_is_healed_by_the_next_one",
        sentence: "A message that a node has not heard of is healed as soon as the next one comes",
        expected: "both messages in their order, and `gaps_healed_total` above 0",
        hint: GAP_HINT,
        run: |scene| Box::pin(next_heals(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_lost_last_message_is_healed_within_15_seconds",
        sentence: "A last message that a node has not heard of is healed within 15 seconds",
        expected: "the message within 15 seconds, although no other follows it and no connection broke, and `gaps_healed_total` above 0",
        hint: LAST_HINT,
        run: |scene| Box::pin(last_heals(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_broken_subscription_loses_nothing",
        sentence: "A subscription that Redis ends loses nothing",
        expected: "every message within 15 seconds and in order at both nodes, with CLIENT KILL TYPE pubsub before each of ten",
        hint: "Subscribe again, and then ask how far each room is: what came in between was not heard.",
        run: |scene| Box::pin(subscription(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "garbage_in_the_feed_is_dropped",
        sentence: "Garbage that somebody publishes in the feed is dropped",
        expected: "nothing of it for any client, no panic, and messages, numbers and presence as before",
        hint: "What comes from Redis is input like any other: parse it, and count what can't be.",
        run: |scene| Box::pin(garbage(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "without_faults_nothing_has_to_be_healed",
        sentence: "Without faults nothing has to be healed, and no epoch changes",
        expected: "`gaps_healed_total`, `epochs_changed_total` and `redis_errors_total` at 0 after a hundred messages, and `redis_seconds` that counts",
        hint: "A node that joins a room begins to listen first and reads the stream afterwards: what comes meanwhile is no gap.",
        run: |scene| Box::pin(calm(scene)),
        ..CLUSTER
    },
];

/// Somebody at one node, and somebody at another that can lose what it should hear.
async fn next_heals(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let [a] = nodes(scene, &redis.url(), &[]).await?;
    let (wire, mut b) = wired(scene, &redis).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    for round in 1..=3 {
        wire.lose(Some(PUSHED));
        ada.store(&format!("lost {round}")).await?;
        ada.expect("message").await?;
        sleep(PUBLISHED).await;
        wire.lose(None);
        ada.store(&format!("heard {round}")).await?;
        ada.expect("message").await?;
        for words in ["lost", "heard"] {
            grace.expect_field("message", "text", &format!("{words} {round}")).await?;
        }
    }
    until_metric(&mut b, "gaps_healed_total", HEALED, |healed| healed > 0.0).await
}

async fn last_heals(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let [a] = nodes(scene, &redis.url(), &[]).await?;
    let (wire, mut b) = wired(scene, &redis).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    ada.store("heard").await?;
    grace.expect_field("message", "text", "heard").await?;
    wire.lose(Some(PUSHED));
    ada.store("lost").await?;
    ada.expect_field("message", "text", "heard").await?;
    ada.expect_field("message", "text", "lost").await?;
    sleep(PUBLISHED).await;
    wire.lose(None);
    scene.journal.note("nothing follows");
    grace.patience = HEALED;
    grace.expect_field("message", "text", "lost").await?;
    until_metric(&mut b, "gaps_healed_total", HEALED, |healed| healed > 0.0).await
}

async fn subscription(scene: &mut Scene) -> Check {
    let (redis, [a, b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    for client in [&mut ada, &mut grace] {
        client.patience = HEALED;
    }
    for number in 1..=10 {
        let killed = redis.kill_subscribers().await;
        done(scene, "CLIENT KILL TYPE pubsub", killed)?;
        ada.store(&format!("number {number}")).await?;
        for client in [&mut ada, &mut grace] {
            let what = format!("message {number}");
            let is_due = |event: &serde_json::Value| seq(event) == number;
            client.expect_that(&what, is_due).await?;
        }
    }
    Ok(())
}

/// What the scenario publishes on every channel there is.
fn rubbish() -> Vec<String> {
    let message = json!({"type": "message", "room": "x", "seq": 2, "id": uuid::Uuid::new_v4(), "from": "eve", "text": "forged", "at": 1});
    let mut all: Vec<String> =
        ["", " ", "x", "{}", "[]", "null", "\0\u{1}\u{2}", "::::", "-1", "1:2:3"]
            .map(str::to_owned)
            .to_vec();
    all.extend(["{\"type\":", "{\"type\":\"joined\"}", "18446744073709551616"].map(str::to_owned));
    all.push(message.to_string());
    all.push(format!("{}:2:{message}", uuid::Uuid::new_v4()));
    all.push("🦀".repeat(300_000));
    all
}

async fn garbage(scene: &mut Scene) -> Check {
    let (redis, [mut a, mut b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    ada.store("before").await?;
    for client in [&mut ada, &mut grace] {
        client.expect_field("message", "text", "before").await?;
    }
    let channels = done(scene, "PUBSUB CHANNELS", redis.ask(&["PUBSUB", "CHANNELS", "*"]).await)?;
    let channels = channels.texts();
    scene.journal.wait_for("channels to which the nodes have subscribed");
    if channels.is_empty() {
        return Err(scene.mismatch("none"));
    }
    scene.journal.note("published garbage on every channel");
    for (channel, rubbish) in
        channels.iter().flat_map(|channel| rubbish().into_iter().map(move |it| (channel, it)))
    {
        let published = redis.ask(&["PUBLISH", channel, &rubbish]).await;
        done(scene, "PUBLISH", published)?;
    }
    for number in 1..=3 {
        let ack = ada.store(&format!("after {number}")).await?;
        if seq(&ack) != number + 1 {
            return Err(ada.mismatch(&json_of(&ack)));
        }
        for client in [&mut ada, &mut grace] {
            hears_no_garbage(client, &format!("after {number}")).await?;
        }
    }
    let mut alan = b.enter("alan").await?;
    ada.expect_field("member_joined", "name", &alan.name).await?;
    alan.store("hi").await?;
    for node in [&mut a, &mut b] {
        let panics = node.running()?.panics();
        if let Some(panic) = panics.first() {
            return Err(scene.mismatch(panic));
        }
    }
    Ok(())
}

/// The next message must be this one. An unsolicited `joined` would be a new view, without garbage.
async fn hears_no_garbage(client: &mut Client, words: &str) -> Check {
    client.expect_field("message", "text", words).await.map(drop)
}

async fn calm(scene: &mut Scene) -> Check {
    let (_redis, [mut a, mut b]) = over_redis(scene).await?;
    let mut ada = a.enter("ada").await?;
    let began = Instant::now();
    let mut said = 0;
    // Somebody joins in the middle, again and again.
    for _ in 0..5 {
        let mut grace = b.enter("grace").await?;
        for _ in 0..20 {
            said += 1;
            ada.store(&format!("number {said}")).await?;
            let wanted = format!("number {said}");
            grace.expect_that(&wanted, |event| text(event, "text") == wanted).await?;
        }
        grace.leave().await?;
    }
    scene.journal.note(&format!("{said} messages in {:?}", began.elapsed()));
    for node in [&mut a, &mut b] {
        for name in ["gaps_healed_total", "epochs_changed_total", "redis_errors_total"] {
            let value = metric(node, name).await?;
            node.journal.wait_for(&format!("{name} 0"));
            if value > 0.0 {
                return Err(node.mismatch(&format!("{name} {value}")));
            }
        }
        let count = metric(node, "redis_seconds_count").await?;
        node.journal.wait_for("redis_seconds_count above 10");
        if count <= 10.0 {
            return Err(node.mismatch(&count.to_string()));
        }
    }
    Ok(())
}
