//! What the person who starts the server may choose, by environment variables.

use std::env::{self, VarError};
use std::str::FromStr;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `HOST`: the address to listen on. The default, 127.0.0.1, is reachable from this machine only.
    pub host: String,
    /// `PORT`: the port to listen on; 0 takes any free one.
    pub port: u16,
    /// `MAX_MESSAGE_BYTES`: the longest message accepted, in bytes.
    pub max_message_bytes: usize,
    /// `MAX_CONNECTIONS`: how many clients may be connected at once.
    pub max_connections: u16,
}

impl Settings {
    /// Reads the settings from the environment.
    ///
    /// # Errors
    /// A sentence that names the variable, what it holds and what it should hold.
    pub fn from_env() -> Result<Self, String> {
        Ok(Self {
            host: read("HOST", "an address", "127.0.0.1".to_owned())?,
            port: read("PORT", "a number from 0 to 65535", 3001)?,
            max_message_bytes: read("MAX_MESSAGE_BYTES", "a number of bytes", 64 * 1024)?,
            max_connections: read("MAX_CONNECTIONS", "a number from 0 to 65535", 1000)?,
        })
    }
}

/// Reads one variable, or takes the default if it is not set.
fn read<T: FromStr>(name: &str, expected: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(text) => {
            text.parse().map_err(|_| format!("{name} is \"{text}\", but must be {expected}"))
        }
        Err(VarError::NotPresent) => Ok(default),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not text, but must be {expected}")),
    }
}
