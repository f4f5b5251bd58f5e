//! Who one is: `hello`, `welcome`, and the rules for names.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::event::{is, json_of, text};
use crate::rules::still_talks;
use crate::scenario::{Check, SLOW, Scenario};
use crate::scene::Scene;

/// The longest name, in characters.
const MAX_NAME: usize = 32;

/// When `hello` is due, with some room on both sides.
const EARLIEST: Duration = Duration::from_secs(8);
const LATEST: Duration = Duration::from_secs(14);

/// How often to ask whether a name is free again, and how many times.
const AGAIN: Duration = Duration::from_millis(20);
const TRIES: usize = 200;

const NAMES: Scenario = Scenario::of(2, "implementation/step2-state.html");

const BAD_NAME: &str =
    "`error` with code `bad_name`, and an open connection that may say hello again";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hello_is_answered_with_welcome",
        sentence: "Hello is answered with welcome",
        expected: "a `welcome` with the name and an id that is a UUID",
        hint: "Answer a good `hello` with `{\"type\":\"welcome\",\"id\":…,\"name\":…}`; the `uuid` crate makes the id.",
        run: |scene| Box::pin(welcome(scene)),
        ..NAMES
    },
    Scenario {
        name: "whoever_speaks_before_hello_is_told_to_say_hello_first",
        sentence: "Whoever speaks before hello is told to say hello first",
        expected: "`error` with code `hello_first`, and an open connection that may say hello then",
        hint: "Keep the name in an `Option`, and answer everything but `hello` with `hello_first` while it is `None`.",
        run: |scene| Box::pin(hello_first(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_second_hello_is_forbidden",
        sentence: "A second hello is forbidden",
        expected: "`error` with code `forbidden`; the first name stays",
        hint: "After `welcome`, `hello` is one more event that is answered with an error.",
        run: |scene| Box::pin(second_hello(scene)),
        ..NAMES
    },
    Scenario {
        name: "whoever_never_says_hello_has_to_go",
        sentence: "Whoever never says hello has to go after ten seconds",
        expected: "after 10 seconds `error` with code `hello_first`, then a close frame with code 1008",
        hint: "Put `timeout(Duration::from_secs(10), …)` around waiting for the name.",
        limit: SLOW,
        run: |scene| Box::pin(hello_is_overdue(scene)),
        section: "implementation/step2-endings.html",
        ..NAMES
    },
    Scenario {
        name: "a_name_can_be_had_once",
        sentence: "A name can be had once",
        expected: "`error` with code `name_taken` for the second, who may try another name",
        hint: "Look the name up and put it in under one lock; between two locks somebody else may take it.",
        run: |scene| Box::pin(name_taken(scene, str::to_owned)),
        ..NAMES
    },
    Scenario {
        name: "names_that_differ_only_in_case_are_the_same",
        sentence: "Names that differ only in case are the same name",
        expected: "`error` with code `name_taken`",
        hint: "Use `name.to_lowercase()` as the key, and keep the name as it was typed for showing.",
        run: |scene| Box::pin(name_taken(scene, str::to_uppercase)),
        ..NAMES
    },
    Scenario {
        name: "two_ways_to_write_the_same_letters_are_the_same_name",
        sentence: "Two ways to write the same letters are the same name",
        expected: "`welcome` with the name in the usual letters (NFKC), and `name_taken` for the usual letters then",
        hint: "Normalize the name with `nfkc()` of the crate `unicode-normalization` before you check it.",
        run: |scene| Box::pin(nfkc(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_may_have_letters_of_any_script",
        sentence: "A name may have letters of any script",
        expected: "`welcome` for Ядвига, 小林 and سارة",
        hint: "`char::is_alphanumeric` knows every script; `is_ascii_alphanumeric` knows one.",
        run: |scene| Box::pin(any_script(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_may_have_32_characters_and_not_33",
        sentence: "A name may have 32 characters, and not 33",
        expected: "`welcome` for 32 characters, `error` with code `bad_name` for 33",
        hint: "Count with `name.chars().count()`: `len()` counts bytes, and a letter may have several.",
        run: |scene| Box::pin(longest_name(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_has_no_spaces_signs_or_emoji",
        sentence: "A name has no spaces, signs or emoji, and is not empty",
        expected: BAD_NAME,
        hint: "Allow letters, digits, `_` and `-`; a list of what is forbidden is never complete.",
        run: |scene| Box::pin(bad_names(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_is_free_again_after_its_owner_has_left",
        sentence: "A name is free again after its owner has left",
        expected: "`welcome` for the next one who wants the name",
        hint: "Take the name out of the map at the end of the connection's task, however it ended.",
        run: |scene| Box::pin(free_again(scene, false)),
        ..NAMES
    },
    Scenario {
        name: "a_name_is_free_again_after_a_broken_connection",
        sentence: "A name is free again after a broken connection",
        expected: "`welcome` for the next one who wants the name",
        hint: "A connection that breaks ends with an error, not with a close frame: clean up after the loop, not only when a close frame comes.",
        run: |scene| Box::pin(free_again(scene, true)),
        ..NAMES
    },
];

async fn welcome(scene: &mut Scene) -> Check {
    let mut ada = scene.connect("ada").await?;
    let welcome = ada.hello().await?;
    let is_uuid = uuid::Uuid::try_parse(text(&welcome, "id")).is_ok();
    if is_uuid && text(&welcome, "name") == ada.name {
        return Ok(());
    }
    Err(ada.mismatch(&json_of(&welcome)))
}

async fn hello_first(scene: &mut Scene) -> Check {
    let mut ada = scene.connect("ada").await?;
    ada.say("hi").await;
    ada.expect_error("hello_first").await?;
    ada.hello().await.map(drop)
}

async fn second_hello(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    ada.send(json!({"type": "hello", "name": scene.name("eve")})).await;
    ada.expect_error("forbidden").await?;
    ada.say("hi").await;
    let name = ada.name.clone();
    ada.expect_field("message", "from", &name).await.map(drop)
}

async fn hello_is_overdue(scene: &mut Scene) -> Check {
    let mut wire = scene.wire("ada").await?;
    let since = Instant::now();
    let error = wire.next_within(LATEST, "`error` with code `hello_first`").await?;
    let error: Value = serde_json::from_slice(&error.payload).unwrap_or_default();
    if !is(&error, "error") || text(&error, "code") != "hello_first" {
        return Err(scene.mismatch(&error.to_string()));
    }
    if since.elapsed() < EARLIEST {
        return Err(scene.mismatch(&format!("the error after {:?} already", since.elapsed())));
    }
    wire.expect_close(&[1008]).await
}

async fn name_taken(scene: &mut Scene, spelled: fn(&str) -> String) -> Check {
    let ada = scene.greet("ada").await?;
    let mut other = scene.connect("other").await?;
    other.send(json!({"type": "hello", "name": spelled(&ada.name)})).await;
    other.expect_error("name_taken").await?;
    other.hello().await.map(drop)
}

async fn nfkc(scene: &mut Scene) -> Check {
    let mut ada = scene.connect("ada").await?;
    ada.send(json!({"type": "hello", "name": scene.name("ａｄａ")})).await;
    let usual = scene.name("ada");
    ada.expect_field("welcome", "name", &usual).await?;
    let mut other = scene.connect("other").await?;
    other.send(json!({"type": "hello", "name": usual})).await;
    other.expect_error("name_taken").await?;
    // An e and an accent of its own make one letter.
    other.send(json!({"type": "hello", "name": scene.name("rene\u{301}")})).await;
    other.expect_field("welcome", "name", &scene.name("ren\u{e9}")).await.map(drop)
}

async fn any_script(scene: &mut Scene) -> Check {
    for name in ["Ядвига", "小林", "سارة"] {
        scene.greet(name).await?;
    }
    Ok(())
}

async fn longest_name(scene: &mut Scene) -> Check {
    let mut ada = scene.connect("ada").await?;
    let start = "ж".repeat(MAX_NAME - scene.name("").chars().count());
    ada.send(json!({"type": "hello", "name": scene.name(&format!("{start}ж"))})).await;
    ada.expect_error("bad_name").await?;
    let longest = scene.name(&start);
    ada.send(json!({"type": "hello", "name": longest})).await;
    ada.expect_field("welcome", "name", &longest).await.map(drop)
}

async fn bad_names(scene: &mut Scene) -> Check {
    let mut ada = scene.connect("ada").await?;
    let bad =
        ["", " ", "ada lovelace", "ada!", "<b>", "a:b", "a.b", "🦀", "a\u{200b}b", "a\u{202e}b"];
    for name in bad {
        ada.send(json!({"type": "hello", "name": name})).await;
        ada.expect_error("bad_name").await?;
    }
    ada.hello().await.map(drop)
}

async fn free_again(scene: &mut Scene, broken: bool) -> Check {
    let mut first = scene.enter("ada").await?;
    still_talks(&mut first).await?;
    if broken {
        first.vanish();
    } else {
        first.leave().await?;
    }
    let mut second = scene.connect("ada").await?;
    hello_when_free(&mut second).await
}

/// Says hello until the server has noticed that the name is free.
pub(crate) async fn hello_when_free(client: &mut Client) -> Check {
    if client.welcome.is_some() {
        return Ok(());
    }
    let hello = json!({"type": "hello", "name": client.name});
    for _ in 0..TRIES {
        client.send(hello.clone()).await;
        let answer = client.next("a `welcome`").await?;
        if is(&answer, "welcome") {
            return Ok(());
        }
        if text(&answer, "code") != "name_taken" {
            return Err(client.mismatch(&json_of(&answer)));
        }
        sleep(AGAIN).await;
    }
    Err(client.mismatch("`name_taken`, again and again"))
}
