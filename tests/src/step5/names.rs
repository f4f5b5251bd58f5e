//! Names: whose they are, and which nobody can have.

use serde_json::json;

use crate::event::text;
use crate::scenario::{Check, Scenario};
use crate::scene::{Scene, status};

/// The longest name, in characters.
const MAX_NAME: usize = 32;

const NAMES: Scenario = Scenario::of(5, "production/authentication.html");

const KEY_HINT: &str = "A UNIQUE index over the skeleton of the name's key (`unicode_security::skeleton`): two names that look alike have the same.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "an_account_s_name_can_be_had_once",
        sentence: "An account's name can be had once, in any case and way to write it",
        expected: "status 409 with `name_taken`, and the first one's password still good",
        hint: "A UNIQUE index over the name's key: normalized (NFKC) and in lower case. Two requests at once must not both find it free.",
        run: |scene| Box::pin(once(scene)),
        ..NAMES
    },
    Scenario {
        name: "of_many_who_want_a_name_one_gets_it",
        sentence: "Of many who want a name at the same time, one gets it",
        expected: "status 201 for one of eight requests, 409 for the others",
        hint: "Insert and see whether it worked; who looks first and inserts then has a gap between the two.",
        run: |scene| Box::pin(race(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_that_looks_like_another_is_taken",
        sentence: "A name that looks like another is taken",
        expected: "status 409 with `name_taken` for Cyrillic а for a, 1 for l, and rn for m",
        hint: KEY_HINT,
        run: |scene| Box::pin(look_alikes(scene)),
        ..NAMES
    },
    Scenario {
        name: "names_of_the_house_are_reserved",
        sentence: "Names that sound like the house's own are reserved, and so are their look-alikes",
        expected: "status 409 with `name_taken` for admin, root, system, server, moderator, in any case, width or script",
        hint: "A list of reserved skeletons, looked up like names that are taken.",
        run: |scene| Box::pin(reserved(scene)),
        ..NAMES
    },
    Scenario {
        name: "a_name_has_nothing_invisible_in_it",
        sentence: "A name has no spaces, signs, emoji or invisible characters in it",
        expected: "status 400 with `bad_name` for zero-width and right-to-left characters, and for 33 characters; 201 for 32",
        hint: "Allow letters, digits, `_` and `-` after normalizing; a list of what is forbidden is never complete.",
        run: |scene| Box::pin(bad(scene)),
        ..NAMES
    },
    Scenario {
        name: "everyone_sees_a_name_as_it_was_registered",
        sentence: "Everyone sees a name as it was registered, however its owner signs in",
        expected: "the registered spelling, in the usual letters (NFKC), in the answers, in `welcome` and in messages",
        hint: "Keep the name as it is shown beside its key; the request's spelling is for looking it up.",
        run: |scene| Box::pin(shown(scene)),
        ..NAMES
    },
];

/// A try to register, and its status.
async fn registers_as(scene: &Scene, name: &str) -> Check<u16> {
    let body = json!({"name": name, "password": "whoever I may be"});
    Ok(scene.post("/api/register", &[], &body).await?.status)
}

/// Nobody may register under this name.
async fn is_taken(scene: &Scene, name: &str) -> Check {
    let body = json!({"name": name, "password": "whoever I may be"});
    let answer = scene.post("/api/register", &[], &body).await?;
    scene.is_error(&answer, 409, "name_taken").map(drop)
}

async fn once(scene: &mut Scene) -> Check {
    scene.register("René").await?;
    let spelled = ["René", "RENÉ", "rene\u{301}", "ｒｅｎé"];
    for name in spelled {
        is_taken(scene, &scene.name(name)).await?;
    }
    for name in spelled {
        let body = json!({"name": scene.name(name), "password": scene.password("René")});
        let answer = scene.post("/api/token", &[], &body).await?;
        scene.has_status(&answer, 200)?;
    }
    Ok(())
}

async fn race(scene: &mut Scene) -> Check {
    let name = scene.name("ada");
    let all = (0..8).map(|_| registers_as(scene, &name));
    let statuses = futures_util::future::join_all(all).await;
    let statuses: Vec<u16> = statuses.into_iter().collect::<Check<_>>()?;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    scene.journal.wait_for("201 once and 409 seven times");
    if count(201) == 1 && count(409) == 7 {
        return Ok(());
    }
    Err(scene.mismatch(&format!("{statuses:?}")))
}

async fn look_alikes(scene: &mut Scene) -> Check {
    for (base, look_alikes) in [
        ("paypal", ["p\u{430}ypal", "P\u{430}yp\u{430}l", "paypa1"]),
        ("modern", ["rnodern", "m\u{43e}dern", "mod\u{435}rn"]),
    ] {
        scene.register(base).await?;
        for name in look_alikes {
            is_taken(scene, &scene.name(name)).await?;
        }
    }
    // What looks like nobody is free.
    scene.register("ада").await
}

async fn reserved(scene: &mut Scene) -> Check {
    let names = [
        "admin",
        "ADMIN",
        "Admin",
        "root",
        "system",
        "server",
        "moderator",
        // In full width, and with a Cyrillic а.
        "ａｄｍｉｎ",
        "\u{430}dmin",
    ];
    for name in names {
        is_taken(scene, name).await?;
    }
    Ok(())
}

async fn bad(scene: &mut Scene) -> Check {
    let bad = [
        "ad\u{200b}a",
        "ad\u{200d}a",
        "ad\u{ad}a",
        "\u{202e}ada",
        "ada\u{2066}",
        "ad a",
        "ad\ta",
        "a.da",
        "a:da",
        "ada\u{0}",
        "a\nda",
        "<b>",
        "🦀",
        "\u{1b}[31mada",
    ];
    let spelled = bad.iter().map(|name| scene.name(name));
    let start = "ж".repeat(MAX_NAME - scene.name("").chars().count());
    let too_long = scene.name(&format!("{start}ж"));
    for name in spelled.chain([String::new(), too_long]) {
        let body = json!({"name": name, "password": "whoever I may be"});
        let answer = scene.post("/api/register", &[], &body).await?;
        scene.is_error(&answer, 400, "bad_name")?;
    }
    scene.journal.wait_for("status 201 for 32 characters");
    match registers_as(scene, &scene.name(&start)).await? {
        201 => Ok(()),
        other => Err(scene.mismatch(&format!("status {other}"))),
    }
}

async fn shown(scene: &mut Scene) -> Check {
    let usual = scene.name("Ada");
    let body = json!({"name": scene.name("Ａda"), "password": scene.password("Ada")});
    let answer = scene.post("/api/register", &[], &body).await?;
    is_shown(scene, &answer, 201, &usual)?;
    let body = json!({"name": scene.name("ADA"), "password": scene.password("Ada")});
    let answer = scene.post("/api/login", &[], &body).await?;
    is_shown(scene, &answer, 200, &usual)?;
    let mut ada = scene.enter("Ada").await?;
    let name = ada.welcome.as_ref().map(|welcome| text(welcome, "name").to_owned());
    if name.as_ref() != Some(&usual) {
        return Err(scene.mismatch(&format!("{name:?}")));
    }
    ada.say("hi").await;
    ada.expect_field("message", "from", &usual).await.map(drop)
}

fn is_shown(scene: &Scene, answer: &crate::raw::Answer, wanted: u16, name: &str) -> Check {
    let body = scene.json(answer, wanted)?;
    if body == json!({"name": name}) { Ok(()) } else { Err(scene.mismatch(&status(answer))) }
}
