//! What one says, and who hears it.

use serde_json::Value;

use crate::client::Client;
use crate::echo::LIMIT;
use crate::event::{json_of, text, with};
use crate::raw::Frame;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

/// The longest message, in characters.
const MAX_TEXT: usize = 2000;

/// How far the server's clock may be from ours, in milliseconds.
const CLOCKS: u128 = 10 * 60 * 1000;

const WORDS: Scenario = Scenario::of(2, "implementation/step2-fan-out.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "everyone_hears_what_one_says",
        sentence: "Everyone hears what one says, the sender included",
        expected: "the same `message` for all three, with `from` and the same `id` and `at`",
        hint: "Go through all the clients in the map, the sender among them, and send each the same event.",
        run: |scene| Box::pin(everyone_hears(scene)),
        ..WORDS
    },
    Scenario {
        name: "who_said_it_and_when_is_for_the_server_to_say",
        sentence: "Who said it, and when, is for the server to say",
        expected: "`from`, `id` and `at` from the server, whatever the client wrote there",
        hint: "Build the event that you send from what the server knows. Don't pass the client's JSON on.",
        run: |scene| Box::pin(fields_of_the_server(scene)),
        ..WORDS
    },
    Scenario {
        name: "everyone_hears_the_same_order",
        sentence: "Everyone hears the same order, whoever speaks at the same time",
        expected: "300 messages of three senders, in the same order for all three",
        hint: "One place must decide the order: a lock that is held for the whole broadcast, or one task.",
        run: |scene| Box::pin(same_order(scene)),
        ..WORDS
    },
    Scenario {
        name: "text_is_passed_on_letter_by_letter",
        sentence: "Text is passed on letter by letter",
        expected: "quotes, line breaks, HTML and emoji as they were sent",
        hint: "Let `serde_json` write the JSON. Don't escape for HTML on the server: the page does that with `textContent`.",
        run: |scene| Box::pin(letter_by_letter(scene)),
        ..WORDS
    },
    Scenario {
        name: "white_space_around_a_text_is_trimmed",
        sentence: "White space around a text is trimmed",
        expected: "a `message` with the text `hi there`, without the spaces and line breaks around it",
        hint: "`text.trim()` once, before you count and before you send.",
        run: |scene| Box::pin(trimmed(scene)),
        ..WORDS
    },
    Scenario {
        name: "an_empty_text_is_refused",
        sentence: "An empty text is refused, and one of white space too",
        expected: "`error` with code `empty_text`, and an open connection",
        hint: "Trim first, then look whether anything is left.",
        run: |scene| Box::pin(empty(scene)),
        ..WORDS
    },
    Scenario {
        name: "a_text_may_have_2000_characters_and_not_2001",
        sentence: "A text may have 2,000 characters, and not 2,001",
        expected: "a `message` with 2,000 characters, `error` with code `text_too_long` for 2,001",
        hint: "Count with `text.chars().count()`: `len()` counts bytes.",
        run: |scene| Box::pin(longest(scene)),
        ..WORDS
    },
    Scenario {
        name: "an_event_may_have_64_kib",
        sentence: "An event may have 64 KiB, and unknown fields",
        expected: "the `message`, although the event has a field that nobody knows and exactly 65,536 bytes",
        hint: "serde ignores unknown fields unless you tell it otherwise, and 65,536 bytes are within the limit.",
        run: |scene| Box::pin(longest_event(scene)),
        ..WORDS
    },
];

async fn everyone_hears(scene: &mut Scene) -> Check {
    let mut all =
        [scene.enter("ada").await?, scene.enter("grace").await?, scene.enter("alan").await?];
    let [ada, ..] = &mut all;
    ada.say("good morning").await;
    let from = ada.name.clone();
    let mut first: Option<Value> = None;
    for client in &mut all {
        let message = client.expect_field("message", "text", "good morning").await?;
        let same = first.get_or_insert_with(|| message.clone());
        if *same != message || text(&message, "from") != from {
            return Err(client.mismatch(&json_of(&message)));
        }
    }
    Ok(())
}

async fn fields_of_the_server(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let forged = with(with(ada.message("hi"), "from", "mallory"), "at", 1);
    ada.send(with(forged, "id", "mine")).await;
    let message = ada.expect_field("message", "text", "hi").await?;
    let is_uuid = uuid::Uuid::try_parse(text(&message, "id")).is_ok();
    let at = message.get("at").and_then(Value::as_u64).unwrap_or_default();
    let is_now = u128::from(at).abs_diff(now()) < CLOCKS;
    if is_uuid && is_now && text(&message, "from") == ada.name {
        return Ok(());
    }
    Err(ada.mismatch(&json_of(&message)))
}

/// The time in milliseconds since 1970.
fn now() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

async fn same_order(scene: &mut Scene) -> Check {
    const EACH: usize = 100;
    let mut all =
        [scene.enter("ada").await?, scene.enter("grace").await?, scene.enter("alan").await?];
    scene.journal.note(&format!("each of the three sent {EACH} messages at once"));
    let [ada, grace, alan] = &mut all;
    tokio::join!(say_many(ada, EACH), say_many(grace, EACH), say_many(alan, EACH));
    let mut first: Vec<String> = Vec::new();
    for client in &mut all {
        let mut heard = Vec::new();
        for _ in 0..3 * EACH {
            let message = client.expect("message").await?;
            heard.push(format!("{}: {}", text(&message, "from"), text(&message, "text")));
        }
        if first.is_empty() {
            first.clone_from(&heard);
        }
        if let Some((one, other)) = first.iter().zip(&heard).find(|(one, other)| one != other) {
            let got =
                format!("two orders: \"{one}\" for one, \"{other}\" for another at the same place");
            return Err(client.mismatch(&got));
        }
    }
    Ok(())
}

async fn say_many(client: &mut Client, count: usize) {
    let message = |number| client.message(&format!("number {number}"));
    let frames: Vec<u8> =
        (0..count).flat_map(|number| Frame::text(json_of(&message(number))).encode()).collect();
    client.send_quietly(&frames).await;
}

async fn letter_by_letter(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let text = "\"quotes\", \\, two\nlines, <b>HTML</b> & 🦀, żółw, \u{0}";
    ada.say(text).await;
    ada.expect_field("message", "text", text).await.map(drop)
}

async fn trimmed(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.say(" \n\t hi there \u{a0}\r\n").await;
    ada.expect_field("message", "text", "hi there").await.map(drop)
}

async fn empty(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for nothing in ["", " \n\t "] {
        ada.say(nothing).await;
        ada.expect_error("empty_text").await?;
    }
    super::still_talks(&mut ada).await
}

async fn longest(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    // Four bytes each in UTF-8, and two units each in JavaScript's strings.
    let longest = "🦀".repeat(MAX_TEXT);
    ada.say(&format!("  {longest}  ")).await;
    ada.expect_field("message", "text", &longest).await?;
    ada.say(&format!("{longest}x")).await;
    ada.expect_error("text_too_long").await?;
    super::still_talks(&mut ada).await
}

async fn longest_event(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let event = with(ada.message("hi"), "padding", "");
    let missing = LIMIT.saturating_sub(json_of(&event).len());
    ada.send(with(event, "padding", "x".repeat(missing))).await;
    ada.expect_field("message", "text", "hi").await.map(drop)
}
