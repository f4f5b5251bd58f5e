//! Events that a server cannot accept: each gets an error, and the connection stays open.

use serde_json::json;

use crate::event::json_of;
use crate::raw::Frame;
use crate::rules::still_talks;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const EVENTS: Scenario = Scenario::of(2, "implementation/step2-tasks.html");

const BAD_JSON: &str = "`error` with code `bad_json`, and an open connection";
const BAD_JSON_HINT: &str = "`serde_json::from_str` gives an `Err` for all of these: answer it with an error event instead of ending the loop with `?`.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "broken_json_is_answered_with_an_error",
        sentence: "Broken JSON is answered with an error",
        expected: BAD_JSON,
        hint: BAD_JSON_HINT,
        run: |scene| {
            Box::pin(refused(
                scene,
                &["{", "", "hello", "{\"type\":\"message\"", "{'type':'message'}"],
            ))
        },
        ..EVENTS
    },
    Scenario {
        name: "json_that_is_no_object_is_answered_with_an_error",
        sentence: "JSON that is no object is answered with an error",
        expected: BAD_JSON,
        hint: BAD_JSON_HINT,
        run: |scene| {
            Box::pin(refused(
                scene,
                &[
                    "[]",
                    "[{\"type\":\"message\",\"text\":\"hi\"}]",
                    "[\"message\",\"hi\"]",
                    "[\"message\",\"r\",\"hi\"]",
                    "null",
                    "42",
                    "\"hi\"",
                ],
            ))
        },
        ..EVENTS
    },
    Scenario {
        name: "a_missing_field_is_answered_with_an_error",
        sentence: "A missing field is answered with an error",
        expected: BAD_JSON,
        hint: BAD_JSON_HINT,
        run: |scene| {
            Box::pin(refused(scene, &["{}", "{\"type\":\"message\"}", "{\"text\":\"hi\"}"]))
        },
        ..EVENTS
    },
    Scenario {
        name: "a_field_of_the_wrong_kind_is_answered_with_an_error",
        sentence: "A field of the wrong kind is answered with an error",
        expected: BAD_JSON,
        hint: BAD_JSON_HINT,
        run: |scene| {
            Box::pin(refused(
                scene,
                &[
                    "{\"type\":\"message\",\"room\":\"r\",\"text\":42}",
                    "{\"type\":\"message\",\"room\":\"r\",\"text\":null}",
                    "{\"type\":\"message\",\"room\":\"r\",\"text\":[\"hi\"]}",
                    "{\"type\":7}",
                ],
            ))
        },
        ..EVENTS
    },
    Scenario {
        name: "json_nested_without_end_is_answered_with_an_error",
        sentence: "JSON that is nested 60,000 deep is answered with an error",
        expected: BAD_JSON,
        hint: "`serde_json` stops at a depth of 128 by itself. A parser that calls itself without a limit runs out of stack.",
        run: |scene| Box::pin(nested(scene)),
        ..EVENTS
    },
    Scenario {
        name: "a_binary_message_is_answered_with_an_error",
        sentence: "A binary message is answered with an error",
        expected: BAD_JSON,
        hint: "JSON travels in text messages: `Message::Binary` gets the same answer as broken JSON, whatever is in it.",
        run: |scene| Box::pin(binary(scene)),
        ..EVENTS
    },
    Scenario {
        name: "every_event_begins_with_its_type",
        sentence: "Every event begins with its type",
        expected: "`{\"type\":` at the beginning of `welcome` and `error`",
        hint: "`#[serde(tag = \"type\")]` on the enum writes the variant's name first.",
        run: |scene| Box::pin(type_first(scene)),
        ..EVENTS
    },
    Scenario {
        name: "an_unknown_type_is_answered_with_an_error",
        sentence: "An unknown type is answered with an error",
        expected: "`error` with code `unknown_type`, and an open connection",
        hint: "A variant with `#[serde(other)]` takes every type that no other variant names.",
        run: |scene| Box::pin(unknown_type(scene)),
        ..EVENTS
    },
];

async fn refused(scene: &mut Scene, events: &[&str]) -> Check {
    let mut ada = scene.enter("ada").await?;
    for event in events {
        ada.send_text(event).await;
        ada.expect_error("bad_json").await?;
    }
    still_talks(&mut ada).await
}

async fn nested(scene: &mut Scene) -> Check {
    let deep = "[".repeat(60_000);
    let in_a_field = format!("{{\"type\":\"message\",\"extra\":{}", "[".repeat(60_000));
    refused(scene, &[&deep, &in_a_field]).await
}

async fn binary(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let event = json_of(&ada.message("hi"));
    ada.send_frame(&Frame::binary(event)).await;
    ada.expect_error("bad_json").await?;
    still_talks(&mut ada).await
}

async fn unknown_type(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for event in
        ["{\"type\":\"dance\"}", "{\"type\":\"\",\"text\":\"hi\"}", "{\"type\":\"welcome\"}"]
    {
        ada.send_text(event).await;
        ada.expect_error("unknown_type").await?;
    }
    still_talks(&mut ada).await
}

async fn type_first(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let hello = json!({"type": "hello", "name": scene.name("ada")});
    for event in [json_of(&hello), "{".to_owned()] {
        ada.send(&Frame::text(event)).await;
        let frame = ada.next("an event that begins with its type").await?;
        let text = String::from_utf8_lossy(&frame.payload);
        let start: String = text.chars().filter(|char| !char.is_whitespace()).take(8).collect();
        if start != "{\"type\":" {
            return Err(scene.mismatch(&text));
        }
    }
    Ok(())
}
