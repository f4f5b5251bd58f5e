//! The promises of milestone 5: who may come in, how much each may do, and what whoever operates the
//! server gets to see. The book's threat model names these, row by row.

pub mod accounts;
pub mod attempts;
pub mod caps;
pub mod connections;
pub mod fallback;
pub mod floods;
pub mod frames;
pub mod handshakes;
pub mod logs;
pub mod names;
pub mod operating;
pub mod origins;
pub mod permissions;
pub mod search;
pub mod sessions;
pub mod settings;
pub mod slow;

use crate::raw::Answer;
use crate::scenario::{Check, Needs, Scenario};
use crate::scene::Scene;
use crate::step4;

/// What milestone 5 does in another way than those before: it tells in its own scenarios how.
const CHANGED: [&str; 20] = [
    // Who one is comes from the session: nobody says hello.
    "hello_is_answered_with_welcome",
    "whoever_speaks_before_hello_is_told_to_say_hello_first",
    "whoever_never_says_hello_has_to_go",
    // A name is an account's, whether somebody is connected or not.
    "a_name_can_be_had_once",
    "names_that_differ_only_in_case_are_the_same",
    "two_ways_to_write_the_same_letters_are_the_same_name",
    "a_name_may_have_32_characters_and_not_33",
    "a_name_has_no_spaces_signs_or_emoji",
    "a_name_is_free_again_after_its_owner_has_left",
    "a_name_is_free_again_after_a_broken_connection",
    "namespaces_share_no_names",
    "direct_messages_stay_in_their_namespace",
    // One's own page is one on this machine; all others are listed.
    "pages_of_this_server_may_connect",
    // A session names one client of a user who may have many.
    "a_session_takes_the_name_back",
    "another_session_does_not_take_a_name",
    "a_taken_over_room_is_left_by_nobody",
    "a_session_from_before_a_restart_is_welcome",
    "hello_by_http_gives_a_session",
    "an_unknown_session_is_a_401",
    "a_websocket_takes_over_from_a_stream",
];

/// What sends or asks for more at once than the rate limits let pass.
const BULKY: [&str; 12] = [
    "a_client_that_does_not_read_is_closed",
    "a_cursor_before_the_kept_history_is_a_gap",
    "a_fast_sender_loses_nothing",
    "a_resume_gives_every_message_after_the_cursor",
    "a_resume_while_others_speak_has_no_seam",
    "a_stream_resumes_by_itself",
    "an_unknown_name_takes_as_long_as_a_wrong_password",
    "everyone_hears_the_same_order",
    "joining_in_the_middle_leaves_no_gap",
    "numbers_have_no_holes",
    "signs_in_a_search_mean_nothing",
    "who_was_too_slow_comes_back_and_has_everything",
];

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let own = [
        accounts::SCENARIOS,
        names::SCENARIOS,
        sessions::SCENARIOS,
        connections::SCENARIOS,
        fallback::SCENARIOS,
        search::SCENARIOS,
        origins::SCENARIOS,
        permissions::SCENARIOS,
        handshakes::SCENARIOS,
        frames::SCENARIOS,
        slow::SCENARIOS,
        attempts::SCENARIOS,
        floods::SCENARIOS,
        caps::SCENARIOS,
        logs::SCENARIOS,
        settings::SCENARIOS,
        operating::SCENARIOS,
    ];
    let before = step4::scenarios().into_iter();
    let same = before.filter(|scenario| !CHANGED.contains(&scenario.name));
    let all = own.concat().into_iter().chain(same.map(|scenario| scenario.again(5)));
    all.map(with_limits).collect()
}

/// A scenario at a server that may have rate limits.
fn with_limits(scenario: Scenario) -> Scenario {
    let is_bulky = scenario.needs == Needs::Url && BULKY.contains(&scenario.name);
    if is_bulky { Scenario { needs: Needs::NoRateLimits, ..scenario } } else { scenario }
}

/// Two answers must be the same, to the byte.
fn are_the_same(scene: &Scene, answers: &[Answer]) -> Check {
    scene.journal.wait_for("the same answers");
    match answers {
        [one, others @ ..] if others.iter().all(|other| other == one) => Ok(()),
        _ => Err(scene.mismatch(&format!("{answers:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_was_promised_before() {
        let before: Vec<&str> =
            step4::scenarios().into_iter().map(|scenario| scenario.name).collect();
        for name in CHANGED {
            assert!(before.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_bulky_is_there_and_needs_no_program() {
        let marked = scenarios().iter().filter(|it| it.needs == Needs::NoRateLimits).count();
        assert_eq!(marked, BULKY.len());
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
