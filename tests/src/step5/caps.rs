//! How many may be here at once: over all, from one address, of one user, and in how many rooms.

use serde_json::json;

use crate::raw::{Answer, Opened};
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;
use crate::step4::fallback::Caller;
use crate::wire::Wire;

/// How many rooms a user may be in over all connections, and one connection.
const USER_ROOMS: usize = 256;
const CONNECTION_ROOMS: usize = 64;

/// How often to try again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);
const TRIES: usize = 250;

const CAP: Scenario =
    Scenario { needs: Needs::Program, ..Scenario::of(5, "production/rate-limits.html") };

const ADDRESS_HINT: &str =
    "A count for each address, taken before the upgrade and given back when the connection ends.";
const PROXY_HINT: &str = "Read `X-Forwarded-For` from its end, and only as long as who says so is in TRUSTED_PROXIES: the first address that is not is the client's.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_full_server_says_when_to_come_back",
        sentence: "A full server says so before the upgrade, and when to come back",
        expected: "status 503 with `Retry-After`, for a WebSocket and for a stream; a place that was left can be taken",
        hint: "A `Semaphore` with MAX_CONNECTIONS permits, for every kind of connection.",
        run: |scene| Box::pin(full(scene)),
        ..CAP
    },
    Scenario {
        name: "an_address_has_so_many_connections_and_no_more",
        sentence: "An address may have MAX_CONNECTIONS_PER_ADDRESS connections, whoever they are of",
        expected: "status 429 with `Retry-After` for one more; 101 once another has ended",
        hint: ADDRESS_HINT,
        run: |scene| Box::pin(per_address(scene)),
        ..CAP
    },
    Scenario {
        name: "a_user_has_so_many_connections_and_no_more",
        sentence: "A user may have MAX_CONNECTIONS_PER_USER connections, in all sessions together",
        expected: "status 429 with `Retry-After` for one more; 101 for others",
        hint: "A count for each account, taken before the upgrade and given back when the connection ends.",
        run: |scene| Box::pin(per_user(scene)),
        ..CAP
    },
    Scenario {
        name: "nobody_forges_an_address",
        sentence: "Nobody forges another address by a header",
        expected: "status 429 for one connection too many, whatever X-Forwarded-For, Forwarded or X-Real-IP says",
        hint: PROXY_HINT,
        run: |scene| Box::pin(forged(scene)),
        ..CAP
    },
    Scenario {
        name: "a_trusted_proxy_tells_addresses_apart",
        sentence: "A proxy in TRUSTED_PROXIES tells its clients' addresses apart, and a client can't put others before its own",
        expected: "a count for the last address in X-Forwarded-For that is no trusted proxy",
        hint: PROXY_HINT,
        run: |scene| Box::pin(proxy(scene)),
        ..CAP
    },
    Scenario {
        name: "an_ipv6_network_of_64_bits_is_one_address",
        sentence: "A network of IPv6 addresses that begin with the same 64 bits is one address",
        expected: "status 429 for one more from the same /64, 101 from another",
        hint: "Whoever has one IPv6 address has 2^64 of them: keep the first 64 bits only.",
        run: |scene| Box::pin(ipv6(scene)),
        ..CAP
    },
    Scenario {
        name: "a_user_is_in_256_rooms_and_not_in_more",
        sentence: "A user may be in 256 rooms over all connections, and not in more",
        expected: "`too_many_rooms` for the 257th on a fifth connection",
        hint: "A count for each account, beside the one for each connection.",
        limit: SLOW,
        run: |scene| Box::pin(rooms_of_a_user(scene)),
        ..CAP
    },
    Scenario {
        name: "a_server_has_so_many_rooms_and_no_more",
        sentence: "A server has MAX_ROOMS open rooms, and no more",
        expected: "`unavailable` for a join that would open one more, `joined` for rooms that are open, and for a new one once another is empty",
        hint: "Count the open rooms where they are opened, under the lock that opens them.",
        run: |scene| Box::pin(rooms_in_all(scene)),
        ..CAP
    },
];

/// Asks for a WebSocket as somebody, from an address.
async fn ask(scene: &Scene, base: &str, headers: &[(&str, &str)]) -> Check<Opened> {
    let bearer = scene.bearer(base).await?;
    let own = [("Authorization", bearer.as_str())];
    scene.ask_as_it_is("/ws", &[headers, &own].concat()).await
}

