//! The promises of milestone 2, where everyone hears everyone.

use crate::client::Client;
use crate::event::{is, json_of, list, text};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;
use crate::{frames, process, rules};

const PRESENCE: Scenario = Scenario::of(2, "implementation/step2-state.html");

const PRESENCES: &[Scenario] = &[
    Scenario {
        name: "welcome_lists_everyone_who_is_here",
        sentence: "Welcome lists everyone who is here, in alphabetical order",
        expected: "`users` with everybody's names, sorted, one's own among them",
        hint: "Insert the newcomer first, then collect the names and sort them.",
        run: |scene| Box::pin(users(scene)),
        ..PRESENCE
    },
    Scenario {
        name: "the_others_hear_that_somebody_came",
        sentence: "The others hear that somebody came; the newcomer does not",
        expected: "`user_joined` for the others, and nothing of the kind for the newcomer",
        hint: "Broadcast `user_joined` before you insert the newcomer, under the same lock.",
        run: |scene| Box::pin(joined(scene)),
        ..PRESENCE
    },
    Scenario {
        name: "the_others_hear_that_somebody_left",
        sentence: "The others hear that somebody left",
        expected: "`user_left` with the name",
        hint: "Remove the user at the end of the connection's task and broadcast `user_left`.",
        run: |scene| Box::pin(left(scene, false)),
        ..PRESENCE
    },
    Scenario {
        name: "the_others_hear_that_a_connection_broke",
        sentence: "The others hear that somebody's connection broke",
        expected: "`user_left` with the name",
        hint: "A connection that breaks ends with an error, not with a close frame: clean up after the loop, whatever ended it.",
        run: |scene| Box::pin(left(scene, true)),
        ..PRESENCE
    },
    Scenario {
        name: "nobody_hears_of_one_who_never_said_hello",
        sentence: "Nobody hears of one who never said hello",
        expected: "no `user_left` for somebody who never joined",
        hint: "Only who has a name has joined, and only who has joined can leave.",
        run: |scene| Box::pin(nameless(scene)),
        ..PRESENCE
    },
];

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let shared =
        [frames::SCENARIOS, process::SCENARIOS, &[process::BAD_ORIGIN]].concat().into_iter();
    let shared = shared.map(|scenario| scenario.again(2)).collect();
    [rules::scenarios(), PRESENCES.to_vec(), shared].concat()
}

async fn users(scene: &mut Scene) -> Check {
    let _zoe = scene.greet("zoe").await?;
    let _ada = scene.greet("ada").await?;
    let mut grace = scene.connect("grace").await?;
    let welcome = grace.hello().await?;
    let all = list(&welcome, "users");
    let ours: Vec<&str> = all.into_iter().filter(|name| name.contains(&scene.tag)).collect();
    let wanted = ["ada", "grace", "zoe"].map(|base| scene.name(base));
    if ours == wanted {
        return Ok(());
    }
    Err(grace.mismatch(&json_of(&welcome)))
}

async fn joined(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let event = ada.next("a `user_joined`").await?;
    if !is(&event, "user_joined") || text(&event, "name") != grace.name {
        return Err(ada.mismatch(&json_of(&event)));
    }
    comes_next(&mut grace, "what grace says, and nothing about herself before").await
}

async fn left(scene: &mut Scene, broken: bool) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let name = grace.name.clone();
    if broken {
        grace.vanish();
    } else {
        grace.leave().await?;
    }
    ada.expect_field("user_joined", "name", &name).await?;
    ada.expect_field("user_left", "name", &name).await.map(drop)
}

async fn nameless(scene: &mut Scene) -> Check {
    let mut ada = scene.greet("ada").await?;
    let mut nobody = scene.connect("nobody").await?;
    nobody.leave().await?;
    comes_next(&mut ada, "what ada says, and nothing about somebody without a name before").await
}

/// What a client says must be the next thing it hears.
async fn comes_next(client: &mut Client, what: &str) -> Check {
    client.say("hi").await;
    let event = client.next(what).await?;
    if is(&event, "message") { Ok(()) } else { Err(client.mismatch(&json_of(&event))) }
}
