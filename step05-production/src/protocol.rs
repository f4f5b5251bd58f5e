// ANCHOR: all
//! What travels: JSON objects, each with its `type` first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

// ANCHOR: client
/// What a client may send.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientEvent {
    /// "I have no WebSocket": the body of `POST /hello`. Who it is, the request says in its headers.
    Hello {
        /// The session of an earlier `welcome`: "and I have been here before".
        session: Option<Uuid>,
    },
    /// "Let me into this room." With `epoch` and `after`: "and I have seen it up to there."
    Join {
        /// Which room; it is made if nobody is in it.
        room: String,
        /// The epoch of the last `joined`.
        epoch: Option<Uuid>,
        /// The last `seq` that the client has.
        after: Option<u64>,
    },
    /// "I leave this room."
    Leave {
        /// Which room.
        room: String,
    },
    /// "Tell everyone in this room."
    Message {
        /// The client's own choice, and the same again when it sends the message again.
        id: Uuid,
        /// Which room.
        room: String,
        /// What to tell.
        text: String,
    },
    /// "I am typing in this room."
    Typing {
        /// Which room.
        room: String,
    },
    /// "Tell this user, and nobody else": a message in the room of the two.
    Direct {
        /// As in a message.
        id: Uuid,
        /// The user's name.
        to: String,
        /// What to tell.
        text: String,
    },
    /// "Which rooms are there?"
    Rooms,
    /// Any other `type`.
    #[serde(other)]
    Unknown,
}

impl ClientEvent {
    /// The id of the message, if it is one: an error that answers it carries the id.
    pub fn message_id(&self) -> Option<Uuid> {
        match self {
            Self::Message { id, .. } | Self::Direct { id, .. } => Some(*id),
            Self::Hello { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Typing { .. }
            | Self::Rooms
            | Self::Unknown => None,
        }
    }
}

/// How far a client has seen a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which count `after` belongs to.
    pub epoch: Uuid,
    /// The last `seq` that the client has.
    pub after: u64,
}
// ANCHOR_END: client

// ANCHOR: server
/// What the server sends.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// The first event of each connection.
    Welcome {
        /// This connection.
        id: Uuid,
        /// The name, as everyone will see it.
        name: String,
        /// What names the client when it comes back: its old connection has to go then. It signs
        /// nobody in.
        session: Uuid,
    },
    /// The answer to `join`.
    Joined {
        /// Which room.
        room: String,
        /// Which count the numbers of its messages belong to.
        epoch: Uuid,
        /// The number of the last message that the client now has.
        seq: u64,
        /// Everyone in it, the newcomer included.
        members: Vec<String>,
        /// Every message that the client had not seen or, if it named no cursor or there is a gap,
        /// the last ones. Oldest first.
        history: Vec<ServerEvent>,
        /// There are messages between the cursor and `history` that the server can't give.
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
    /// Somebody has left a room.
    MemberLeft {
        /// Which room.
        room: String,
        /// Who.
        name: String,
    },
    /// Somebody said something in a room.
    Message(Said),
    /// A message is safely stored. Only its sender gets this.
    Ack {
        /// The sender's id for it.
        id: Uuid,
        /// Which room.
        room: String,
        /// Its number in the room.
        seq: u64,
    },
    /// Somebody else is typing in a room.
    Typing {
        /// Which room.
        room: String,
        /// Who.
        name: String,
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
    /// The server could not do what the client asked. The connection stays open.
    Error {
        /// Which error it is, for programs.
        code: ErrorCode,
        /// The same in a sentence, for people.
        message: &'static str,
        /// The message that this answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        /// When to try again, in milliseconds from now, if that makes sense.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
}

/// A message as the log keeps it and as every member gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Which room.
    pub room: String,
    /// Its number there: 1, 2, 3 and so on, without holes.
    pub seq: u64,
    /// The sender's id for it.
    pub id: Uuid,
    /// Who said it.
    pub from: String,
    /// What they said.
    pub text: String,
    /// When the server took it, in milliseconds since 1970, as in `Date.now()`.
    pub at: u64,
}

/// A room, as the list of rooms shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RoomInfo {
    /// Its name.
    pub name: String,
    /// How many are in it.
    pub members: usize,
}
// ANCHOR_END: server

