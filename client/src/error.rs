// ANCHOR: all
//! What can go wrong on a message's way, each with what was wanted, what came, and what to do.

use std::fmt;
use std::io;
use std::time::Duration;

// ANCHOR: error
/// Why a connection could not be opened, or did not last.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of a WebSocket.
    #[error("can't open {url:?}: {problem}; write it like ws://127.0.0.1:3003/ws")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An `Origin` that cannot stand in a header.
    #[error("{0:?} can't be sent as an origin: write it like http://localhost:3000")]
    BadOrigin(String),
    /// A token that cannot stand in a header.
    #[error("that is not a token: a server makes them of letters and digits")]
    BadToken,
    /// The address has no program behind it.
    #[error("nobody is listening at {address}: start the server, or look at the port in the URL")]
    NobodyListening {
        /// Host and port.
        address: String,
    },
    /// There is no way to the address.
    #[error("can't reach {address} ({source}): look at the host in the URL, and at the network")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server took the connection and then kept quiet.
    #[error(
        "{address} has not opened a WebSocket within {} seconds: is it a WebSocket server, and is it alive?",
        .limit.as_secs_f32()
    )]
    HandshakeTimeout {
        /// Host and port.
        address: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The server answered with an HTTP status of its own instead of 101.
    #[error("{url} was refused with HTTP {status}: {}", advice(*.status))]
    Refused {
        /// What we wanted to open.
        url: String,
        /// The status.
        status: u16,
        /// How long to stay away, if the server has said so.
        retry_after: Option<Duration>,
    },
    /// The server speaks, but not WebSocket.
    #[error(
        "{address} does not answer like a WebSocket server ({source}): look at the port in the URL"
    )]
    NotWebSocket {
        /// Host and port.
        address: String,
        /// What was wrong with its answer.
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// The server's answer to a plain request is not HTTP, or not what was asked for.
    #[error("{address} does not answer like a chat ({problem}): look at the port in the URL")]
    BadAnswer {
        /// Host and port.
        address: String,
        /// What was wrong with its answer.
        problem: &'static str,
    },
    /// An event too long to send. The connection stays open.
    #[error(
        "that makes {bytes} bytes, and a server takes {limit} at most: send it in smaller parts"
    )]
    TooLong {
        /// How long it was.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A message that is no event of the protocol. The connection stays open.
    #[error("the server sent something that is not an event I can read ({problem}): {came}")]
    BadEvent {
        /// What came, cut short if it is long.
        came: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A message longer than [`Options::max_received_bytes`](crate::Options). The connection is over.
    #[error("the server sent more than this client takes at once ({problem})")]
    TooBig {
        /// How much it was, and how much it may be.
        problem: String,
    },
    /// The server ended the conversation.
    #[error("the server closed the connection with {0}")]
    Closed(Close),
    /// The server does not take us under this name, or not at all.
    #[error("the server does not let us in: {message} ({code})")]
    NotWelcome {
        /// Which error it is, for programs.
        code: String,
        /// The server's own sentence.
        message: String,
        /// How long to stay away, if the server has said so.
        retry_after: Option<Duration>,
    },
    /// Not even a ping has come, for longer than a living server is quiet.
    #[error(
        "nothing has come from the server for {} seconds: it, or the network, is gone",
        .limit.as_secs_f32()
    )]
    Silent {
        /// How long we waited.
        limit: Duration,
    },
    /// Something that we sent has no answer.
    #[error(
        "the server has not answered within {} seconds: is it a chat, and is it alive?",
        .limit.as_secs_f32()
    )]
    NoAnswer {
        /// How long we waited.
        limit: Duration,
    },
    /// The connection ended without a goodbye.
    #[error(
        "the connection was lost ({problem}): the server or the network is gone; connect again"
    )]
    Lost {
        /// What the WebSocket library said.
        problem: String,
    },
}
// ANCHOR_END: error

impl Error {
    /// Whether the same may work later. If not, trying again is of no use to anybody.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Closed(close) => close.is_passing(),
            // Too early and too often are a matter of time, all others of the 400s are ours.
            Self::Refused { status, .. } => {
                !(400..500).contains(status) || matches!(status, 408 | 425 | 429)
            }
            Self::NotWelcome { code, .. } => code == "unavailable" || code == "rate_limited",
            Self::BadUrl { .. } | Self::BadOrigin(_) | Self::BadToken | Self::TooLong { .. } => {
                false
            }
            Self::NobodyListening { .. }
            | Self::Unreachable { .. }
            | Self::HandshakeTimeout { .. }
            | Self::NotWebSocket { .. }
            | Self::BadAnswer { .. }
            | Self::BadEvent { .. }
            | Self::TooBig { .. }
            | Self::Silent { .. }
            | Self::NoAnswer { .. }
            | Self::Lost { .. } => true,
        }
    }

    /// Whether the server wants us to sign in, or to sign in again: what we have is of no use to it.
    pub fn wants_sign_in(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status == 401,
            Self::Closed(close) => close.code == 4501,
            Self::NotWelcome { code, .. } => code == "unauthorized",
            _ => false,
        }
    }

    /// How long the server wants us to stay away, if it has said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::NotWelcome { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// A message that cannot be read, with enough of it to recognize it.
    pub(crate) fn bad_event(came: &str, problem: String) -> Self {
        const KEPT_CHARS: usize = 200;
        let mut start: String = came.chars().take(KEPT_CHARS).collect();
        if start.len() < came.len() {
            start.push('…');
        }
        Self::BadEvent { came: start, problem }
    }
}

