//! Messages for one other person.

use serde_json::{Value, json};

use crate::client::Client;
use crate::event::{json_of, text};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const DIRECT: Scenario = Scenario::of(3, "implementation/step3-direct.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_direct_message_reaches_both",
        sentence: "A direct message reaches both, and the same",
        expected: "the same `direct` for the sender and the addressee, with `id`, `from`, `to`, `text` and `at`",
        hint: "Look the addressee up in the hub, and push the event into both outboxes.",
        run: |scene| Box::pin(reaches_both(scene)),
        ..DIRECT
    },
    Scenario {
        name: "a_direct_message_reaches_nobody_else",
        sentence: "A direct message reaches nobody else",
        expected: "nothing for a third person, not even in the same room",
        hint: "Send it to the two, not through a room.",
        run: |scene| Box::pin(reaches_nobody_else(scene)),
        ..DIRECT
    },
    Scenario {
        name: "an_addressee_who_is_not_here_is_an_error",
        sentence: "An addressee who is not here is an error",
        expected: "`error` with code `no_such_user`, and an open connection",
        hint: "`HashMap::get` gives an `Option`: its `None` is `no_such_user`.",
        run: |scene| Box::pin(nobody(scene)),
        ..DIRECT
    },
    Scenario {
        name: "an_addressee_is_found_in_any_case",
        sentence: "An addressee is found in any case and way to write it",
        expected: "`direct` for ada, also when it was sent to ADA",
        hint: "Look the addressee up by the same key as names: normalized, and in lower case.",
        run: |scene| Box::pin(any_case(scene)),
        ..DIRECT
    },
    Scenario {
        name: "a_direct_message_to_oneself_comes_once",
        sentence: "A direct message to oneself comes once",
        expected: "one `direct`",
        hint: "Where sender and addressee are the same, one push is enough.",
        run: |scene| Box::pin(to_oneself(scene)),
        ..DIRECT
    },
    Scenario {
        name: "a_direct_message_has_the_rules_of_every_text",
        sentence: "A direct message has the rules of every text",
        expected: "trimmed text; `empty_text` and `text_too_long` where it is empty or too long",
        hint: "Check the text of `direct` with the same function as that of `message`.",
        run: |scene| Box::pin(rules_of_text(scene)),
        ..DIRECT
    },
];

async fn reaches_both(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    send_to(&mut ada, &grace.name, "psst").await;
    let sent = ada.expect_field("direct", "text", "psst").await?;
    let came = grace.expect_field("direct", "text", "psst").await?;
    let is_whole = text(&sent, "from") == ada.name
        && text(&sent, "to") == grace.name
        && uuid::Uuid::try_parse(text(&sent, "id")).is_ok()
        && sent.get("at").is_some_and(Value::is_u64);
    if is_whole && sent == came { Ok(()) } else { Err(grace.mismatch(&json_of(&came))) }
}

async fn reaches_nobody_else(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let mut eve = scene.enter("eve").await?;
    send_to(&mut ada, &grace.name, "psst").await;
    ada.expect("direct").await?;
    grace.expect("direct").await?;
    ada.say("for everyone").await;
    eve.expect_field("message", "text", "for everyone").await.map(drop)
}

async fn nobody(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    for nobody in [scene.name("nobody"), String::new(), "not a name!".to_owned()] {
        send_to(&mut ada, &nobody, "psst").await;
        ada.expect_error("no_such_user").await?;
    }
    crate::rules::still_talks(&mut ada).await
}

async fn any_case(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    for to in [grace.name.to_uppercase(), scene.name("ｇｒａｃｅ")] {
        send_to(&mut ada, &to, "psst").await;
        let came = grace.expect_field("direct", "text", "psst").await?;
        if text(&came, "to") != grace.name {
            return Err(grace.mismatch(&json_of(&came)));
        }
    }
    Ok(())
}

async fn to_oneself(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let name = ada.name.clone();
    send_to(&mut ada, &name, "note to myself").await;
    ada.expect_field("direct", "text", "note to myself").await?;
    ada.send(json!({"type": "rooms"})).await;
    ada.expect("rooms").await.map(drop)
}

async fn rules_of_text(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let name = ada.name.clone();
    send_to(&mut ada, &name, " psst\n").await;
    ada.expect_field("direct", "text", "psst").await?;
    send_to(&mut ada, &name, "  ").await;
    ada.expect_error("empty_text").await?;
    send_to(&mut ada, &name, &"x".repeat(2001)).await;
    ada.expect_error("text_too_long").await.map(drop)
}

async fn send_to(client: &mut Client, to: &str, words: &str) {
    client.send(json!({"type": "direct", "to": to, "text": words})).await;
}
