// ANCHOR: all
//! What travels: one JSON object in each text message, with its `type` first.
//!
//! A message begins its journey as a [`ClientEvent`] and comes back to everyone as a
//! [`ServerEvent`]. The same types serve a server with rooms and one without.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

// ANCHOR: client
/// What a client may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientEvent {
    /// "This is my name": the first event of every client.
    Hello {
        /// The name, as it was typed.
        name: String,
    },
    /// "Let me into this room."
    Join {
        /// Which room.
        room: String,
    },
    /// "I leave this room."
    Leave {
        /// Which room.
        room: String,
    },
    /// "Tell everyone."
    Message {
        /// Everyone in which room; `None` where the server has no rooms.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        /// What to tell.
        text: String,
    },
    /// "I am typing in this room."
    Typing {
        /// Which room.
        room: String,
    },
    /// "Tell this user, and nobody else."
    Direct {
        /// The user's name.
        to: String,
        /// What to tell.
        text: String,
    },
    /// "Which rooms are there?"
    Rooms,
}
// ANCHOR_END: client

// ANCHOR: server
/// What a server may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// The answer to `hello`.
    Welcome {
        /// This connection.
        id: Uuid,
        /// The name, as everyone will see it.
        name: String,
        /// Everyone who is here; `None` where the server has rooms.
        users: Option<Vec<String>>,
    },
    /// Somebody has come, to a server without rooms.
    UserJoined {
        /// Who.
        name: String,
    },
    /// Somebody has gone, from a server without rooms.
    UserLeft {
        /// Who.
        name: String,
    },
    /// The answer to `join`.
    Joined {
        /// Which room.
        room: String,
        /// Everyone in it, oneself included.
        members: Vec<String>,
        /// The last messages, oldest first.
        history: Vec<ServerEvent>,
    },
    /// The answer to `leave`.
    Left {
        /// Which room.
        room: String,
    },
    /// Somebody else has joined a room.
    MemberJoined {
        /// Which room.
        room: String,
        /// Who.
        name: String,
    },
    /// Somebody else has left a room.
    MemberLeft {
        /// Which room.
        room: String,
        /// Who.
        name: String,
    },
    /// Somebody has said something. One's own words come back this way, too.
    Message {
        /// In which room; `None` where the server has no rooms.
        room: Option<String>,
        /// This message.
        id: Uuid,
        /// Who said it.
        from: String,
        /// What they said.
        text: String,
        /// When the server took it, in milliseconds since 1970, as in `Date.now()`.
        at: u64,
    },
    /// Somebody else is typing in a room.
    Typing {
        /// Which room.
        room: String,
        /// Who.
        name: String,
    },
    /// Somebody has said something to one user. Both of them get it.
    Direct {
        /// This message.
        id: Uuid,
        /// Who said it.
        from: String,
        /// To whom.
        to: String,
        /// What they said.
        text: String,
        /// When the server took it, in milliseconds since 1970, as in `Date.now()`.
        at: u64,
    },
    /// The answer to `rooms`.
    Rooms {
        /// The rooms that have members, by name.
        rooms: Vec<RoomInfo>,
    },
    /// The server could not do what was asked. The connection stays open.
    Error {
        /// Which error it is, for programs: `name_taken`, `bad_room`, …
        code: String,
        /// The same in a sentence, for people.
        message: String,
    },
    // ANCHOR: unknown
    /// Any other `type`: a newer server may say more than this client understands.
    #[serde(other)]
    Unknown,
    // ANCHOR_END: unknown
}

/// A room, as the list of rooms shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoomInfo {
    /// Its name.
    pub name: String,
    /// How many are in it.
    pub members: usize,
}
// ANCHOR_END: server

// ANCHOR: travel
/// Writes an event as JSON.
pub fn encode(event: &ClientEvent) -> String {
    // Strings always have a JSON form: the default is never used.
    serde_json::to_string(event).unwrap_or_default()
}

/// Reads an event from JSON.
///
/// # Errors
/// [`Error::BadEvent`]: no JSON, or not with the fields of its type.
pub fn decode(json: &str) -> Result<ServerEvent, Error> {
    serde_json::from_str(json).map_err(|source| Error::bad_event(json, source.to_string()))
}
// ANCHOR_END: travel

#[cfg(test)]
mod tests {
    use super::*;

    fn message(room: Option<&str>) -> ServerEvent {
        ServerEvent::Message {
            room: room.map(str::to_owned),
            id: Uuid::nil(),
            from: "ada".into(),
            text: "hi".into(),
            at: 1_700_000_000_000,
        }
    }

    #[test]
    fn an_event_is_written_with_its_type_first() {
        let direct = ClientEvent::Direct { to: "grace".into(), text: "psst".into() };
        assert_eq!(encode(&direct), r#"{"type":"direct","to":"grace","text":"psst"}"#);
        assert_eq!(encode(&ClientEvent::Rooms), r#"{"type":"rooms"}"#);
    }

    #[test]
    fn a_message_names_its_room_only_where_there_are_rooms() {
        let to_all = ClientEvent::Message { room: None, text: "hi".into() };
        assert_eq!(encode(&to_all), r#"{"type":"message","text":"hi"}"#);
        let to_room = ClientEvent::Message { room: Some("rust".into()), text: "hi".into() };
        assert_eq!(encode(&to_room), r#"{"type":"message","room":"rust","text":"hi"}"#);
    }

    #[test]
    fn messages_are_read_with_and_without_a_room() {
        let id = Uuid::nil();
        let json = format!(
            r#"{{"type":"message","id":"{id}","from":"ada","text":"hi","at":1700000000000}}"#
        );
        assert_eq!(decode(&json).unwrap(), message(None));
        let json = json.replace("{\"type\"", r#"{"room":"rust","type""#);
        assert_eq!(decode(&json).unwrap(), message(Some("rust")));
    }

    #[test]
    fn only_a_server_without_rooms_welcomes_with_its_users() {
        let json = format!(r#"{{"type":"welcome","id":"{}","name":"ada"}}"#, Uuid::nil());
        assert!(matches!(decode(&json).unwrap(), ServerEvent::Welcome { users: None, .. }));
        let json = json.replace('}', r#","users":["ada"]}"#);
        assert!(matches!(decode(&json).unwrap(), ServerEvent::Welcome { users: Some(_), .. }));
    }

    #[test]
    fn history_is_made_of_events_and_may_hold_unknown_ones() {
        let json = format!(
            r#"{{"type":"joined","room":"rust","members":["ada"],"history":[
                {{"type":"message","room":"rust","id":"{}","from":"ada","text":"hi","at":1700000000000}},
                {{"type":"deleted","by":"grace"}}]}}"#,
            Uuid::nil()
        );
        let ServerEvent::Joined { history, .. } = decode(&json).unwrap() else { panic!("{json}") };
        assert_eq!(history, [message(Some("rust")), ServerEvent::Unknown]);
    }

    #[test]
    fn types_and_fields_of_a_newer_server_do_no_harm() {
        assert_eq!(decode(r#"{"type":"weather","sun":[1]}"#).unwrap(), ServerEvent::Unknown);
        let left = decode(r#"{"type":"left","room":"rust","seq":3}"#).unwrap();
        assert_eq!(left, ServerEvent::Left { room: "rust".into() });
    }

    #[test]
    fn what_is_no_event_is_told_with_what_came() {
        for json in ["", "hello", "[]", r#"{"sort":"left"}"#, r#"{"type":"left"}"#] {
            let error = decode(json).unwrap_err();
            assert!(matches!(&error, Error::BadEvent { came, .. } if came == json), "{error:?}");
        }
    }
}
// ANCHOR_END: all
