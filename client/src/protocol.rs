// ANCHOR: all
//! What travels: one JSON object in each text message, with its `type` first.
//!
//! A message begins its journey as a [`ClientEvent`] and comes back to everyone as a
//! [`ServerEvent`]. The same types serve all milestones: what only some of them say is an `Option`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

// ANCHOR: client
/// What a client may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientEvent {
    /// "This is my name": the first event of every client up to milestone 4. After that, the
    /// handshake says who we are.
    Hello {
        /// The name, as it was typed.
        name: String,
        /// The session of an earlier welcome: "and I had it before".
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Uuid>,
    },
    /// "Let me into this room." With `epoch` and `after`: "and I have seen it up to there."
    Join {
        /// Which room.
        room: String,
        /// Which count `after` belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<Uuid>,
        /// The number of the last message that this client has.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// "I leave this room."
    Leave {
        /// Which room.
        room: String,
    },
    /// "Tell everyone."
    Message {
        /// Our own choice, and the same again when we send the message again; `None` where the
        /// server chooses it.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
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
        /// As in a message.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        /// The user's name.
        to: String,
        /// What to tell.
        text: String,
    },
    /// "Which rooms are there?"
    Rooms,
}

impl ClientEvent {
    /// A first hello.
    pub fn hello(name: impl Into<String>) -> Self {
        Self::Hello { name: name.into(), session: None }
    }

    /// A first join.
    pub fn join(room: impl Into<String>) -> Self {
        Self::Join { room: room.into(), epoch: None, after: None }
    }

    /// A message to a room or, where there are none, to everyone. The server chooses its id, or a
    /// [`Session`](crate::Session) does.
    pub fn message(room: Option<String>, text: impl Into<String>) -> Self {
        Self::Message { id: None, room, text: text.into() }
    }

    /// A message to one user; for its id see [`ClientEvent::message`].
    pub fn direct(to: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Direct { id: None, to: to.into(), text: text.into() }
    }
}
// ANCHOR_END: client

// ANCHOR: server
/// What a server may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// The answer to `hello` or, from milestone 5 on, to a handshake with a token.
    Welcome {
        /// This connection.
        id: Uuid,
        /// The name, as everyone will see it.
        name: String,
        /// Everyone who is here; `None` where the server has rooms.
        users: Option<Vec<String>>,
        /// Which client this is, to name when it comes back after a cut; `None` where nothing survives
        /// one. In milestone 4 it is a secret, since it gets the name back.
        session: Option<Uuid>,
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
        /// Which count the numbers of its messages belong to; `None` where they have no numbers.
        epoch: Option<Uuid>,
        /// The number of the last message that we now have.
        seq: Option<u64>,
        /// Everyone in it, oneself included.
        members: Vec<String>,
        /// The last messages, or all since the cursor in the join; oldest first.
        history: Vec<ServerEvent>,
        /// There are messages between the cursor and `history` that the server can't give.
        #[serde(default)]
        gap: bool,
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
        /// Its number there: 1, 2, 3 and so on; `None` where messages have no numbers.
        seq: Option<u64>,
        /// This message.
        id: Uuid,
        /// Who said it.
        from: String,
        /// What they said.
        text: String,
        /// When the server took it, in milliseconds since 1970, as in `Date.now()`.
        at: u64,
    },
    /// A message of ours is safely stored.
    Ack {
        /// Our id for it.
        id: Uuid,
        /// Which room.
        room: String,
        /// Its number there.
        seq: u64,
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
    /// Whether messages can be stored at present.
    Status {
        /// They can't. What is stored can still be read.
        degraded: bool,
    },
    /// The server is about to stop.
    Reconnect {
        /// When to come back, in milliseconds from now.
        after: u64,
    },
    /// The server could not do what was asked. The connection stays open.
    Error {
        /// Which error it is, for programs: `name_taken`, `bad_room`, …
        code: String,
        /// The same in a sentence, for people.
        message: String,
        /// The message that this answers.
        id: Option<Uuid>,
        /// When to try again, in milliseconds from now, if that makes sense.
        retry_after: Option<u64>,
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
            seq: None,
            id: Uuid::nil(),
            from: "ada".into(),
            text: "hi".into(),
            at: 1_700_000_000_000,
        }
    }

    #[test]
    fn an_event_is_written_with_its_type_first() {
        let direct = ClientEvent::direct("grace", "psst");
        assert_eq!(encode(&direct), r#"{"type":"direct","to":"grace","text":"psst"}"#);
        assert_eq!(encode(&ClientEvent::Rooms), r#"{"type":"rooms"}"#);
    }

    #[test]
    fn a_message_names_its_room_only_where_there_are_rooms() {
        let to_all = ClientEvent::message(None, "hi");
        assert_eq!(encode(&to_all), r#"{"type":"message","text":"hi"}"#);
        let to_room = ClientEvent::message(Some("rust".into()), "hi");
        assert_eq!(encode(&to_room), r#"{"type":"message","room":"rust","text":"hi"}"#);
    }

    #[test]
    fn what_only_milestone_4_takes_is_written_only_if_it_is_there() {
        let id = Uuid::nil();
        assert_eq!(encode(&ClientEvent::hello("ada")), r#"{"type":"hello","name":"ada"}"#);
        let back = ClientEvent::Hello { name: "ada".into(), session: Some(id) };
        let json = format!(r#"{{"type":"hello","name":"ada","session":"{id}"}}"#);
        assert_eq!(encode(&back), json);
        assert_eq!(encode(&ClientEvent::join("rust")), r#"{"type":"join","room":"rust"}"#);
        let resume = ClientEvent::Join { room: "rust".into(), epoch: Some(id), after: Some(41) };
        let json = format!(r#"{{"type":"join","room":"rust","epoch":"{id}","after":41}}"#);
        assert_eq!(encode(&resume), json);
        let (room, text) = (Some("rust".into()), "hi".into());
        let message = ClientEvent::Message { id: Some(id), room, text };
        let json = format!(r#"{{"type":"message","id":"{id}","room":"rust","text":"hi"}}"#);
        assert_eq!(encode(&message), json);
    }

    #[test]
    fn what_only_milestone_4_says_is_read() {
        let id = Uuid::nil();
        let json = format!(r#"{{"type":"ack","id":"{id}","room":"rust","seq":42}}"#);
        assert_eq!(decode(&json).unwrap(), ServerEvent::Ack { id, room: "rust".into(), seq: 42 });
        let json = format!(
            r#"{{"type":"joined","room":"rust","epoch":"{id}","seq":57,"members":[],"history":[],"gap":true}}"#
        );
        let joined = decode(&json).unwrap();
        assert!(matches!(
            joined,
            ServerEvent::Joined { epoch: Some(_), seq: Some(57), gap: true, .. }
        ));
        let status = decode(r#"{"type":"status","degraded":true}"#).unwrap();
        assert_eq!(status, ServerEvent::Status { degraded: true });
        let reconnect = decode(r#"{"type":"reconnect","after":1800}"#).unwrap();
        assert_eq!(reconnect, ServerEvent::Reconnect { after: 1800 });
        let json = format!(
            r#"{{"type":"error","code":"unavailable","message":"No.","id":"{id}","retry_after":1000}}"#
        );
        let error = decode(&json).unwrap();
        assert!(matches!(error, ServerEvent::Error { id: Some(_), retry_after: Some(1000), .. }));
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
