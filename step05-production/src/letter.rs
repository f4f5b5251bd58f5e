//! Events in the form in which they travel: made once, and shared by all who get them.

use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::outbox::Close;
use crate::places::Moved;
use crate::protocol::{ErrorCode, ServerEvent, encode};

/// An event, ready to be sent.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its JSON as a WebSocket frame. What a server sends is not masked, so one frame fits all.
    frame: Bytes,
    /// How much of that is JSON: all but the frame's header.
    length: usize,
    moved: Option<Arc<Moved>>,
    error: Option<ErrorCode>,
}

impl Letter {
    /// The whole frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The JSON in it.
    pub fn json(&self) -> &str {
        let start = self.frame.len() - self.length;
        // It was text when the frame was made of it: the default is never used.
        let json = self.frame.get(start..).unwrap_or_default();
        std::str::from_utf8(json).unwrap_or_default()
    }

    /// What it changes about how far its reader is.
    pub fn moved(&self) -> Option<&Moved> {
        self.moved.as_deref()
    }

    /// Which error it is, if it is one.
    pub fn error(&self) -> Option<ErrorCode> {
        self.error
    }
}

impl From<&ServerEvent> for Letter {
    fn from(event: &ServerEvent) -> Self {
        let error = match event {
            ServerEvent::Error { code, .. } => Some(*code),
            _ => None,
        };
        let (json, moved) = (encode(event), Moved::by(event).map(Arc::new));
        let length = json.len();
        let frame = bytes_of(Frame::message(json, OpCode::Data(Data::Text), true));
        Self { frame, length, moved, error }
    }
}

/// Letters in a row, and their frames in one piece: what a room sends to each of its members with
/// one call to the system.
#[derive(Debug, Clone)]
pub struct Batch {
    letters: Vec<Letter>,
    frames: Bytes,
}

impl Batch {
    /// The letters, in their order.
    pub fn letters(&self) -> &[Letter] {
        &self.letters
    }

    /// All frames.
    pub fn frames(&self) -> &Bytes {
        &self.frames
    }
}

impl From<Letter> for Batch {
    fn from(letter: Letter) -> Self {
        let frames = letter.frame.clone();
        Self { letters: vec![letter], frames }
    }
}

impl From<Vec<Letter>> for Batch {
    fn from(letters: Vec<Letter>) -> Self {
        let frames: Vec<&[u8]> = letters.iter().map(|letter| letter.frame.as_ref()).collect();
        let frames = frames.concat().into();
        Self { letters, frames }
    }
}

/// The frame of a ping.
pub fn ping() -> Bytes {
    bytes_of(Frame::ping(Bytes::new()))
}

/// The frame of a goodbye.
pub fn goodbye(close: Close) -> Bytes {
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    bytes_of(Frame::close(Some(frame)))
}

fn bytes_of(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to memory does not fail.
    let _ = frame.format(&mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(count: usize) -> Letter {
        let name = "x".repeat(60);
        let room = || crate::protocol::RoomInfo { name: name.clone(), members: 1 };
        let rooms = std::iter::repeat_with(room).take(count).collect();
        (&ServerEvent::Rooms { rooms }).into()
    }

    #[test]
    fn a_letter_is_a_frame_around_its_json() {
        // One for each of the three forms that a frame's length has.
        for (count, header) in [(0, 2), (10, 4), (1000, 10)] {
            let letter = rooms(count);
            assert_eq!(letter.frame().len() - letter.json().len(), header);
            assert!(letter.json().starts_with(r#"{"type":"rooms","rooms":["#));
            assert_eq!(letter.frame()[0], 0x81, "FIN, text");
        }
    }

    #[test]
    fn a_batch_is_its_letters_in_one_piece() {
        let batch = Batch::from(vec![rooms(1), rooms(2)]);
        assert_eq!(batch.frames().len(), rooms(1).frame().len() + rooms(2).frame().len());
        assert!(batch.frames().starts_with(rooms(1).frame()));
        assert_eq!(batch.letters().len(), 2);
    }

    #[test]
    fn control_frames_have_the_form_of_the_rfc() {
        assert_eq!(ping().as_ref(), [0x89, 0]);
        let close = goodbye(Close { code: 4008, reason: "slow" });
        assert_eq!(close.as_ref(), [&[0x88, 6, 0x0f, 0xa8], "slow".as_bytes()].concat());
    }
}