// ANCHOR: errors
/// Why an event was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum ErrorCode {
    /// Not a JSON object with the fields of its type.
    BadJson,
    /// A `type` that this server does not know.
    UnknownType,
    /// Something else than a `hello` where one is due.
    HelloFirst,
    /// A `hello` where none is due, or somebody else's conversation.
    Forbidden,
    /// No session, or one that has ended.
    Unauthorized,
    /// A name against the rules.
    BadName,
    /// Somebody else has the name, or one that looks like it.
    NameTaken,
    /// A password against the rules.
    BadPassword,
    /// More at once than anybody may send.
    RateLimited,
    /// A message without text.
    EmptyText,
    /// A message with too much text.
    TextTooLong,
    /// A message with the id of another one.
    IdConflict,
    /// A room name against the rules.
    BadRoom,
    /// Something for a room that the client has not joined.
    NotInRoom,
    /// One room more than a connection may join.
    TooManyRooms,
    /// A direct message for a name that nobody has.
    NoSuchUser,
    /// The log is away, or the server is full.
    Unavailable,
}

/// When to try again while the log is away, in milliseconds.
const RETRY_AFTER: u64 = 1000;

impl ErrorCode {
    /// The code, as it travels.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::UnknownType => "unknown_type",
            Self::HelloFirst => "hello_first",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::BadName => "bad_name",
            Self::NameTaken => "name_taken",
            Self::BadPassword => "bad_password",
            Self::RateLimited => "rate_limited",
            Self::EmptyText => "empty_text",
            Self::TextTooLong => "text_too_long",
            Self::IdConflict => "id_conflict",
            Self::BadRoom => "bad_room",
            Self::NotInRoom => "not_in_room",
            Self::TooManyRooms => "too_many_rooms",
            Self::NoSuchUser => "no_such_user",
            Self::Unavailable => "unavailable",
        }
    }

    /// The sentence for people.
    fn sentence(self) -> &'static str {
        match self {
            Self::BadJson => "That is not a JSON object with the fields its type needs.",
            Self::UnknownType => "This server does not know events of that type.",
            Self::HelloFirst => "Say hello first.",
            Self::Forbidden => "You may not do that.",
            Self::Unauthorized => "Sign in with a name and a password that fit.",
            Self::BadName => "A name has 1 to 32 letters, digits, _ or -.",
            Self::NameTaken => "That name is taken, or looks like one that is.",
            Self::BadPassword => "A password has 8 to 256 characters.",
            Self::RateLimited => "That was too much at once. Wait a moment.",
            Self::EmptyText => "There is no text in that message.",
            Self::TextTooLong => "A message has 2,000 characters at most.",
            Self::IdConflict => "You have sent another message with that id.",
            Self::BadRoom => "A room's name has 1 to 64 of the characters a-z, 0-9, _ and -.",
            Self::NotInRoom => "You are not in that room.",
            Self::TooManyRooms => "You are in 64 rooms already. Leave one first.",
            Self::NoSuchUser => "Nobody has that name.",
            Self::Unavailable => "That can't be done at the moment. Try again soon.",
        }
    }

    /// When trying the same again makes sense, in milliseconds from now.
    pub fn retry_after(self) -> Option<u64> {
        (self == Self::Unavailable).then_some(RETRY_AFTER)
    }

    /// This error as the answer to a message.
    pub fn about(self, id: Option<Uuid>) -> ServerEvent {
        let (message, retry_after) = (self.sentence(), self.retry_after());
        ServerEvent::Error { code: self, message, id, retry_after }
    }

    /// This error, with the time after which the same would be accepted.
    pub fn until(self, id: Option<Uuid>, wait: Duration) -> ServerEvent {
        // Rounded up, or who waits exactly that long comes a moment too early.
        let retry_after = millis(wait).saturating_add(1);
        ServerEvent::Error {
            code: self,
            message: self.sentence(),
            id,
            retry_after: Some(retry_after),
        }
    }
}

