// ANCHOR: all
//! What travels: one JSON object in each text message, with its `type` first.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use warp::ws::Message;

// ANCHOR: client
/// What a client may send.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientEvent {
    /// "This is my name": the first event of every client.
    Hello {
        /// The name, as it was typed.
        name: String,
    },
    /// "Tell everyone."
    Message {
        /// What to tell.
        text: String,
    },
    /// Any other `type`.
    #[serde(other)]
    Unknown,
}
// ANCHOR_END: client

// ANCHOR: server
/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerEvent {
    /// The answer to `hello`.
    Welcome {
        /// This connection.
        id: Uuid,
        /// The name, as everyone will see it.
        name: String,
        /// Everyone who is here, the newcomer included.
        users: Vec<String>,
    },
    /// Somebody else has come.
    UserJoined {
        /// Who.
        name: String,
    },
    /// Somebody has left.
    UserLeft {
        /// Who.
        name: String,
    },
    /// Somebody said something.
    Message {
        /// This message.
        id: Uuid,
        /// Who said it.
        from: String,
        /// What they said.
        text: String,
        /// When the server took it, in milliseconds since 1970, as in `Date.now()`.
        at: u64,
    },
    /// The server could not do what the client asked. The connection stays open.
    Error {
        /// Which error it is, for programs.
        code: ErrorCode,
        /// The same in a sentence, for people.
        message: &'static str,
    },
}
// ANCHOR_END: server

// ANCHOR: errors
/// Why an event was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not a JSON object with the fields of its type.
    BadJson,
    /// A `type` that this server does not know.
    UnknownType,
    /// Something was sent before `hello`.
    HelloFirst,
    /// A second `hello`.
    Forbidden,
    /// A name against the rules.
    BadName,
    /// Somebody else has the name.
    NameTaken,
    /// A message without text.
    EmptyText,
    /// A message with too much text.
    TextTooLong,
}

impl ErrorCode {
    /// The sentence for people.
    fn sentence(self) -> &'static str {
        match self {
            Self::BadJson => "That is not a JSON object with the fields its type needs.",
            Self::UnknownType => "This server does not know events of that type.",
            Self::HelloFirst => "Say hello with a name first.",
            Self::Forbidden => "You have said hello already.",
            Self::BadName => "A name has 1 to 32 letters, digits, _ or -.",
            Self::NameTaken => "Somebody here has that name.",
            Self::EmptyText => "There is no text in that message.",
            Self::TextTooLong => "A message has 2,000 characters at most.",
        }
    }
}

impl From<ErrorCode> for ServerEvent {
    fn from(code: ErrorCode) -> Self {
        Self::Error { code, message: code.sentence() }
    }
}
// ANCHOR_END: errors

// ANCHOR: travel
/// Reads an event from a message.
///
/// # Errors
/// `bad_json` or `unknown_type`.
pub fn decode(message: &Message) -> Result<ClientEvent, ErrorCode> {
    // A binary message has no text, and JSON is due.
    let text = message.to_str().map_err(|()| ErrorCode::BadJson)?;
    // First an object, then an event: serde alone would take the list ["hello","ada"] as well.
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| ErrorCode::BadJson)?;
    match serde_json::from_value(Value::Object(object)) {
        Ok(ClientEvent::Unknown) => Err(ErrorCode::UnknownType),
        Ok(event) => Ok(event),
        Err(_) => Err(ErrorCode::BadJson),
    }
}

/// Writes an event into a message.
pub fn encode(event: &ServerEvent) -> Message {
    // Text, numbers and lists of them always have a JSON form: the default is never used.
    Message::text(serde_json::to_string(event).unwrap_or_default())
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
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
// ANCHOR_END: travel
// ANCHOR_END: all
