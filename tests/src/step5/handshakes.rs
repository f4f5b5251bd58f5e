//! The handshake by the letter of [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455#section-4.2).

use crate::raw::{self, Answer, Frame};
use crate::scenario::{Check, Scenario};
use crate::scene::{Scene, broken, status};

/// The headers of a right upgrade, with the RFC's own key.
const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const HANDSHAKE: Scenario = Scenario::of(5, "deep/warp-ws.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "another_version_is_told_which_one_is_spoken",
        sentence: "An upgrade of another version, or none, is told which version is spoken here",
        expected: "status 426 with `Sec-WebSocket-Version: 13`",
        hint: "RFC 6455, section 4.4. The header tells the client what to try instead.",
        run: |scene| Box::pin(version(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "a_key_that_is_none_is_refused",
        sentence: "A handshake without a right key is refused",
        expected: "status 400 for a key that is missing, or not 16 bytes in Base64",
        hint: "RFC 6455, section 4.2.1: decode the key and look at its length.",
        run: |scene| Box::pin(key(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "an_upgrade_is_a_get",
        sentence: "An upgrade is a GET",
        expected: "status 405 for POST, PUT, DELETE and HEAD",
        hint: "Look at the method before the headers.",
        run: |scene| Box::pin(method(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "a_right_handshake_is_answered_with_its_accept",
        sentence: "A right handshake is answered with the key's other half, however its headers are written",
        expected: "status 101 with the RFC's own `Sec-WebSocket-Accept`, also for `keep-alive, Upgrade` and `WebSocket`",
        hint: "Header values are lists, and these two are compared without regard to case.",
        run: |scene| Box::pin(accepted(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "the_protocol_of_the_chat_is_agreed_on",
        sentence: "The subprotocol `chat.v1` is agreed on if it is offered, and no other",
        expected: "`Sec-WebSocket-Protocol: chat.v1`, alone, where it was offered; no such header for others",
        hint: "A client ends a connection that agrees on what it did not offer: echo what you know, or nothing.",
        run: |scene| Box::pin(subprotocol(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "no_compression_is_agreed_on",
        sentence: "Compression is not agreed on, so that nothing small can unfold into something large",
        expected: "no `Sec-WebSocket-Extensions` in the answer, and close code 1002 for a frame with RSV1",
        hint: "Never echo an extension. A reserved bit without one is a protocol error.",
        run: |scene| Box::pin(extensions(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "what_is_wrong_first_is_told_first",
        sentence: "Of several things that are wrong, the first in order is told",
        expected: "404 before 405 before 426 before 400 before 403 before 401",
        hint: "Check in one place and in one order, from what costs nothing to what costs most.",
        run: |scene| Box::pin(order(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "a_header_without_end_is_refused",
        sentence: "A header of 64 KiB is refused, and so are a thousand headers",
        expected: "status 431 or 400, and a server that goes on",
        hint: "hyper's `max_buf_size` and `max_headers`: 16 KiB and 64 are plenty.",
        run: |scene| Box::pin(big_header(scene)),
        ..HANDSHAKE
    },
];

/// Those headers with some changed, or left out where they are empty.
fn upgrade<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let same = UPGRADE.into_iter().filter(|(name, _)| !is_changed(name));
    same.chain(changes.iter().copied().filter(|(_, value)| !value.is_empty())).collect()
}

/// Sends a handshake with exactly these headers.
async fn shake(scene: &Scene, method: &str, path: &str, changes: &[(&str, &str)]) -> Check<Answer> {
    scene.journal.note(&format!("sent the handshake {method} {path} with {changes:?}"));
    let headers = upgrade(changes);
    let request = raw::begin(scene.address(), method, path, &headers, "");
    let answer = scene.within("an answer", request).await?;
    answer.map(|(answer, ..)| answer).map_err(|error| scene.mismatch(&broken(&error)))
}

async fn version(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let changes: [&[(&str, &str)]; 7] = [
        &[("Sec-WebSocket-Version", "8"), own],
        &[("Sec-WebSocket-Version", "12"), own],
        &[("Sec-WebSocket-Version", "130"), own],
        &[("Sec-WebSocket-Version", "thirteen"), own],
        &[("Sec-WebSocket-Version", ""), own],
        &[("Upgrade", ""), ("Connection", "close"), own],
        &[("Upgrade", "h2c"), own],
    ];
    for changes in changes {
        let answer = shake(scene, "GET", "/ws", changes).await?;
        scene.has_status(&answer, 426)?;
        scene.journal.wait_for("Sec-WebSocket-Version: 13");
        let version = answer.header("sec-websocket-version");
        if version != Some("13") {
            return Err(scene.mismatch(&format!("{version:?}")));
        }
    }
    Ok(())
}

async fn key(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let keys = [
        "",
        "abc",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZTE=",
        "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==",
        "!!!!!!!!!!!!!!!!!!!!!!==",
    ];
    for key in keys {
        let answer = shake(scene, "GET", "/ws", &[("Sec-WebSocket-Key", key), own]).await?;
        scene.has_status(&answer, 400)?;
    }
    Ok(())
}

async fn method(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    for method in ["POST", "PUT", "DELETE", "HEAD"] {
        let changes = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
        let answer = shake(scene, method, "/ws", &changes).await?;
        scene.has_status(&answer, 405)?;
    }
    Ok(())
}

async fn accepted(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let changes: [&[(&str, &str)]; 3] = [
        &[own],
        &[("Connection", "keep-alive, Upgrade"), own],
        &[("Upgrade", "WebSocket"), ("Connection", "upgrade"), own],
    ];
    for changes in changes {
        let answer = shake(scene, "GET", "/ws", changes).await?;
        scene.has_status(&answer, 101)?;
        scene.journal.wait_for("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let accept = answer.header("sec-websocket-accept");
        if accept != Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            return Err(scene.mismatch(&format!("{accept:?}")));
        }
    }
    Ok(())
}

async fn subprotocol(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let offers = [
        ("chat.v1", Some("chat.v1")),
        ("chat.v2, chat.v1", Some("chat.v1")),
        ("mqtt,chat.v1", Some("chat.v1")),
        ("", None),
        ("mqtt", None),
        ("chat.v10", None),
    ];
    for (offered, wanted) in offers {
        let changes = [own, ("Sec-WebSocket-Protocol", offered)];
        let answer = shake(scene, "GET", "/ws", &changes).await?;
        scene.has_status(&answer, 101)?;
        scene.journal.wait_for(&format!("{wanted:?} for \"{offered}\""));
        let agreed = answer.header("sec-websocket-protocol");
        if agreed != wanted {
            return Err(scene.mismatch(&format!("{agreed:?}")));
        }
    }
    Ok(())
}

async fn extensions(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let answer = shake(scene, "GET", "/ws", &[own, offer]).await?;
    scene.has_status(&answer, 101)?;
    if let Some(agreed) = answer.header("sec-websocket-extensions") {
        return Err(scene.mismatch(agreed));
    }
    let mut ada = scene.wire_at("ada", "/ws", &[own, offer]).await?;
    ada.send_bytes(&Frame::text("hi").with_rsv(4).encode(), "a frame with RSV1").await;
    ada.expect_close(&[1002]).await
}

async fn order(scene: &mut Scene) -> Check {
    let foreign = ("Origin", "https://evil.example");
    let version = ("Sec-WebSocket-Version", "8");
    let key = ("Sec-WebSocket-Key", "abc");
    let refused = [("POST", "/ws/nowhere", 404), ("POST", "/ws", 405), ("GET", "/ws", 426)];
    for (method, path, wanted) in refused {
        let changes = [foreign, version, key, ("Content-Length", "0")];
        let answer = shake(scene, method, path, &changes).await?;
        scene.has_status(&answer, wanted)?;
    }
    for (changes, wanted) in [(&[foreign, key] as &[_], 400), (&[foreign], 403), (&[], 401)] {
        let answer = shake(scene, "GET", "/ws", changes).await?;
        scene.has_status(&answer, wanted)?;
    }
    Ok(())
}

async fn big_header(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let own = ("Authorization", bearer.as_str());
    let long = "x".repeat(64 * 1024);
    let names: Vec<String> = (0..1000).map(|number| format!("X-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    for changes in [vec![own, ("X-Long", long.as_str())], [vec![own], many].concat()] {
        scene.journal.note("sent a handshake with far too much in its headers");
        let headers = upgrade(&changes);
        let request = raw::begin(scene.address(), "GET", "/ws", &headers, "");
        // A server may hang up on a client that is still writing.
        if let Ok((answer, ..)) = scene.within("an answer", request).await? {
            scene.journal.wait_for("status 431 or 400");
            if ![431, 400].contains(&answer.status) {
                return Err(scene.mismatch(&status(&answer)));
            }
        }
    }
    scene.enter("ada").await.map(drop)
}
