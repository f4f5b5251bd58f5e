//! What comes back from an echo server.

use crate::raw::{BINARY, CONTINUATION, Frame, TEXT};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

/// The longest message a server accepts, in bytes.
pub const LIMIT: usize = 64 * 1024;

const ECHO: Scenario = Scenario::of(1, "implementation/step1.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_text_message_comes_back_as_it_was",
        sentence: "A text message comes back as it was",
        expected: "the same text, as a text message",
        hint: "Match on `Message::Text` and send the message you got back through the same socket.",
        run: |scene| Box::pin(text_comes_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "a_binary_message_comes_back_as_it_was",
        sentence: "A binary message comes back as it was",
        expected: "the same bytes, as a binary message",
        hint: "`Message::Binary` is a variant of its own: the `match` needs it beside `Message::Text`.",
        run: |scene| Box::pin(binary_comes_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "an_empty_message_comes_back_empty",
        sentence: "An empty message comes back empty",
        expected: "an empty text message, then an empty binary message",
        hint: "An empty message is a message: don't skip it.",
        run: |scene| Box::pin(empty_comes_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "text_in_any_script_comes_back_unharmed",
        sentence: "Text in any script comes back unharmed",
        expected: "the same text, letter by letter",
        hint: "Send the message itself back, not a copy made of some of its bytes or characters.",
        run: |scene| Box::pin(any_script_comes_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "many_messages_come_back_in_their_order",
        sentence: "Many messages come back in their order",
        expected: "all 500 messages, in the order in which they were sent",
        hint: "One loop that awaits each `send` keeps the order. A task for each message does not.",
        run: |scene| Box::pin(order_is_kept(scene)),
        ..ECHO
    },
    Scenario {
        name: "a_message_in_fragments_comes_back_whole",
        sentence: "A message in fragments comes back whole",
        expected: "the whole text",
        hint: "The library puts fragments together by itself: read messages, not frames.",
        run: |scene| Box::pin(fragments_come_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "a_message_of_64_kib_comes_back",
        sentence: "A message of exactly 64 KiB comes back",
        expected: "the same 65,536 bytes",
        hint: "The limit is the last length that is accepted, for the message and for each frame.",
        run: |scene| Box::pin(longest_comes_back(scene)),
        ..ECHO
    },
    Scenario {
        name: "two_clients_do_not_wait_for_each_other",
        sentence: "Two clients don't wait for each other",
        expected: "an answer for the second client while the first one is silent",
        hint: "Does `accept` run again before the first client is done? Each connection needs a task: `tokio::spawn`.",
        run: |scene| Box::pin(two_at_once(scene)),
        ..ECHO
    },
];

async fn text_comes_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("hello")).await;
    ada.expect(TEXT, b"hello").await
}

async fn binary_comes_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let bytes: Vec<u8> = (0..=255).collect();
    ada.send(&Frame::binary(bytes.clone())).await;
    ada.expect(BINARY, &bytes).await
}

async fn empty_comes_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("")).await;
    ada.expect(TEXT, b"").await?;
    ada.send(&Frame::binary([])).await;
    ada.expect(BINARY, b"").await
}

async fn any_script_comes_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let text = "żółw, Жук, 小林, مرحبا, 🦀👩‍🚀, and \u{0}";
    ada.send(&Frame::text(text)).await;
    ada.expect(TEXT, text.as_bytes()).await
}

async fn order_is_kept(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    for number in 0..500 {
        ada.send(&Frame::text(format!("message {number}"))).await;
    }
    for number in 0..500 {
        ada.expect(TEXT, format!("message {number}").as_bytes()).await?;
    }
    Ok(())
}

async fn fragments_come_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("one, ").unfinished()).await;
    ada.send(&Frame::new(CONTINUATION, "two, ").unfinished()).await;
    // A ping may come between two fragments of a message.
    ada.send(&Frame::ping("between")).await;
    ada.send(&Frame::new(CONTINUATION, "three")).await;
    ada.expect(crate::raw::PONG, b"between").await?;
    ada.expect(TEXT, b"one, two, three").await
}

async fn longest_comes_back(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let longest = "x".repeat(LIMIT);
    ada.send(&Frame::text(longest.clone())).await;
    ada.expect(TEXT, longest.as_bytes()).await
}

async fn two_at_once(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let mut grace = scene.wire("grace").await?;
    grace.send(&Frame::text("from grace")).await;
    grace.expect(TEXT, b"from grace").await?;
    ada.send(&Frame::text("from ada")).await;
    ada.expect(TEXT, b"from ada").await
}
