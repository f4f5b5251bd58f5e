//! The promises of milestone 4: what was acked is never lost, and after any cut a client ends with
//! every message.

pub mod acks;
pub mod degraded;
pub mod direct;
pub mod fallback;
pub mod goodbye;
pub mod restarts;
pub mod resume;
pub mod sessions;

use crate::scenario::Scenario;
use crate::{frames, process, rules, step3};

/// What milestone 4 does in another way than those before: it tells in its own scenarios how.
const CHANGED: [&str; 10] = [
    // A server that restarts says 1012, after a hint when to come back.
    "sigterm_says_goodbye_to_every_client",
    "ctrl_c_says_goodbye_to_every_client",
    "a_frozen_client_does_not_hold_up_the_end",
    // The id is the sender's to choose.
    "who_said_it_and_when_is_for_the_server_to_say",
    // A conversation is a room of two.
    "a_room_has_a_plain_name",
    "leave_is_answered_with_left",
    // A room's history outlives its members.
    "a_room_ends_with_its_last_member",
    "a_late_joiner_gets_what_was_said",
    "join_is_answered_with_joined",
    "joining_twice_is_harmless",
];

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let own = [
        acks::SCENARIOS,
        resume::SCENARIOS,
        restarts::SCENARIOS,
        sessions::SCENARIOS,
        direct::SCENARIOS,
        degraded::SCENARIOS,
        goodbye::SCENARIOS,
        fallback::SCENARIOS,
    ];
    let rooms = [
        step3::rooms::SCENARIOS,
        step3::members::SCENARIOS,
        step3::history::SCENARIOS,
        step3::namespaces::SCENARIOS,
    ];
    let program = [frames::SCENARIOS, process::SCENARIOS, &[process::BAD_ORIGIN]];
    let before = rooms.concat().into_iter().chain(rules::scenarios()).chain(program.concat());
    let same = before.filter(|scenario| !CHANGED.contains(&scenario.name));
    own.concat().into_iter().chain(same.map(|scenario| scenario.again(4))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_was_promised_before() {
        let before: Vec<&str> =
            step3::scenarios().into_iter().map(|scenario| scenario.name).collect();
        for name in CHANGED {
            assert!(before.contains(&name), "{name}");
        }
    }

    #[test]
    fn no_two_scenarios_have_the_same_name() {
        let mut names: Vec<&str> = scenarios().into_iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
