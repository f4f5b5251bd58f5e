//! What every server does with frames, good and bad: the same promises in every milestone.

use crate::echo::LIMIT;
use crate::raw::{CONTINUATION, Frame, PONG};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const FRAMES: Scenario = Scenario::of(1, "implementation/step1.html");

const TOO_BIG: &str =
    "a close frame with code 1009 (message too big), then the end of the connection";
const TOO_BIG_HINT: &str = "Set `max_message_size` and `max_frame_size` to 64 KiB, and send 1009 when reading gives `Error::Capacity`: the library closes nothing by itself.";
const PROTOCOL: &str =
    "a close frame with code 1002 (protocol error), then the end of the connection";
const PROTOCOL_HINT: &str = "Reading gives `Error::Protocol`. The library sends nothing by itself: answer with a close frame, code 1002, before you let go of the socket.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_ping_is_answered_with_its_own_payload",
        sentence: "A ping is answered with a pong that carries the same payload",
        expected: "a pong with the ping's payload",
        hint: "The library queues the pong when it reads the ping, and sends it as long as you keep reading.",
        run: |scene| Box::pin(ping_is_answered(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_close_frame_is_answered_with_its_own_code",
        sentence: "A close frame is answered with the same code, then the connection ends",
        expected: "a close frame with code 1000, then the orderly end of the TCP connection",
        hint: "The reply is only queued when you read the close frame. Keep reading until `None`, so that it goes out; don't `break`.",
        run: |scene| Box::pin(close_is_answered(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_message_over_64_kib_is_refused",
        sentence: "A message one byte over 64 KiB closes the connection",
        expected: TOO_BIG,
        hint: TOO_BIG_HINT,
        run: |scene| Box::pin(too_long_is_refused(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_frame_that_promises_a_mebibyte_is_refused_at_once",
        sentence: "A frame that promises 1 MiB is refused before its bytes have come",
        expected: TOO_BIG,
        hint: "Without `max_frame_size` the server waits for the whole frame before it looks at the length.",
        run: |scene| Box::pin(promise_is_refused(scene, 1 << 20)),
        ..FRAMES
    },
    Scenario {
        name: "a_frame_that_promises_the_impossible_is_refused_at_once",
        sentence: "A frame that promises 2^63 bytes is refused before its bytes have come",
        expected: "a close frame with code 1009 or 1002, then the end of the connection",
        hint: TOO_BIG_HINT,
        run: |scene| Box::pin(promise_is_refused(scene, 1 << 63)),
        ..FRAMES
    },
    Scenario {
        name: "fragments_that_are_too_long_together_are_refused",
        sentence: "Fragments that are over 64 KiB together close the connection",
        expected: TOO_BIG,
        hint: TOO_BIG_HINT,
        run: |scene| Box::pin(long_fragments_are_refused(scene)),
        ..FRAMES
    },
    Scenario {
        name: "text_that_is_not_utf_8_is_refused",
        sentence: "A text message that is not UTF-8 closes the connection",
        expected: "a close frame with code 1007 (invalid data), then the end of the connection",
        hint: "Reading gives `Error::Utf8`: answer with a close frame, code 1007.",
        run: |scene| Box::pin(bad_text_is_refused(scene)),
        ..FRAMES
    },
    Scenario {
        name: "a_frame_without_a_mask_is_refused",
        sentence: "A frame without a mask closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::text("hi").unmasked(), "without a mask")),
        ..FRAMES
    },
    Scenario {
        name: "a_frame_with_a_reserved_bit_is_refused",
        sentence: "A frame with a reserved bit closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::text("hi").with_rsv(2), "with RSV2 set")),
        ..FRAMES
    },
    Scenario {
        name: "an_unknown_opcode_is_refused",
        sentence: "A frame with an unknown opcode closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::new(0x3, "hi"), "with opcode 3")),
        ..FRAMES
    },
    Scenario {
        name: "a_continuation_of_nothing_is_refused",
        sentence: "A continuation frame without a message to continue closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::new(CONTINUATION, "hi"), "out of nowhere")),
        ..FRAMES
    },
    Scenario {
        name: "a_ping_over_125_bytes_is_refused",
        sentence: "A ping with more than 125 bytes closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::ping([b'x'; 126]), "with 126 bytes")),
        ..FRAMES
    },
    Scenario {
        name: "a_ping_in_fragments_is_refused",
        sentence: "A ping in fragments closes the connection",
        expected: PROTOCOL,
        hint: PROTOCOL_HINT,
        run: |scene| Box::pin(refused(scene, Frame::ping("hi").unfinished(), "without its end")),
        ..FRAMES
    },
];

async fn ping_is_answered(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::ping("are you there?")).await;
    ada.expect(PONG, b"are you there?").await?;
    ada.send(&Frame::ping([])).await;
    ada.expect(PONG, b"").await
}

async fn close_is_answered(scene: &mut Scene) -> Check {
    let ada = scene.wire("ada").await?;
    ada.close_in_order(1000).await
}

async fn too_long_is_refused(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("x".repeat(LIMIT + 1))).await;
    ada.expect_close(&[1009]).await
}

async fn promise_is_refused(scene: &mut Scene, length: u64) -> Check {
    let mut ada = scene.wire("ada").await?;
    let header = Frame::binary([]).header(length);
    let what = format!("the header of a frame of {length} bytes, and nothing else");
    ada.send_bytes(&header, &what).await;
    let codes: &[u16] = if length > u64::from(u32::MAX) { &[1009, 1002] } else { &[1009] };
    ada.expect_close(codes).await
}

async fn long_fragments_are_refused(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let part = "x".repeat(LIMIT / 2 + 1);
    ada.send(&Frame::text(part.clone()).unfinished()).await;
    ada.send(&Frame::new(CONTINUATION, part)).await;
    ada.expect_close(&[1009]).await
}

async fn bad_text_is_refused(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let bytes = Frame::new(crate::raw::TEXT, *b"caf\xe9").encode();
    ada.send_bytes(&bytes, "a text frame with the bytes 63 61 66 e9, which are not UTF-8").await;
    ada.expect_close(&[1007]).await
}

async fn refused(scene: &mut Scene, frame: Frame, flaw: &str) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send_bytes(&frame.encode(), &format!("{}, {flaw}", frame.describe())).await;
    ada.expect_close(&[1002]).await
}
