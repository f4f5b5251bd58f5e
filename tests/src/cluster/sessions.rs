//! A session is one on all nodes, and so is its end.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{CLUSTER, LONG, over_redis, redis, wired};
use crate::client::Client;
use crate::event::text;
use crate::redis::Fsync;
use crate::rules::still_talks;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::degraded::until;
use crate::step4::fallback::{Caller, event};
use crate::step5::connections::{back, session};
use crate::step5::sessions::{connect_with, until_end};
use crate::stream::Stream;

/// How soon connections on other nodes end, with some room for a busy machine.
const SOON: Duration = Duration::from_secs(2 + 2);

/// For how long connections have been there when their session ends.
const THERE: Duration = Duration::from_secs(3);

/// After what time a node notices by itself that a session is over, with some room.
const AT_LAST: Duration = Duration::from_secs(60 + 15);

/// What begins every message that Redis sends to those who have subscribed.
const PUSHED: &str = "$7\r\nmessage\r\n";

const END_HINT: &str = "Publish the end of a session to all nodes, and ask Redis every minute about the sessions of those who are connected: what is published may get lost.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_session_is_good_at_every_node",
        sentence: "A session from one node is good at every other, and over at all of them",
        expected: "status 200 at /api/me of the other node for a token and a cookie, and 401 right after the sign-out elsewhere",
        hint: "Sessions live in Redis. Ask it at each request.",
        run: |scene| Box::pin(good(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "signing_out_ends_connections_on_other_nodes",
        sentence: "Signing out at one node ends that session's connections at the others, within 2 seconds",
        expected: "4501 for its WebSockets and the end of its streams at the other node; the user's other sessions go on",
        hint: END_HINT,
        run: |scene| Box::pin(ends(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_lost_sign_out_is_noticed_within_a_minute",
        sentence: "A sign-out that another node has not heard of ends its connections within a minute",
        expected: "4501 at the other node within 60 seconds, although what Redis published never came there",
        hint: END_HINT,
        limit: LONG,
        run: |scene| Box::pin(lost(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_client_that_comes_back_at_another_node_ends_its_old_connection",
        sentence: "A client that comes back at another node ends its own old connection, and no other",
        expected: "close code 4500 at the old node, `welcome` with the same session at the new one, and an open connection for the user's other client",
        hint: "Write down in Redis which connection a client's session has, and tell the one before.",
        run: |scene| Box::pin(comes_back(scene)),
        ..CLUSTER
    },
    Scenario {
        name: "a_websocket_takes_over_from_a_stream_at_another_node",
        sentence: "A WebSocket takes over from the same client's stream at another node",
        expected: "`welcome` with the same session, and the end of the stream",
        hint: "To the fence both are the same: a connection of the session.",
        run: |scene| Box::pin(takes_over(scene)),
        ..CLUSTER
    },
];

/// Whether a node takes somebody for signed in.
async fn me(node: &Scene, headers: &[(&str, &str)], wanted: u16) -> Check {
    let answer = node.http("GET", "/api/me", headers).await?;
    node.has_status(&answer, wanted)
}

/// A cookie as another node knows it: its name has the port of the server.
fn cookie_for(node: &Scene, cookie: &str) -> String {
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    let port = node.address().rsplit(':').next().unwrap_or_default();
    format!("session-{port}={value}")
}

async fn good(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let bearer = a.bearer("ada").await?;
    let bearer = [("Authorization", bearer.as_str())];
    let cookie = a.sign_in_by_cookie("ada").await?;
    let cookie = cookie_for(&b, &cookie);
    let cookie = [("Cookie", cookie.as_str())];
    me(&b, &bearer, 200).await?;
    me(&b, &cookie, 200).await?;
    for (headers, node) in [(&bearer, &a), (&cookie, &b)] {
        let answer = node.http("POST", "/api/logout", headers).await?;
        node.has_status(&answer, 204)?;
    }
    for node in [&a, &b] {
        me(node, &bearer, 401).await?;
        let opened = node.ask_as_it_is("/ws", &bearer).await?;
        node.was_refused(opened, 401)?;
    }
    me(&b, &cookie, 401).await
}

async fn ends(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut other_session = b.enter("ada").await?;
    let mut grace = b.enter("grace").await?;
    let bearer = format!("Bearer {}", a.sign_in("ada").await?);
    let headers = [("Authorization", bearer.as_str())];
    let mut ending = [connect_with(&b, &headers).await?, connect_with(&a, &headers).await?];
    let path = format!("/events?join={}", scene.name("room"));
    let mut stream = Stream::open(&b, "ada's stream", &path, &headers).await?;
    stream.expect("welcome").await?;
    // A node may look once more for the session of a connection that has just come.
    sleep(THERE).await;

    let answer = a.http("POST", "/api/logout", &headers).await?;
    a.has_status(&answer, 204)?;
    let began = Instant::now();
    for client in &mut ending {
        client.expect_close(4501).await?;
    }
    until_end(&mut stream).await?;
    if began.elapsed() > SOON {
        return Err(scene.mismatch(&format!("the end after {:?}", began.elapsed())));
    }
    still_talks(&mut other_session).await?;
    grace.expect_field("message", "text", "still here").await.map(drop)
}

async fn lost(scene: &mut Scene) -> Check {
    let redis = redis(Fsync::Always).await?;
    let [a] = super::nodes(scene, &redis.url(), &[]).await?;
    let (wire, b) = wired(scene, &redis).await?;
    let mut other_session = b.enter("ada").await?;
    let bearer = format!("Bearer {}", a.sign_in("ada").await?);
    let headers = [("Authorization", bearer.as_str())];
    let mut ending = connect_with(&b, &headers).await?;
    scene.journal.note("the other node hears nothing of what Redis publishes");
    wire.lose(Some(PUSHED));
    let answer = a.http("POST", "/api/logout", &headers).await?;
    a.has_status(&answer, 204)?;
    ending.patience = AT_LAST;
    ending.expect_close(4501).await?;
    wire.lose(None);
    still_talks(&mut other_session).await
}

async fn comes_back(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let mut grace = b.enter("grace").await?;
    let mut other = a.enter("ada").await?;
    let mut old = a.enter("ada").await?;
    let own = session(&old);
    for node in [&b, &a, &b] {
        let mut new = back(node, "ada", &own).await?;
        if session(&new) != own {
            return Err(new.mismatch("a welcome with another session"));
        }
        old.expect_close(4500).await?;
        let room = new.room.clone();
        new.join(&room).await?;
        new.store("here I am").await?;
        for client in [&mut other, &mut grace] {
            client.expect_field("message", "text", "here I am").await?;
        }
        old = new;
    }
    // Somebody else's session ends nothing.
    let _eve: Client = back(&a, "eve", &own).await?;
    still_talks(&mut other).await?;
    old.say("me too").await;
    until(&mut old, "what it says itself", |event| text(event, "text") == "me too").await.map(drop)
}

async fn takes_over(scene: &mut Scene) -> Check {
    let (_redis, [a, b]) = over_redis(scene).await?;
    let caller = Caller::hello(&a, "ada").await?;
    let mut stream = caller.listen(&a).await?;
    let mut client = back(&b, "ada", &caller.session).await?;
    if session(&client) != caller.session {
        return Err(client.mismatch("a welcome with another session"));
    }
    until_end(&mut stream).await?;
    let room = client.room.clone();
    client.join(&room).await?;
    still_talks(&mut client).await?;
    // And back again, without a WebSocket.
    let hello = serde_json::json!({"type": "hello", "session": caller.session});
    let headers = [("Authorization", caller.authorization.as_str())];
    let answer = a.post("/hello", &headers, &hello).await?;
    event(&a, &answer, 200, "welcome")?;
    let _stream = caller.listen(&a).await?;
    client.expect_close(4500).await
}
