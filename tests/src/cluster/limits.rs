//! What one user may do is counted over all nodes.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{CLUSTER, LOOK, nodes, redis};
use crate::raw::Opened;
use crate::redis::Fsync;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::fallback::Caller;
use crate::step5::attempts::{guess, is_limited};
use crate::step5::floods::share;

/// How soon a place that was left can be taken.
const SOON: Duration = Duration::from_secs(5);

/// How often a wrong password is let through for an account.
const FOR_AN_ACCOUNT: usize = 10;

const BUDGET_HINT: &str = "Keep the user's bucket in Redis (a script that counts by time), and ask it after the connection's own.";
const PLACES_HINT: &str = "A user's connections are a set in Redis, each with a time at which it expires unless its node refreshes it.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "two_nodes_share_a_user_s_budget",
        sentence: "Two connections of one user share a budget, on two nodes too",
        expected: "about 150 accepted messages of 190 on two nodes, although each connection may send 100",
        hint: BUDGET_HINT,
        run: |scene| Box::pin(budget(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "two_nodes_share_a_user_s_connections",
        sentence: "A user may have MAX_CONNECTIONS_PER_USER connections on all nodes together",
        expected: "status 429 for one more at either node, for a WebSocket and for the fallback; 101 once another has ended",
        hint: PLACES_HINT,
        run: |scene| Box::pin(connections(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "two_nodes_share_an_account_s_failed_sign_ins",
        sentence: "Wrong passwords for an account are counted over all nodes",
        expected: "status 429 at either node after ten of them, half at each, for the right password too; and others who sign in as ever",
        hint: "Count an account's failures in Redis, with an expiry.",
        run: |scene| Box::pin(failures(scene)),
        ..CLUSTER
    },
];

const LIMITED: (&str, &str) = ("RATE_LIMIT", "on");

async fn budget(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::EverySecond).await?;
    let [a, b] = nodes(scene, &redis.url(), &[LIMITED]).await?;
    let began = Instant::now();
    let both = [a.enter("ada").await?, b.enter("ada").await?];
    share(scene, both, began).await
}

async fn connections(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::EverySecond).await?;
    let [a, b] = nodes(scene, &redis.url(), &[("MAX_CONNECTIONS_PER_USER", "3")]).await?;
    let first = a.wire("ada").await?;
    let _second = b.wire("ada").await?;
    let _third = Caller::hello(&b, "ada").await?;
    let bearer = a.bearer("ada").await?;
    let headers = [("Authorization", bearer.as_str())];
    for node in [&a, &b] {
        let opened = node.ask_as_it_is("/ws", &headers).await?;
        node.was_refused(opened, 429)?;
        let hello = serde_json::json!({"type": "hello"});
        let answer = node.post("/hello", &headers, &hello).await?;
        node.has_status(&answer, 429)?;
    }
    let _somebody_else = b.wire("grace").await?;
    first.close_in_order(1000).await?;
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        if let Opened::Socket(_) = b.ask_as_it_is("/ws", &headers).await? {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    scene.journal.wait_for("status 101 once another connection had ended");
    Err(scene.mismatch("status 429, again and again"))
}

async fn failures(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::EverySecond).await?;
    let [a, b] = nodes(scene, &redis.url(), &[LIMITED]).await?;
    a.register("ada").await?;
    b.register("grace").await?;
    for number in 0..FOR_AN_ACCOUNT {
        let node = if number % 2 == 0 { &a } else { &b };
        let answer = guess(node, "ada", &[]).await?;
        node.has_status(&answer, 401)?;
    }
    for node in [&a, &b] {
        let answer = guess(node, "ada", &[]).await?;
        is_limited(node, &answer)?;
        let answer = node.post("/api/login", &[], &node.credentials("ada")).await?;
        is_limited(node, &answer)?;
        node.sign_in("grace").await?;
    }
    Ok(())
}
