//! To find what was said.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::text;
use crate::raw::Answer;
use crate::scenario::{Check, Scenario};
use crate::scene::{Scene, status};
use crate::step4::acks::seq;

/// How many messages come at most.
const PAGE: u64 = 50;

const SEARCH: Scenario = Scenario::of(5, "production/authentication.html");

const QUOTE_HINT: &str =
    "FTS5 has a language of its own. Put each word in double quotes, and double the quotes in it.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_search_finds_what_was_said",
        sentence: "A search finds what was said in a room, the newest first",
        expected: "status 200 with the `message` events as they were sent that have all the words, whole, in any case and order",
        hint: "A virtual table with FTS5, filled in the transaction that stores the message; `ORDER BY seq DESC LIMIT 50`.",
        run: |scene| Box::pin(finds(scene)),
        ..SEARCH
    },
    Scenario {
        name: "a_search_goes_on_before_a_number",
        sentence: "A search gives 50 messages at most, and goes on before a number",
        expected: "messages 60 to 11 of 60, and with `before=11` those from 10 to 1",
        hint: "`AND seq < ?` with the number of the last one that was shown.",
        run: |scene| Box::pin(pages(scene)),
        ..SEARCH
    },
    Scenario {
        name: "a_search_stays_in_its_room_and_namespace",
        sentence: "A search stays in its room and its namespace",
        expected: "nothing that was said in another room, in another namespace, or in a conversation of others",
        hint: "`WHERE namespace = ? AND room = ?`, and the same check of permission as for a join.",
        run: |scene| Box::pin(stays(scene)),
        ..SEARCH
    },
    Scenario {
        name: "a_conversation_is_searched_by_its_two",
        sentence: "A conversation is searched by its two, and by nobody else",
        expected: "the message for both, and 403 with `forbidden` for a third",
        hint: "The same check of permission as for a join.",
        run: |scene| Box::pin(conversation(scene)),
        ..SEARCH
    },
    Scenario {
        name: "signs_in_a_search_mean_nothing",
        sentence: "Signs in a search mean nothing but themselves",
        expected: "status 200 for quotes, brackets, stars and the words of FTS5 and SQL, with what has these words, and not with everything",
        hint: QUOTE_HINT,
        run: |scene| Box::pin(signs(scene)),
        ..SEARCH
    },
    Scenario {
        name: "a_search_for_nothing_is_refused",
        sentence: "A search for nothing, or nowhere, is refused",
        expected: "status 400 with `empty_text` or `bad_room`",
        hint: "Check the room and the words before you ask the log.",
        run: |scene| Box::pin(refused(scene)),
        ..SEARCH
    },
];

/// Percent-encodes all but letters and digits.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Asks, as somebody, for words in a room.
async fn ask(scene: &Scene, base: &str, room: &str, words: &str, more: &str) -> Check<Answer> {
    let bearer = scene.bearer(base).await?;
    let path = format!("/api/search?room={}&q={}{more}", encoded(room), encoded(words));
    scene.http("GET", &path, &[("Authorization", &bearer)]).await
}

/// What is found.
async fn found(
    scene: &Scene,
    base: &str,
    room: &str,
    words: &str,
    more: &str,
) -> Check<Vec<Value>> {
    let answer = ask(scene, base, room, words, more).await?;
    let body = scene.json(&answer, 200)?;
    scene.journal.wait_for("a list of `messages`");
    let messages = body.get("messages").and_then(Value::as_array).cloned();
    messages.ok_or_else(|| scene.mismatch(&status(&answer)))
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| text(message, "text")).collect()
}

/// What is found must be exactly this.
async fn finds_only(scene: &Scene, room: &str, words: &str, wanted: &[&str]) -> Check {
    let found = found(scene, "ada", room, words, "").await?;
    scene.journal.wait_for(&format!("{wanted:?} for \"{words}\""));
    if texts(&found) == wanted {
        Ok(())
    } else {
        Err(scene.mismatch(&format!("{:?}", texts(&found))))
    }
}

async fn finds(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let said = ["The crab said hello", "nobody answered", "say HELLO to the crab", "żółw i Żuk"];
    let mut events = Vec::new();
    for words in said {
        ada.store(words).await?;
        events.push(ada.expect("message").await?);
    }
    let [first, _, third, _] = said;
    finds_only(scene, &room, "hello", &[third, first]).await?;
    finds_only(scene, &room, "Crab hello", &[third, first]).await?;
    finds_only(scene, &room, "answered crab", &[]).await?;
    finds_only(scene, &room, "żuk", &["żółw i Żuk"]).await?;
    finds_only(scene, &room, "nothing-of-the-kind", &[]).await?;
    // The same events as in the room, not something like them.
    let same = found(scene, "ada", &room, "answered", "").await?;
    scene.journal.wait_for("the `message` as it was in the room");
    if same.first() == events.get(1) { Ok(()) } else { Err(scene.mismatch(&format!("{same:?}"))) }
}

