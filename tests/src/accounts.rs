//! Accounts, from milestone 5 on: how a scenario registers people and signs them in.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::event::{is, text};
use crate::raw::Answer;
use crate::scenario::Check;
use crate::scene::{Scene, status};

/// What a body of JSON says it is.
pub const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Scene {
    /// The password of somebody in this scenario.
    pub fn password(&self, base: &str) -> String {
        format!("the password of {base} in {}", self.tag)
    }

    /// What somebody registers and signs in with.
    pub fn credentials(&self, base: &str) -> Value {
        json!({"name": self.name(base), "password": self.password(base)})
    }

    /// Sends a POST with a body of JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Check<Answer> {
        self.http_with("POST", path, &[&[JSON], headers].concat(), &body.to_string()).await
    }

    /// Registers an account, unless it is there already. A server that somebody else has started may
    /// say that this is too much at once; then it is tried again when the server says so.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn register(&self, base: &str) -> Check {
        let mut answer = self.post("/api/register", &[], &self.credentials(base)).await?;
        while answer.status == 429 && self.program().is_err() {
            sleep(retry_after(&answer)).await;
            answer = self.post("/api/register", &[], &self.credentials(base)).await?;
        }
        self.journal.wait_for("status 201, or 409 for an account that is there already");
        let is_there = [201, 409].contains(&answer.status);
        if is_there { Ok(()) } else { Err(self.mismatch(&status(&answer))) }
    }

    /// Signs in as a program does, and gives the token. Each time it is another session.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn sign_in(&self, base: &str) -> Check<String> {
        let answer = self.post("/api/token", &[], &self.credentials(base)).await?;
        let body = self.json(&answer, 200)?;
        Ok(text(&body, "token").to_owned())
    }

    /// Signs in as a page does, and gives the cookie: `name=value`.
    ///
    /// # Errors
    /// The server refuses, or sets no cookie.
    pub async fn sign_in_by_cookie(&self, base: &str) -> Check<String> {
        let answer = self.post("/api/login", &[], &self.credentials(base)).await?;
        self.json(&answer, 200)?;
        self.cookie_of(&answer)
    }

    /// The cookie that an answer sets.
    ///
    /// # Errors
    /// It sets none.
    pub fn cookie_of(&self, answer: &Answer) -> Check<String> {
        self.journal.wait_for("a Set-Cookie");
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        cookie.map(str::to_owned).ok_or_else(|| self.mismatch("no cookie"))
    }

    /// The token of the one session in which somebody uses this scenario; registers where needed.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn token(&self, base: &str) -> Check<String> {
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(base) {
            return Ok(token.clone());
        }
        self.register(base).await?;
        let token = self.sign_in(base).await?;
        tokens.insert(base.to_owned(), token.clone());
        Ok(token)
    }

    /// Signs somebody in who will connect later, where that takes an account.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn prepare(&self, base: &str) -> Check {
        if self.milestone < 5 { Ok(()) } else { self.token(base).await.map(drop) }
    }

    /// The same as the value of an `Authorization` header.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn bearer(&self, base: &str) -> Check<String> {
        Ok(format!("Bearer {}", self.token(base).await?))
    }

    /// The JSON in an answer that must have this status.
    ///
    /// # Errors
    /// It has another.
    pub fn json(&self, answer: &Answer, wanted: u16) -> Check<Value> {
        self.journal.wait_for(&format!("status {wanted} with JSON"));
        let body = serde_json::from_str(&answer.body).ok();
        let body = body.filter(|_| answer.status == wanted);
        body.ok_or_else(|| self.mismatch(&status(answer)))
    }

    /// An answer must have this status, and an error with this code in its body.
    ///
    /// # Errors
    /// It has not.
    pub fn is_error(&self, answer: &Answer, wanted: u16, code: &str) -> Check<Value> {
        let error = self.json(answer, wanted)?;
        self.journal.wait_for(&format!("status {wanted} and `error` with code `{code}`"));
        let is_right = is(&error, "error") && text(&error, "code") == code;
        if is_right { Ok(error) } else { Err(self.mismatch(&status(answer))) }
    }

    /// An answer must have this status.
    ///
    /// # Errors
    /// It has another.
    pub fn has_status(&self, answer: &Answer, wanted: u16) -> Check {
        self.journal.wait_for(&format!("status {wanted}"));
        if answer.status == wanted { Ok(()) } else { Err(self.mismatch(&status(answer))) }
    }
}

/// How long an answer asks to wait; a second if it does not say.
fn retry_after(answer: &Answer) -> Duration {
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
