// ANCHOR: all
//! The scripts: what Redis does as one step, which nobody sees half done.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// All of them.
pub static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    probe: Script::new(include_str!("scripts/probe.lua")),
    publish: with_position(include_str!("scripts/publish.lua")),
    look: with_position(include_str!("scripts/look.lua")),
    check: with_position(include_str!("scripts/check.lua")),
    claim: Script::new(include_str!("scripts/claim.lua")),
    presence: Script::new(include_str!("scripts/presence.lua")),
    crowd: Script::new(include_str!("scripts/crowd.lua")),
    rooms: Script::new(include_str!("scripts/rooms.lua")),
    register: Script::new(include_str!("scripts/register.lua")),
    sessions: Script::new(include_str!("scripts/sessions.lua")),
    touch: Script::new(include_str!("scripts/touch.lua")),
    lodge: Script::new(include_str!("scripts/lodge.lua")),
    stay: Script::new(include_str!("scripts/stay.lua")),
    depart: Script::new(include_str!("scripts/depart.lua")),
    seat: Script::new(include_str!("scripts/seat.lua")),
    call: Script::new(include_str!("scripts/call.lua")),
    mark: Script::new(include_str!("scripts/mark.lua")),
    failures: Script::new(include_str!("scripts/failures.lua")),
});

/// What each of them does stands at its beginning.
pub struct Scripts {
    /// Tries whether Redis writes.
    pub probe: Script,
    /// Stores a message, and tells everybody.
    pub publish: Script,
    /// Reads the end of a room.
    pub look: Script,
    /// Compares what a server has of a room with what is stored.
    pub check: Script,
    /// Sees to it that a user's id for a message is used in one room only, and not too often.
    pub claim: Script,
    /// Notes who has come into a room, and who has left.
    pub presence: Script,
    /// Reads who is in a room.
    pub crowd: Script,
    /// Reads which rooms have members.
    pub rooms: Script,
    /// Makes an account.
    pub register: Script,
    /// Adds a session to those of an account.
    pub sessions: Script,
    /// Notes that a session is in use.
    pub touch: Script,
    /// Takes a session of the fallback to a server.
    pub lodge: Script,
    /// Notes that a server still has it.
    pub stay: Script,
    /// Notes that it has ended.
    pub depart: Script,
    /// Counts the connections of a user.
    pub seat: Script,
    /// Tells a user something.
    pub call: Script,
    /// Tells a server the time.
    pub mark: Script,
    /// Counts failed tries to sign in.
    pub failures: Script,
}

impl Scripts {
    /// The list, to bring them to Redis.
    pub fn all(&self) -> Vec<&Script> {
        let Self { probe, publish, look, check, claim, presence, crowd, rooms, .. } = self;
        let Self { register, sessions, touch, seat, call, mark, failures, .. } = self;
        let Self { lodge, stay, depart, .. } = self;
        let of_rooms = [probe, publish, look, check, claim, presence, crowd, rooms];
        let of_users = [register, sessions, touch, seat, call, mark, failures, lodge, stay, depart];
        of_rooms.into_iter().chain(of_users).collect()
    }
}

/// A script that begins with finding out how far a room has come.
fn with_position(rest: &str) -> Script {
    Script::new(&format!("{}\n{rest}", include_str!("scripts/position.lua")))
}

/// Calls a script that Redis has: with its keys, and then come the arguments.
pub fn call(script: &Script, keys: &[String]) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}
// ANCHOR_END: all
