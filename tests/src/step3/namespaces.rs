//! Namespaces: chats that share a server and nothing else.

use serde_json::{Value, json};

use crate::client::Client;
use crate::event::{json_of, list, text};
use crate::rules::still_talks;
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const APART: Scenario = Scenario::of(3, "implementation/step3-direct.html");

/// The default namespace, and the two with a name.
const PATHS: [&str; 3] = ["/ws", "/ws/general", "/ws/staff"];

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "namespaces_share_no_names",
        sentence: "Namespaces share no names",
        expected: "`welcome` for the same name in each namespace",
        hint: "One hub for each namespace, each with a map of names of its own.",
        run: |scene| Box::pin(no_names(scene)),
        ..APART
    },
    Scenario {
        name: "namespaces_share_no_rooms",
        sentence: "Namespaces share no rooms",
        expected: "two rooms of the same name that know nothing of each other, in `joined`, `message` and `rooms`",
        hint: "One hub for each namespace, each with a map of rooms of its own.",
        run: |scene| Box::pin(no_rooms(scene)),
        ..APART
    },
    Scenario {
        name: "direct_messages_stay_in_their_namespace",
        sentence: "Direct messages stay in their namespace",
        expected: "`error` with code `no_such_user` for somebody in another namespace",
        hint: "Look for the addressee in the connection's own hub.",
        run: |scene| Box::pin(no_direct(scene)),
        ..APART
    },
    Scenario {
        name: "an_unknown_namespace_is_a_404",
        sentence: "An unknown namespace is a 404",
        expected: "status 404 before the upgrade",
        hint: "Look the namespace up in the filter, and reject with `warp::reject::not_found()` before `warp::ws()` has its turn.",
        run: |scene| Box::pin(unknown(scene)),
        ..APART
    },
];

async fn no_names(scene: &mut Scene) -> Check {
    let mut here = Vec::new();
    for path in PATHS {
        let mut ada = scene.connect_to("ada", path).await?;
        ada.hello().await?;
        here.push(ada);
    }
    Ok(())
}

async fn no_rooms(scene: &mut Scene) -> Check {
    let mut all = Vec::new();
    for (base, path) in ["ada", "grace", "alan"].into_iter().zip(PATHS) {
        all.push(member(scene, base, path).await?);
    }
    for client in &mut all {
        still_talks(client).await?;
    }
    // What leaked from one namespace to another would be there before the list.
    for client in &mut all {
        client.send(json!({"type": "rooms"})).await;
        let event = client.expect("rooms").await?;
        let rooms = event.get("rooms").and_then(Value::as_array).cloned().unwrap_or_default();
        let own = rooms.iter().find(|room| text(room, "name") == client.room);
        if own.and_then(|room| room.get("members")) != Some(&json!(1)) {
            return Err(client.mismatch(&json_of(&event)));
        }
    }
    Ok(())
}

/// Somebody who is alone in the scenario's room of a namespace.
async fn member(scene: &Scene, base: &str, path: &str) -> Check<Client> {
    let mut client = scene.connect_to(base, path).await?;
    client.hello().await?;
    let room = client.room.clone();
    let joined = client.join(&room).await?;
    if list(&joined, "members") == [client.name.as_str()] {
        return Ok(client);
    }
    Err(client.mismatch(&json_of(&joined)))
}

async fn no_direct(scene: &mut Scene) -> Check {
    let mut ada = scene.connect_to("ada", "/ws/general").await?;
    ada.hello().await?;
    let mut grace = scene.connect_to("grace", "/ws/staff").await?;
    grace.hello().await?;
    // Milestone 3 ignores the id, later ones need it.
    let id = uuid::Uuid::new_v4();
    ada.send(json!({"type": "direct", "id": id, "to": grace.name, "text": "psst"})).await;
    ada.expect_error("no_such_user").await.map(drop)
}

async fn unknown(scene: &mut Scene) -> Check {
    for path in ["/ws/nowhere", "/ws/General", "/ws/general/more", "/ws/default"] {
        scene.refused(path, &[], 404).await?;
    }
    Ok(())
}
