//! How a WebSocket ends.

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::outbox::{Close, End};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it, or is gone.
    Left,
    /// The client has not answered a ping.
    Silent,
    /// The client began a message and did not finish it, in time or in so many parts.
    Unfinished,
    /// The client did not read what it was sent.
    TooSlow,
    /// The client went on sending more than anybody may.
    Flooding,
    /// The same client has come back on another connection.
    Replaced,
    /// The session was signed out, or has ended.
    SignedOut,
    /// The client broke the rules of WebSocket in the way that this close code says.
    Broken(u16),
    /// The server is stopping.
    Stopping,
}

impl Ending {
    /// What an error of the library means for the connection.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Broken(1009),
            Error::Utf8(_) => Self::Broken(1007),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Left,
            Error::Protocol(_) => Self::Broken(1002),
            _ => Self::Left,
        }
    }

    /// The close frame that tells the client, if it can still hear it.
    pub fn close(self) -> Option<Close> {
        match self {
            Self::Left | Self::Silent => None,
            Self::Unfinished => Some(Close { code: 1008, reason: "a message was not finished" }),
            Self::TooSlow => Some(Close::TOO_SLOW),
            Self::Flooding => Some(Close::FLOODING),
            Self::Replaced => Some(Close::REPLACED),
            Self::SignedOut => Some(Close::SIGNED_OUT),
            Self::Broken(code) => Some(Close { code, reason: "" }),
            Self::Stopping => Some(Close::RESTARTING),
        }
    }
}

impl From<End> for Ending {
    fn from(end: End) -> Self {
        match end {
            End::TooSlow => Self::TooSlow,
            End::Said | End::Gone => Self::Left,
        }
    }
}
