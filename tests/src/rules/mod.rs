//! The rules of every chat: what milestones 2 and 3 both promise.

pub mod events;
pub mod flow;
pub mod names;
pub mod site;
pub mod words;

use crate::client::Client;
use crate::scenario::{Check, Scenario};

/// The scenarios, as milestone 2 makes them.
pub fn scenarios() -> Vec<Scenario> {
    [names::SCENARIOS, words::SCENARIOS, events::SCENARIOS, site::SCENARIOS, flow::SCENARIOS]
        .concat()
}

/// The connection must still be open and useful: what the client says comes back to it.
///
/// # Errors
/// It is not.
pub async fn still_talks(client: &mut Client) -> Check {
    client.say("still here").await;
    client.expect_field("message", "text", "still here").await.map(drop)
}
