//! Frames and JSON that no honest client sends: beside those that every milestone refuses.

use serde_json::json;

use crate::event::{is, json_of, text};
use crate::raw::{CLOSE, CONTINUATION, Frame, PONG, TEXT};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::step4::acks::seq;

const FRAMES: Scenario = Scenario::of(5, "deep/warp-ws.html");
const JSON: Scenario = Scenario::of(5, "deep/threat-model.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pings_between_fragments_are_answered",
        sentence: "An event in fragments is put together, and pings between them are answered",
        expected: "a pong for each ping, then the `ack`, also where a fragment ends within a character",
        hint: "Control frames may come between two fragments. UTF-8 is checked over the whole message.",
        run: |scene| Box::pin(interleaved(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_new_message_within_another_is_refused",
        sentence: "A new message within the fragments of another closes the connection",
        expected: "close code 1002",
        hint: "Only a continuation, or a control frame, may follow a fragment.",
        run: |scene| Box::pin(within_another(scene)),
        ..FRAMES
    },
    Scenario {
        name: "fragments_that_are_not_utf_8_together_are_refused",
        sentence: "Fragments that are not UTF-8 together close the connection",
        expected: "close code 1007",
        hint: "Check UTF-8 when the message is whole, or as it comes, but not fragment by fragment.",
        run: |scene| Box::pin(bad_fragments(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_close_frame_by_the_letter",
        sentence: "A close frame with a code that nobody may send, with one byte, or with more than 125 closes as a protocol error",
        expected: "close code 1002 for the codes 0, 999, 1004, 1005, 1006, 1015 and 5000, for a payload of 1 byte and of 126",
        hint: "RFC 6455, sections 5.5 and 7.4: some codes are reserved, and must not be on the wire.",
        run: |scene| Box::pin(bad_closes(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_close_frame_with_a_long_reason_is_answered",
        sentence: "A close frame with a reason of 123 bytes, or without a code, is a proper goodbye",
        expected: "a close frame, then the orderly end of the connection",
        hint: "123 bytes of reason and two of code fill the 125 bytes that a control frame may have.",
        run: |scene| Box::pin(good_closes(scene)),
        ..FRAMES
    },
    Scenario {
        name: "nothing_counts_after_a_close_frame",
        sentence: "Nothing counts after a close frame",
        expected: "no message in the room that came behind its sender's close frame",
        hint: "Stop reading events when the close frame has come. What still comes is read for TCP's sake only.",
        run: |scene| Box::pin(after_close(scene)),
        ..FRAMES
    },
    Scenario {
        name: "json_that_others_would_take_is_refused",
        sentence: "JSON that is none, but that some parsers take, is answered with an error",
        expected: "`bad_json` for NaN, 1e999, a lone surrogate, a byte order mark, comments and trailing commas, and an open connection",
        hint: "`serde_json` refuses all of these. A parser that guesses lets two programs read two things.",
        run: |scene| Box::pin(lenient(scene)),
        ..JSON
    },
    Scenario {
        name: "a_key_that_comes_twice_fools_nobody",
        sentence: "A key that comes twice fools nobody",
        expected: "one event or `bad_json`, by the same of the two keys each time, and an open connection",
        hint: "Parse once, and act on what came of it. Two parsers may choose two of the keys.",
        run: |scene| Box::pin(twice(scene)),
        ..JSON
    },
];

async fn interleaved(scene: &mut Scene) -> Check {
    let mut ada = scene.enter_without_reading("ada").await?;
    let id = uuid::Uuid::new_v4().to_string();
    let room = scene.name("room");
    let event = json!({"type": "message", "id": id, "room": room, "text": "żółw 🦀"}).to_string();
    let last = event.len() - 1;
    for (number, byte) in event.bytes().enumerate() {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        let frame = Frame::new(opcode, [byte]);
        let frame = if number == last { frame } else { frame.unfinished() };
        ada.send_quietly(&frame.encode()).await;
        if number % 20 == 10 {
            ada.send_quietly(&Frame::ping("between").encode()).await;
        }
    }
    let mut pongs = 0;
    loop {
        let frame = ada.next("pongs, then an `ack`").await?;
        if frame.opcode == PONG {
            pongs += 1;
        }
        let event = serde_json::from_slice(&frame.payload).unwrap_or_default();
        if is(&event, "error") {
            return Err(scene.mismatch(&json_of(&event)));
        }
        if is(&event, "ack") && text(&event, "id") == id {
            break;
        }
    }
    scene.journal.wait_for("a pong between the fragments");
    if pongs > 0 { Ok(()) } else { Err(scene.mismatch("no pong before the ack")) }
}

async fn within_another(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("{").unfinished()).await;
    ada.send(&Frame::text("{\"type\":\"rooms\"}")).await;
    ada.expect_close(&[1002]).await
}

async fn bad_fragments(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    // The first half of an ó, and then something else.
    ada.send_bytes(&Frame::new(TEXT, *b"\xc3").unfinished().encode(), "half a character").await;
    ada.send_bytes(&Frame::new(CONTINUATION, *b"x").encode(), "an x").await;
    ada.expect_close(&[1007]).await
}

async fn bad_closes(scene: &mut Scene) -> Check {
    for code in [0, 999, 1004, 1005, 1006, 1015, 5000] {
        let mut ada = scene.wire("ada").await?;
        ada.send(&Frame::close(code)).await;
        ada.expect_close(&[1002]).await?;
    }
    let code = 1000_u16.to_be_bytes().to_vec();
    for payload in [vec![3], [code, vec![b'x'; 124]].concat()] {
        let mut ada = scene.wire("ada").await?;
        let length = payload.len();
        let bytes = Frame::new(CLOSE, payload).encode();
        ada.send_bytes(&bytes, &format!("a close frame of {length} bytes")).await;
        ada.expect_close(&[1002]).await?;
    }
    let mut ada = scene.wire("ada").await?;
    let bytes = Frame::new(CLOSE, *b"\x03\xe8\xff\xfe").encode();
    ada.send_bytes(&bytes, "a close frame whose reason is not UTF-8").await;
    ada.expect_close(&[1007, 1002]).await
}

async fn good_closes(scene: &mut Scene) -> Check {
    let code = 1000_u16.to_be_bytes().to_vec();
    for payload in [[code, vec![b'x'; 123]].concat(), Vec::new()] {
        let mut ada = scene.wire("ada").await?;
        ada.send(&Frame::new(CLOSE, payload)).await;
        let frame = ada.next("a close frame").await?;
        let is_right = frame.opcode == CLOSE && [Some(1000), None].contains(&frame.close_code());
        if !is_right {
            return Err(scene.mismatch(&frame.describe()));
        }
        ada.expect_end().await?;
    }
    for code in [3000, 4000, 4999] {
        scene.wire("ada").await?.close_in_order(code).await?;
    }
    Ok(())
}

async fn after_close(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut ada = scene.enter_without_reading("ada").await?;
    let message = grace.message("too late");
    let bytes = [Frame::close(1000).encode(), Frame::text(json_of(&message)).encode()].concat();
    ada.send_bytes(&bytes, "a close frame, and a message behind it").await;
    ada.expect_close(&[1000]).await?;
    let ack = grace.store("the first one").await?;
    grace.expect_field("message", "text", "the first one").await?;
    if seq(&ack) == 1 { Ok(()) } else { Err(grace.mismatch(&json_of(&ack))) }
}

async fn lenient(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let id = uuid::Uuid::new_v4();
    let events = [
        format!("{{\"type\":\"join\",\"room\":\"{room}\",\"epoch\":\"{id}\",\"after\":NaN}}"),
        format!("{{\"type\":\"join\",\"room\":\"{room}\",\"epoch\":\"{id}\",\"after\":1e999}}"),
        format!("{{\"type\":\"join\",\"room\":\"{room}\",\"epoch\":\"{id}\",\"after\":-1}}"),
        format!(
            "{{\"type\":\"join\",\"room\":\"{room}\",\"epoch\":\"{id}\",\"after\":99999999999999999999}}"
        ),
        format!(
            "{{\"type\":\"message\",\"id\":\"{id}\",\"room\":\"{room}\",\"text\":\"\\ud800\"}}"
        ),
        "\u{feff}{\"type\":\"rooms\"}".to_owned(),
        "{\"type\":\"rooms\",}".to_owned(),
        "{\"type\":\"rooms\"} // and more".to_owned(),
        "{\"type\":\"rooms\"}{\"type\":\"rooms\"}".to_owned(),
        "{type:\"rooms\"}".to_owned(),
        "{\"type\":\"rooms\",\"x\":01}".to_owned(),
        "{\"type\":\"rooms\",\"x\":\"\u{1}\"}".to_owned(),
    ];
    for event in &events {
        ada.send_text(event).await;
        ada.expect_error("bad_json").await?;
    }
    ada.store("still here").await.map(drop)
}

async fn twice(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let (room, id) = (ada.room.clone(), uuid::Uuid::new_v4());
    let elsewhere = scene.name("elsewhere");
    ada.send_text(&format!(
        "{{\"type\":\"message\",\"id\":\"{id}\",\"room\":\"{elsewhere}\",\"room\":\"{room}\",\"text\":\"one\",\"text\":\"other\",\"from\":\"{0}\"}}",
        grace.name,
    ))
    .await;
    let answer = ada.answer("an `ack` or an `error`").await?;
    let code = text(&answer, "code");
    let is_right = match text(&answer, "type") {
        "ack" => text(&answer, "room") == room,
        _ => ["bad_json", "not_in_room"].contains(&code),
    };
    if !is_right {
        return Err(ada.mismatch(&json_of(&answer)));
    }
    if is(&answer, "ack") {
        let said = grace.expect("message").await?;
        let is_right = text(&said, "from") == ada.name && text(&said, "text") == "other";
        if !is_right {
            return Err(grace.mismatch(&json_of(&said)));
        }
    }
    ada.store("still here").await.map(drop)
}