impl From<ErrorCode> for &'static str {
    fn from(code: ErrorCode) -> Self {
        code.word()
    }
}

impl From<ErrorCode> for ServerEvent {
    fn from(code: ErrorCode) -> Self {
        code.about(None)
    }
}
// ANCHOR_END: errors

// ANCHOR: travel
/// Reads an event from JSON.
///
/// # Errors
/// The `error` event to answer with: `bad_json` or `unknown_type`.
pub fn decode(json: &str) -> Result<ClientEvent, ServerEvent> {
    // First an object, then an event: serde alone would take the list ["hello","ada"] as well.
    let object: Result<Map<String, Value>, _> = serde_json::from_str(json);
    let event = object.and_then(|object| serde_json::from_value(Value::Object(object)));
    let code = match event {
        Ok(ClientEvent::Unknown) => ErrorCode::UnknownType,
        Ok(event) => return Ok(event),
        Err(_) => ErrorCode::BadJson,
    };
    Err(code.about(find_id(json)))
}

/// The id in something that was not accepted: if it was meant to be a message, its sender learns
/// which one that is.
pub fn find_id(json: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct WithId {
        id: Uuid,
    }
    serde_json::from_str(json).ok().map(|WithId { id }| id)
}

/// Writes an event as JSON.
pub fn encode(event: &ServerEvent) -> String {
    // Text, numbers and lists of them always have a JSON form: the default is never used.
    serde_json::to_string(event).unwrap_or_default()
}

/// The longest message text, in characters.
const MAX_TEXT: usize = 2000;

/// Takes the white space off both ends of a message's text.
///
/// # Errors
/// `empty_text` or `text_too_long`.
pub fn trim(text: &str) -> Result<String, ErrorCode> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err(ErrorCode::EmptyText),
        1..=MAX_TEXT => Ok(text.to_owned()),
        _ => Err(ErrorCode::TextTooLong),
    }
}

/// The time in milliseconds since 1970, as in `Date.now()`.
pub fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time in milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
// ANCHOR_END: travel

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11";

    #[test]
    fn a_message_needs_an_id_that_is_a_uuid() {
        let with =
            |id: &str| format!(r#"{{"type":"message","id":{id},"room":"rust","text":"hi"}}"#);
        assert!(decode(&with(&format!("\"{ID}\""))).is_ok());
        for id in ["7", "null", "\"7\"", "\"\""] {
            let error = encode(&decode(&with(id)).unwrap_err());
            assert!(error.starts_with(r#"{"type":"error","code":"bad_json""#), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_message_it_answers() {
        let broken = format!(r#"{{"type":"message","id":"{ID}","room":"rust"}}"#);
        let error = encode(&decode(&broken).unwrap_err());
        assert!(error.contains(&format!(r#""id":"{ID}""#)), "{error}");
    }

    #[test]
    fn a_list_is_no_event() {
        let error = encode(&decode(r#"["hello","ada",null]"#).unwrap_err());
        assert!(error.contains("bad_json"), "{error}");
    }

    #[test]
    fn only_what_can_be_tried_again_says_when() {
        let json = encode(&ErrorCode::Unavailable.into());
        assert!(json.contains(r#""retry_after":1000"#), "{json}");
        let json = encode(&ErrorCode::IdConflict.into());
        assert!(!json.contains("retry_after") && !json.contains("\"id\""), "{json}");
    }

    #[test]
    fn a_message_is_one_flat_object_with_its_type_first() {
        let id = ID.parse().unwrap();
        let (room, from, text) = ("rust".to_owned(), "ada".to_owned(), "hi".to_owned());
        let said = Said { room, seq: 42, id, from, text, at: 7 };
        assert_eq!(
            encode(&ServerEvent::Message(said)),
            format!(
                r#"{{"type":"message","room":"rust","seq":42,"id":"{ID}","from":"ada","text":"hi","at":7}}"#
            )
        );
    }
}
// ANCHOR_END: all
