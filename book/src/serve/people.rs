//! The two people of a panel, and how they sign in where a cookie says who one is.
//!
//! From milestone 5 on a name belongs to an account. The book registers its two people there, with a
//! password that nobody has to know, and hands the browser the cookies. A browser sends a cookie to
//! all ports of a host, so the book can set those that the clients in the frames send.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::tests::raw::{self, Answer};
use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

/// Who they are: the name of the client, and that of the person.
pub const PEOPLE: [(&str, &str); 2] = [("a", "ada"), ("b", "grace")];

/// How long the milestone may take for an answer. A password takes a moment to check.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many seconds the browser keeps a cookie: each start of the book has new wires, and leaves those
/// of the old ones behind.
const A_DAY: u32 = 24 * 60 * 60;

/// The accounts of the two.
#[derive(Debug)]
pub struct Accounts {
    /// Where the milestone is. No wire leads there: a reader may have cut it.
    milestone: SocketAddr,
    password: String,
}

impl Accounts {
    /// Accounts at a milestone that keep their password in this file: the accounts outlive the book.
    pub fn new(milestone: SocketAddr, password_file: &Path) -> Self {
        let kept = fs::read_to_string(password_file).ok().filter(|password| !password.is_empty());
        let password = kept.unwrap_or_else(|| {
            let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            // Where nothing can be written, the milestone can't keep the accounts either.
            let _for_this_time = keep(password_file, &password);
            password
        });
        Self { milestone, password }
    }

    /// Signs somebody in, and registers them first if there is no such account. Gives the cookie for
    /// the server that the browser knows as `host`.
    ///
    /// # Errors
    /// The milestone does not answer, or somebody else has the name.
    pub async fn sign_in(&self, name: &str, host: &str) -> Result<String> {
        // Once more at the end: two pages that open at once may register the same name.
        for path in ["/api/login", "/api/register", "/api/login"] {
            let answer = timeout(PATIENCE, self.post(path, name, host)).await;
            let answer = answer.context("no answer")?.context("no connection")?;
            if let Some(cookie) = answer.header("set-cookie") {
                return Ok(for_a_day(cookie));
            }
        }
        bail!(
            "the account {name} has another password than .learn/panel-password (to begin afresh, stop `cargo learn` and delete .learn/step05-production)"
        )
    }

    async fn post(&self, path: &str, name: &str, host: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.milestone).await?;
        let body = json!({"name": name, "password": self.password}).to_string();
        let headers = [("Content-Type", "application/json")];
        raw::request_on(stream, host, "POST", path, &headers, &body).await
    }
}

/// Writes a file that only its owner can read.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text.as_bytes())
}

/// The same cookie, but the browser forgets it after a day.
fn for_a_day(cookie: &str) -> String {
    let is_age = |part: &&str| part.trim().to_ascii_lowercase().starts_with("max-age=");
    let parts: Vec<&str> = cookie.split(';').filter(|part| !is_age(part)).collect();
    format!("{}; Max-Age={A_DAY}", parts.join(";"))
}

#[cfg(test)]
mod tests {
    use ::tests::program::Scratch;

    use super::*;

    #[test]
    fn a_cookie_keeps_everything_but_its_age() {
        let cookie = "session-4711=70cen; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000";
        let wanted = "session-4711=70cen; Path=/; HttpOnly; SameSite=Lax; Max-Age=86400";
        assert_eq!(for_a_day(cookie), wanted);
    }

    #[test]
    fn the_password_is_made_once_and_for_nobody_elses_eyes() {
        let folder = Scratch::new();
        let file = folder.path().join("password");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let first = Accounts::new(nowhere, &file).password;
        assert_eq!(first.len(), 64);
        assert_eq!(Accounts::new(nowhere, &file).password, first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
