//! The promises of milestone 3: rooms, history, typing, direct messages, namespaces.

pub mod direct;
pub mod history;
pub mod members;
pub mod namespaces;
pub mod rooms;

use crate::scenario::Scenario;
use crate::{frames, process, rules};

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let own = [
        rooms::SCENARIOS,
        members::SCENARIOS,
        history::SCENARIOS,
        direct::SCENARIOS,
        namespaces::SCENARIOS,
    ];
    let shared = [frames::SCENARIOS, process::SCENARIOS, &[process::BAD_ORIGIN]].concat();
    let shared = rules::scenarios().into_iter().chain(shared).map(|scenario| scenario.again(3));
    own.concat().into_iter().chain(shared).collect()
}