/// What to do about a refused handshake.
fn advice(status: u16) -> &'static str {
    match status {
        200..=299 => "that is a web page, not a WebSocket; the chat's is at /ws",
        300..=399 => "it has moved, and a WebSocket does not follow; use the new address",
        401 => "the server wants you to sign in; if you have, sign in again",
        403 => "the server does not take connections from this origin",
        404 => "the server has nothing there; try /ws, or look at the namespace after /ws/",
        429 => "too many connections or tries; wait a little, then try again",
        503 => "the server is full or about to stop; try again later",
        500..=599 => "the server, or a proxy before it, is in trouble; look at its log",
        _ => "look at the URL",
    }
}

// ANCHOR: close
/// The close frame with which the server ended the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code: 1000 to 1015 by [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1),
    /// 4000 to 4999 by our protocol. 1005 if the frame had none.
    pub code: u16,
    /// The server's own words, often empty.
    pub reason: String,
}

impl Close {
    /// Whether the server wants us back. Our protocol has two bands of codes, so that a client
    /// knows what to do about one that is newer than itself.
    pub fn is_passing(&self) -> bool {
        !(4500..5000).contains(&self.code)
    }

    /// What the code means, in words.
    pub fn meaning(&self) -> &'static str {
        match self.code {
            1000 => "goodbye",
            1001 => "the server is going away",
            1002 => "the server says that we broke the WebSocket protocol",
            1003 => "the server does not take that kind of data",
            1005 => "no code given",
            1007 => "the server got text that is not UTF-8",
            1008 => "against the server's rules",
            1009 => "the message was too big",
            1011 => "the server ran into an error",
            1012 => "the server is restarting, connect again in a moment",
            1013 => "the server is busy, try again later",
            4008 => "this client read too slowly, connect again",
            4029 => "too many messages at once, connect again and slow down",
            4500 => "a newer connection has taken the place of this one",
            4501 => "sign in again",
            // A newer server's code: its band says what to do.
            code if (4000..4500).contains(&code) => "for now, connect again",
            code if (4500..5000).contains(&code) => "for good, don't connect again",
            _ => "a code I don't know",
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}: {}", self.code, self.meaning())?;
        match self.reason.as_str() {
            "" => Ok(()),
            reason if reason == self.meaning() => Ok(()),
            reason => write!(f, " ({reason})"),
        }
    }
}
// ANCHOR_END: close

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: u16, reason: &str) -> String {
        Close { code, reason: reason.to_owned() }.to_string()
    }

    #[test]
    fn a_close_is_told_with_its_code_its_meaning_and_its_reason() {
        assert_eq!(close(1001, ""), "code 1001: the server is going away");
        assert_eq!(
            close(4008, "too slow"),
            "code 4008: this client read too slowly, connect again (too slow)"
        );
    }

    #[test]
    fn new_codes_fall_into_the_two_bands() {
        assert_eq!(close(4123, ""), "code 4123: for now, connect again");
        assert_eq!(close(4777, ""), "code 4777: for good, don't connect again");
        assert_eq!(close(3333, ""), "code 3333: a code I don't know");
    }

    #[test]
    fn only_the_upper_band_says_stay_away() {
        for (code, is_passing) in
            [(1001, true), (1012, true), (4008, true), (4499, true), (4500, false), (4999, false)]
        {
            let error = Error::Closed(Close { code, reason: String::new() });
            assert_eq!(error.is_passing(), is_passing, "{code}");
        }
    }

    #[test]
    fn a_refusal_for_good_is_told_from_one_for_now() {
        for (status, is_passing) in
            [(401, false), (403, false), (404, false), (429, true), (502, true), (503, true)]
        {
            let error = Error::Refused { url: String::new(), status, retry_after: None };
            assert_eq!(error.is_passing(), is_passing, "{status}");
            assert_eq!(error.wants_sign_in(), status == 401);
        }
    }

    #[test]
    fn what_came_is_cut_short_between_characters() {
        let error = Error::bad_event(&"é".repeat(300), "not JSON".to_owned()).to_string();
        assert!(error.ends_with(&format!(": {}…", "é".repeat(200))), "{error}");
    }
}
// ANCHOR_END: all
