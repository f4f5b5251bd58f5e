//! Who is in a room, who comes and goes, and who types.

use serde_json::json;

use crate::event::{is, json_of, list, text};
use crate::scenario::{Check, Scenario};
use crate::scene::Scene;

const MEMBERS: Scenario = Scenario::of(3, "implementation/step3-room.html");

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "joined_lists_the_members",
        sentence: "Joined lists the members, in alphabetical order",
        expected: "`members` with everybody's names, sorted, one's own among them",
        hint: "Add the newcomer first, then collect the names and sort them.",
        run: |scene| Box::pin(members(scene)),
        ..MEMBERS
    },
    Scenario {
        name: "the_members_hear_that_somebody_joined",
        sentence: "The members hear that somebody joined; the newcomer does not",
        expected: "`member_joined` with room and name for the others only",
        hint: "Tell the members before you add the newcomer.",
        run: |scene| Box::pin(joined(scene)),
        ..MEMBERS
    },
    Scenario {
        name: "the_members_hear_that_somebody_left",
        sentence: "The members hear that somebody left the room",
        expected: "`member_left` with room and name",
        hint: "Remove the member, then tell those who are still there.",
        run: |scene| Box::pin(left(scene)),
        ..MEMBERS
    },
    Scenario {
        name: "the_members_hear_that_a_connection_ended",
        sentence: "The members hear that somebody's connection ended, in each of its rooms",
        expected: "`member_left` in both rooms, also when the connection breaks without a goodbye",
        hint: "At the end of the connection's task leave every room it is in, whatever ended it.",
        run: |scene| Box::pin(vanished(scene)),
        ..MEMBERS
    },
    Scenario {
        name: "the_others_see_who_is_typing",
        sentence: "The others see who is typing; oneself does not",
        expected: "`typing` with room and name for the others only",
        hint: "Send `typing` to every member but the one it comes from.",
        run: |scene| Box::pin(typing(scene)),
        ..MEMBERS
    },
];

async fn members(scene: &mut Scene) -> Check {
    let _zoe = scene.enter("zoe").await?;
    let _ada = scene.enter("ada").await?;
    let mut grace = scene.greet("grace").await?;
    let room = grace.room.clone();
    let joined = grace.join(&room).await?;
    let wanted = ["ada", "grace", "zoe"].map(|base| scene.name(base));
    if list(&joined, "members") == wanted { Ok(()) } else { Err(grace.mismatch(&json_of(&joined))) }
}

async fn joined(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let event = ada.next("a `member_joined`").await?;
    let (room, name) = (text(&event, "room"), text(&event, "name"));
    if !is(&event, "member_joined") || room != grace.room || name != grace.name {
        return Err(ada.mismatch(&json_of(&event)));
    }
    grace.say("hi").await;
    let event = grace.next("what grace says, and nothing about herself before").await?;
    if is(&event, "message") { Ok(()) } else { Err(grace.mismatch(&json_of(&event))) }
}

async fn left(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    grace.send(json!({"type": "leave", "room": grace.room})).await;
    let (room, name) = (grace.room.clone(), grace.name.clone());
    grace.expect_field("left", "room", &room).await?;
    let event = ada.expect_field("member_left", "name", &name).await?;
    if text(&event, "room") == room { Ok(()) } else { Err(ada.mismatch(&json_of(&event))) }
}

async fn vanished(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let other = scene.name("other");
    ada.join(&other).await?;
    grace.join(&other).await?;
    let name = grace.name.clone();
    grace.vanish();
    let first = ada.expect_field("member_left", "name", &name).await?;
    let second = ada.expect_field("member_left", "name", &name).await?;
    let mut rooms = [text(&first, "room"), text(&second, "room")];
    rooms.sort_unstable();
    if rooms == [other.as_str(), ada.room.as_str()] {
        Ok(())
    } else {
        Err(ada.mismatch(&json_of(&second)))
    }
}

async fn typing(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    ada.send(json!({"type": "typing", "room": ada.room})).await;
    let event = grace.expect_field("typing", "name", &ada.name).await?;
    if text(&event, "room") != grace.room {
        return Err(grace.mismatch(&json_of(&event)));
    }
    // Had it come back to ada, it would be there before what she says now.
    crate::rules::still_talks(&mut ada).await
}