async fn pages(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    for number in 1..=PAGE + 10 {
        ada.store(&format!("needle {number}")).await?;
    }
    let pages =
        [("", (11..=60).rev().collect::<Vec<u64>>()), ("&before=11", (1..=10).rev().collect())];
    for (more, wanted) in pages {
        let found = found(scene, "ada", &room, "needle", more).await?;
        let numbers: Vec<u64> = found.iter().map(seq).collect();
        scene.journal.wait_for(&format!("{wanted:?}"));
        if numbers != wanted {
            return Err(scene.mismatch(&format!("{numbers:?}")));
        }
    }
    let none = found(scene, "ada", &room, "needle", "&before=1").await?;
    if none.is_empty() { Ok(()) } else { Err(scene.mismatch(&format!("{none:?}"))) }
}

async fn stays(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let other = scene.name("other");
    ada.store("needle here").await?;
    ada.expect("message").await?;
    ada.join(&other).await?;
    ada.room.clone_from(&other);
    ada.store("needle in another room").await?;
    let id = Uuid::new_v4().to_string();
    let own = scene.name("ada");
    ada.send(json!({"type": "direct", "id": id, "to": own, "text": "needle for me"})).await;
    ada.ack(&id).await?;
    let mut staff = scene.connect_to("ada", "/ws/staff").await?;
    staff.join(&room).await?;
    staff.store("needle among the staff").await?;
    finds_only(scene, &room, "needle", &["needle here"]).await?;
    let there = found(scene, "ada", &room, "needle", "&ns=staff").await?;
    scene.journal.wait_for("what was said among the staff");
    if texts(&there) == ["needle among the staff"] {
        return Ok(());
    }
    Err(scene.mismatch(&format!("{there:?}")))
}

async fn conversation(scene: &mut Scene) -> Check {
    scene.prepare("grace").await?;
    scene.prepare("eve").await?;
    let mut ada = scene.greet("ada").await?;
    let id = Uuid::new_v4().to_string();
    let to = scene.name("grace");
    ada.send(json!({"type": "direct", "id": id, "to": to, "text": "a needle"})).await;
    let room = text(&ada.ack(&id).await?, "room").to_owned();
    for base in ["ada", "grace"] {
        let found = found(scene, base, &room, "needle", "").await?;
        scene.journal.wait_for("the message for both");
        if texts(&found) != ["a needle"] {
            return Err(scene.mismatch(&format!("{found:?}")));
        }
    }
    let answer = ask(scene, "eve", &room, "needle", "").await?;
    scene.is_error(&answer, 403, "forbidden").map(drop)
}

async fn signs(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let said = "she said \"it's 100% done\" (really) OR not";
    for words in [said, "quite another thing"] {
        ada.store(words).await?;
    }
    let harmless = [
        "\"",
        "'",
        "\"\"",
        "*",
        "(",
        ")",
        "^",
        "-",
        ":",
        "%",
        "_",
        "\\",
        "\u{0}",
        "🦀",
        "OR",
        "NOT",
        "AND",
        "NEAR(a, b)",
        "text:said",
        "room:*",
        "{said}",
        "said*",
        "'; DROP TABLE messages; --",
        "said OR another",
        "said NOT done",
        "\"said\" + \"done\"",
        "said\" OR \"another",
    ];
    for words in harmless {
        let answer = ask(scene, "ada", &room, words, "").await?;
        scene
            .journal
            .wait_for(&format!("status 200 for \"{words}\", or 400 where there is no word in it"));
        let is_right =
            answer.status == 200 || answer.status == 400 && answer.body.contains("empty_text");
        if !is_right {
            return Err(scene.mismatch(&status(&answer)));
        }
        // As a sign with a meaning each of these would find the other message, too.
        if answer.body.contains("quite another thing") {
            return Err(scene.mismatch(&answer.body));
        }
    }
    for words in ["it's", "\"it's", "100%", "(really)", "OR", "done\"", "SAID or"] {
        finds_only(scene, &room, words, &[said]).await?;
    }
    ada.store("still here").await.map(drop)
}

async fn refused(scene: &mut Scene) -> Check {
    let ada = scene.enter("ada").await?;
    for nothing in ["", " ", "\u{a0}\t"] {
        let answer = ask(scene, "ada", &ada.room, nothing, "").await?;
        scene.is_error(&answer, 400, "empty_text")?;
    }
    for room in ["", "Rust", "a b", "dm:", "dm:ada"] {
        let answer = ask(scene, "ada", room, "hi", "").await?;
        scene.is_error(&answer, 400, "bad_room")?;
    }
    // Nobody is in this one, and nothing was said there.
    let found = found(scene, "ada", &scene.name("nowhere"), "hi", "").await?;
    if found.is_empty() { Ok(()) } else { Err(ada.mismatch(&format!("{found:?}"))) }
}
