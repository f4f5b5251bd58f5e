//! Direct conversations: a room of two, named after them, as in `dm:ada:grace`.

use crate::names;
use crate::protocol::ErrorCode;

/// How the name of such a room begins. Other rooms have no `:` in their names.
const PREFIX: &str = "dm:";

/// The longest name in lower case, in characters.
const MAX_KEY: usize = 64;

/// Whether a room is a conversation.
pub fn is_one(room: &str) -> bool {
    room.starts_with(PREFIX)
}

/// The room in which two users speak with each other: both names in lower case and sorted, so that
/// there is one, whoever begins.
pub fn between(one: &str, other: &str) -> String {
    let mut names = [names::key(one), names::key(other)];
    names.sort();
    format!("{PREFIX}{}", names.join(":"))
}

/// The other one of the two, or `None` if the room is not a conversation.
///
/// # Errors
/// `bad_room` if no two users have a room of that name, `forbidden` if `me` is not one of the two.
pub fn partner(room: &str, me: &str) -> Result<Option<String>, ErrorCode> {
    let Some(names) = room.strip_prefix(PREFIX) else { return Ok(None) };
    let (one, other) = names.split_once(':').ok_or(ErrorCode::BadRoom)?;
    if !(is_key(one) && is_key(other) && room == between(one, other)) {
        return Err(ErrorCode::BadRoom);
    }
    match names::key(me) {
        me if me == one => Ok(Some(other.to_owned())),
        me if me == other => Ok(Some(one.to_owned())),
        _ => Err(ErrorCode::Forbidden),
    }
}

/// Whether this can be what [`names::key`] makes of a name.
fn is_key(key: &str) -> bool {
    // A Turkish İ becomes two characters, and the second one is not a letter by itself.
    let allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '\u{307}';
    (1..=MAX_KEY).contains(&key.chars().count()) && key.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_same_room() {
        assert_eq!(between("Grace", "ada"), "dm:ada:grace");
        assert_eq!(between("ada", "Grace"), "dm:ada:grace");
        assert_eq!(partner("dm:ada:grace", "Ada"), Ok(Some("grace".to_owned())));
        assert_eq!(partner("dm:ada:grace", "grace"), Ok(Some("ada".to_owned())));
        assert_eq!(partner("dm:ada:ada", "ada"), Ok(Some("ada".to_owned())));
    }

    #[test]
    fn nobody_else_gets_in() {
        assert_eq!(partner("dm:ada:grace", "eve"), Err(ErrorCode::Forbidden));
        for room in
            ["dm:", "dm:ada", "dm:grace:ada", "dm:Ada:grace", "dm:ada:b:c", "dm:a a:b", "dm::a"]
        {
            assert_eq!(partner(room, "ada"), Err(ErrorCode::BadRoom), "{room}");
        }
    }

    #[test]
    fn every_name_can_have_conversations() {
        let room = between("İpek", "ada");
        assert_eq!(partner(&room, "İpek"), Ok(Some("ada".to_owned())));
    }

    #[test]
    fn other_rooms_are_no_conversations() {
        assert_eq!(partner("rust", "ada"), Ok(None));
        assert!(!is_one("rust"));
    }
}