/// Somebody must be let in.
async fn enters(scene: &Scene, base: &str, headers: &[(&str, &str)]) -> Check<Opened> {
    let opened = ask(scene, base, headers).await?;
    scene.journal.wait_for("status 101");
    match opened {
        Opened::Socket(_) => Ok(opened),
        Opened::Refused(answer) => Err(scene.mismatch(&crate::scene::status(&answer))),
    }
}

/// Somebody must be refused because there are too many already.
async fn is_one_too_many(scene: &Scene, base: &str, headers: &[(&str, &str)]) -> Check {
    let opened = ask(scene, base, headers).await?;
    comes_back_later(scene, &scene.was_refused(opened, 429)?)
}

/// A place may take a moment to be free again.
async fn enters_at_last(scene: &Scene, base: &str, headers: &[(&str, &str)]) -> Check<Opened> {
    for _ in 0..TRIES {
        let opened = ask(scene, base, headers).await?;
        if let Opened::Socket(_) = opened {
            return Ok(opened);
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(scene.mismatch("a refusal, again and again"))
}

/// A refusal must say when it may be another.
fn comes_back_later(scene: &Scene, answer: &Answer) -> Check {
    scene.journal.wait_for("Retry-After in seconds");
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    if seconds.is_some_and(|seconds| seconds > 0) {
        return Ok(());
    }
    Err(scene.mismatch(&format!("Retry-After {:?}", answer.header("retry-after"))))
}

async fn full(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS", "2")]).await?;
    let caller = Caller::hello(scene, "ada").await?;
    let stream = caller.listen(scene).await?;
    let grace: Wire = scene.wire("grace").await?;
    let opened = ask(scene, "alan", &[]).await?;
    comes_back_later(scene, &scene.was_refused(opened, 503)?)?;
    let bearer = scene.bearer("alan").await?;
    let headers = [("Authorization", bearer.as_str())];
    let hello = scene.post("/hello", &headers, &json!({"type": "hello"})).await?;
    let stream_headers = [&headers[..], &[("Connection", "close")]].concat();
    let stream_too = scene.http("GET", "/events?join=rust", &stream_headers).await?;
    for answer in [hello, stream_too] {
        scene.has_status(&answer, 503)?;
        comes_back_later(scene, &answer)?;
    }
    grace.close_in_order(1000).await?;
    enters_at_last(scene, "alan", &[]).await?;
    drop(stream);
    Ok(())
}

async fn per_address(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS_PER_ADDRESS", "3")]).await?;
    let first = scene.wire("ada").await?;
    let _second = enters(scene, "grace", &[]).await?;
    let _third = enters(scene, "alan", &[]).await?;
    is_one_too_many(scene, "eve", &[]).await?;
    first.close_in_order(1000).await?;
    let _fourth = enters_at_last(scene, "eve", &[]).await?;
    is_one_too_many(scene, "ada", &[]).await
}

async fn per_user(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS_PER_USER", "2")]).await?;
    let first = scene.wire("ada").await?;
    let _second = enters(scene, "ada", &[]).await?;
    is_one_too_many(scene, "ada", &[]).await?;
    let other = format!("Bearer {}", scene.sign_in("ada").await?);
    let opened = scene.ask_as_it_is("/ws/staff", &[("Authorization", &other)]).await?;
    comes_back_later(scene, &scene.was_refused(opened, 429)?)?;
    let _grace = enters(scene, "grace", &[]).await?;
    first.close_in_order(1000).await?;
    enters_at_last(scene, "ada", &[]).await.map(drop)
}

async fn forged(scene: &mut Scene) -> Check {
    let settings = [("MAX_CONNECTIONS_PER_ADDRESS", "2"), ("TRUSTED_PROXIES", "10.1.2.3/32")];
    scene.start(&settings).await?;
    let _first = enters(scene, "ada", &[("X-Forwarded-For", "203.0.113.1")]).await?;
    let _second = enters(scene, "grace", &[("X-Forwarded-For", "203.0.113.2")]).await?;
    let forged = [
        ("X-Forwarded-For", "203.0.113.3"),
        ("X-Forwarded-For", "10.1.2.3"),
        ("X-Real-IP", "203.0.113.3"),
        ("Forwarded", "for=203.0.113.3"),
        ("X-Client-IP", "203.0.113.3"),
        ("CF-Connecting-IP", "203.0.113.3"),
    ];
    for header in forged {
        is_one_too_many(scene, "alan", &[header]).await?;
    }
    Ok(())
}

async fn proxy(scene: &mut Scene) -> Check {
    let settings =
        [("MAX_CONNECTIONS_PER_ADDRESS", "1"), ("TRUSTED_PROXIES", "127.0.0.1/32,10.0.0.0/8")];
    scene.start(&settings).await?;
    let mut open = Vec::new();
    for number in 1..=3 {
        let address = format!("203.0.113.{number}");
        open.push(enters(scene, "ada", &[("X-Forwarded-For", &address)]).await?);
    }
    // What stands before the last address that no proxy has, its client may have made up.
    let same = [
        "203.0.113.1",
        "198.51.100.9, 203.0.113.1",
        "198.51.100.8, 198.51.100.9,203.0.113.2",
        "198.51.100.9, 203.0.113.3, 10.4.5.6",
        "not an address, 203.0.113.3",
    ];
    for list in same {
        is_one_too_many(scene, "ada", &[("X-Forwarded-For", list)]).await?;
    }
    // A list may come in several headers.
    let split = [("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-For", "203.0.113.1")];
    is_one_too_many(scene, "ada", &split).await?;
    enters(scene, "ada", &[("X-Forwarded-For", "203.0.113.1, 198.51.100.9")]).await.map(drop)
}

async fn ipv6(scene: &mut Scene) -> Check {
    let settings = [("MAX_CONNECTIONS_PER_ADDRESS", "2"), ("TRUSTED_PROXIES", "127.0.0.1/32")];
    scene.start(&settings).await?;
    let mut open = Vec::new();
    for address in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2"] {
        open.push(enters(scene, "ada", &[("X-Forwarded-For", address)]).await?);
    }
    is_one_too_many(scene, "ada", &[("X-Forwarded-For", "2001:db8:1:2:3:4:5:6")]).await?;
    enters(scene, "ada", &[("X-Forwarded-For", "2001:db8:1:3::1")]).await.map(drop)
}

async fn rooms_of_a_user(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut all = Vec::new();
    for connection in 0..USER_ROOMS / CONNECTION_ROOMS {
        let mut ada = scene.greet("ada").await?;
        for room in 0..CONNECTION_ROOMS {
            ada.join(&scene.name(&format!("r{connection}-{room}"))).await?;
        }
        all.push(ada);
    }
    let mut fifth = scene.greet("ada").await?;
    let one_more = scene.name("one-more");
    fifth.send(json!({"type": "join", "room": one_more})).await;
    fifth.expect_error("too_many_rooms").await?;
    // Others have rooms of their own, and one's own can be left.
    let mut grace = scene.greet("grace").await?;
    grace.join(&one_more).await?;
    let left = scene.name("r0-0");
    let first = all.first_mut().ok_or_else(|| scene.mismatch("no connection"))?;
    first.send(json!({"type": "leave", "room": left})).await;
    first.expect_field("left", "room", &left).await?;
    fifth.join(&one_more).await.map(drop)
}

async fn rooms_in_all(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_ROOMS", "3")]).await?;
    let mut ada = scene.greet("ada").await?;
    let room = |number: usize| scene.name(&format!("r{number}"));
    for number in 0..3 {
        ada.join(&room(number)).await?;
    }
    let mut grace = scene.greet("grace").await?;
    for client in [&mut ada, &mut grace] {
        client.send(json!({"type": "join", "room": room(3)})).await;
        client.expect_error("unavailable").await?;
    }
    grace.join(&room(2)).await?;
    ada.send(json!({"type": "leave", "room": room(0)})).await;
    ada.expect("left").await?;
    for _ in 0..TRIES {
        grace.send(json!({"type": "join", "room": room(3)})).await;
        let answer = grace.next("`joined` once a room was empty").await?;
        if crate::event::is(&answer, "joined") {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(grace.mismatch("`unavailable`, again and again"))
}
