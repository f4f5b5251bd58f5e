//! What the person who starts the server may choose, by environment variables.

use std::env::{self, VarError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How many seconds clients are given to leave: enough to spread the return of a few thousand, and
/// less than the 10 seconds after which Docker ends a program by force.
const DRAIN: u16 = 3;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `HOST`: the address to listen on. The default, 127.0.0.1, is reachable from this machine only.
    pub host: String,
    /// `PORT`: the port to listen on; 0 takes any free one.
    pub port: u16,
    /// `MAX_CONNECTIONS`: how many clients may be connected at once.
    pub max_connections: u16,
    /// `ALLOWED_ORIGINS`: the other sites whose pages may use this server, comma-separated.
    pub allowed_origins: Vec<String>,
    /// `DATA_DIR`: where the log is kept; made if it is missing.
    pub data_dir: PathBuf,
    /// `DRAIN_SECONDS`: over what time the clients are sent away when the server stops.
    pub drain: Duration,
}

impl Settings {
    /// Reads the settings from the environment.
    ///
    /// # Errors
    /// A sentence that names the variable, what it holds and what it should hold.
    pub fn from_env(default_port: u16) -> Result<Self, String> {
        let origins = read("ALLOWED_ORIGINS", "text", String::new())?;
        let drain: u16 = read("DRAIN_SECONDS", "a number from 0 to 65535", DRAIN)?;
        Ok(Self {
            host: read("HOST", "an address", "127.0.0.1".to_owned())?,
            port: read("PORT", "a number from 0 to 65535", default_port)?,
            max_connections: read("MAX_CONNECTIONS", "a number from 0 to 65535", 1000)?,
            allowed_origins: parse_origins(&origins)?,
            data_dir: read("DATA_DIR", "a directory", PathBuf::from("data"))?,
            drain: Duration::from_secs(drain.into()),
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

/// Takes a comma-separated list of origins apart.
fn parse_origins(list: &str) -> Result<Vec<String>, String> {
    let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
    origins.map(parse_origin).collect()
}

/// Takes an origin as browsers send it. A slash at its end, say, would never match one.
fn parse_origin(origin: &str) -> Result<String, String> {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_authority_char =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    match authority {
        Some(authority) if !authority.is_empty() && authority.chars().all(is_authority_char) => {
            Ok(origin.to_owned())
        }
        _ => Err(format!(
            "ALLOWED_ORIGINS has \"{origin}\", but an origin looks like https://chat.example or http://127.0.0.1:3000"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_split_and_trimmed() {
        let origins = parse_origins("https://chat.example, http://127.0.0.1:3000,").unwrap();
        assert_eq!(origins, ["https://chat.example", "http://127.0.0.1:3000"]);
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for wrong in [
            "chat.example",
            "https://chat.example/",
            "https://",
            "http://a;b",
            "https://Chat.example",
        ] {
            assert!(parse_origins(wrong).is_err(), "{wrong}");
        }
    }
}
