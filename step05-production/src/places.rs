//! Where a reader is in its rooms, as text: the `id:` of an event stream and its `join=`.
//!
//! `rust/0b1c…/42,lobby` is room `rust`, read up to message 42 of that epoch, and room `lobby` from
//! its last messages. Only ASCII comes out, so that it fits into a header: other letters are
//! percent-encoded, as in a URL.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::protocol::{Cursor, ServerEvent};

/// What of a room's name is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b':');

/// The rooms of a reader, each with how far it has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(pub BTreeMap<String, Option<Cursor>>);

/// What an event changes about the places of its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is in a room, and has read it up to there.
    Joined(String, Cursor),
    /// It has read a room up to this message.
    Read(String, u64),
    /// It is no longer in a room.
    Left(String),
}

impl Moved {
    /// What this event changes.
    pub fn by(event: &ServerEvent) -> Option<Self> {
        match event {
            ServerEvent::Joined { room, epoch, seq, .. } => {
                Some(Self::Joined(room.clone(), Cursor { epoch: *epoch, after: *seq }))
            }
            ServerEvent::Message(said) => Some(Self::Read(said.room.clone(), said.seq)),
            ServerEvent::Left { room } => Some(Self::Left(room.clone())),
            ServerEvent::Welcome { .. }
            | ServerEvent::MemberJoined { .. }
            | ServerEvent::MemberLeft { .. }
            | ServerEvent::Ack { .. }
            | ServerEvent::Typing { .. }
            | ServerEvent::Rooms { .. }
            | ServerEvent::Status { .. }
            | ServerEvent::Reconnect { .. }
            | ServerEvent::Error { .. } => None,
        }
    }
}

impl Places {
    /// Takes in what an event has changed.
    pub fn take(&mut self, moved: &Moved) {
        match moved {
            Moved::Joined(room, cursor) => {
                self.0.insert(room.clone(), Some(*cursor));
            }
            Moved::Read(room, seq) => {
                if let Some(Some(cursor)) = self.0.get_mut(room) {
                    cursor.after = *seq;
                }
            }
            Moved::Left(room) => {
                self.0.remove(room);
            }
        }
    }
}

impl Display for Places {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, (room, cursor)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}", utf8_percent_encode(room, ENCODED))?;
            if let Some(Cursor { epoch, after }) = cursor {
                write!(f, "/{}/{after}", epoch.simple())?;
            }
        }
        Ok(())
    }
}

/// Text that is not a list of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlaces;

impl FromStr for Places {
    type Err = NoPlaces;

    fn from_str(text: &str) -> Result<Self, NoPlaces> {
        let entries = text.split(',').filter(|entry| !entry.is_empty());
        entries.map(place).collect::<Result<_, _>>().map(Self)
    }
}

/// Takes one entry apart.
fn place(entry: &str) -> Result<(String, Option<Cursor>), NoPlaces> {
    let mut parts = entry.split('/');
    let room = parts.next().unwrap_or_default();
    let room = percent_decode_str(room).decode_utf8().map_err(|_| NoPlaces)?.into_owned();
    let cursor = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => None,
        (Some(epoch), Some(after), None) => Some(Cursor {
            epoch: epoch.parse().map_err(|_| NoPlaces)?,
            after: after.parse().map_err(|_| NoPlaces)?,
        }),
        _ => return Err(NoPlaces),
    };
    Ok((room, cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "6ad14a5e9f3c4c1b8f3c0d6a3f0d9a11";

    fn places(text: &str) -> Places {
        text.parse().unwrap()
    }

    #[test]
    fn places_come_back_as_they_went_and_fit_into_a_header() {
        let text = format!("dm:ada:%D1%8F%D0%B4,lobby,rust/{EPOCH}/42");
        assert_eq!(places(&text).to_string(), text);
        assert!(places(&text).0.contains_key("dm:ada:яд"));
        assert_eq!(places("").to_string(), "");
        assert_eq!(
            places("rust/6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11/7"),
            places(&format!("rust/{EPOCH}/7"))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "rust/42",
            "rust/x/42",
            &format!("rust/{EPOCH}/-1"),
            &format!("rust/{EPOCH}/1/2"),
            "%ff",
        ] {
            assert_eq!(text.parse::<Places>(), Err(NoPlaces), "{text}");
        }
    }

    #[test]
    fn a_reader_moves_with_what_it_reads() {
        let mut places = places(&format!("lobby,rust/{EPOCH}/42"));
        let epoch = EPOCH.parse().unwrap();
        places.take(&Moved::Read("rust".to_owned(), 43));
        places.take(&Moved::Joined("go".to_owned(), Cursor { epoch, after: 7 }));
        assert_eq!(places.to_string(), format!("go/{EPOCH}/7,lobby,rust/{EPOCH}/43"));
        places.take(&Moved::Left("rust".to_owned()));
        assert_eq!(places.to_string(), format!("go/{EPOCH}/7,lobby"));
    }
}
