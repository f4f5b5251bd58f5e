// ANCHOR: all
//! Accounts and sessions that many servers share.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::accounts::Lifetime;
use crate::directory::{Account, Directory, MAX_SESSIONS, Newcomer, Session, SessionKey};
use crate::log::Answer;
use crate::protocol::millis;
use crate::shared::Shared;
use crate::shared::scripts::{SCRIPTS, call};
use crate::users::Call;

/// How often it is looked which sessions of open connections are still there.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// All accounts have one tag: whether a name is taken is a question to all of them.
const ACCOUNTS: &str = "accounts";

// ANCHOR: directory
impl Directory for Shared {
    fn is_taken<'a>(&'a self, key: &'a str, looks: &'a [String; 2]) -> BoxFuture<'a, Answer<bool>> {
        async {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(self.account_key(key));
            exists.arg(looks.each_ref().map(|look| self.look_key(look)).as_slice());
            self.link.ask::<u64>(&exists).await.map(|taken| taken > 0)
        }
        .boxed()
    }

    fn add_account(&self, newcomer: Newcomer, now: u64) -> BoxFuture<'_, Answer<bool>> {
        async move {
            let Newcomer { key, name, looks, password } = newcomer;
            let [small, capital] = looks.map(|look| self.look_key(&look));
            let mut add = call(&SCRIPTS.register, &[self.account_key(&key), small, capital]);
            self.link.ask(add.arg(key).arg(name).arg(password).arg(now)).await
        }
        .boxed()
    }

    fn account<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Answer<Option<Account>>> {
        async {
            let mut get = redis::cmd("HMGET");
            get.arg(self.account_key(key)).arg("name").arg("password");
            let (name, password): (Option<String>, Option<String>) = self.link.ask(&get).await?;
            Ok(name.zip(password).map(|(name, password)| Account { name, password }))
        }
        .boxed()
    }

    fn begin_session<'a>(
        &'a self,
        session: SessionKey,
        account: &'a str,
        now: u64,
    ) -> BoxFuture<'a, Answer<Vec<SessionKey>>> {
        async move {
            let mut name = redis::cmd("HGET");
            name.arg(self.account_key(account)).arg("name");
            let name: Option<String> = self.link.ask(&name).await?;
            let (key, hex) = (self.session_key(&session), hex(&session));
            let list = self.link.key(&format!("u:{account}"), "sessions");
            // The session before its place on the list: one that is on none ends by itself.
            let mut begin = redis::pipe();
            begin.hset_multiple(
                &key,
                &[
                    ("name", name.as_deref().unwrap_or(account)),
                    ("account", account),
                    ("created", &now.to_string()),
                    ("used", &now.to_string()),
                ],
            );
            let Lifetime { max, idle } = self.lifetime;
            begin.ignore().pexpire(&key, millis(max.min(idle)).cast_signed()).ignore();
            let mut add = call(&SCRIPTS.sessions, &[list]);
            add.arg(hex).arg(now).arg(MAX_SESSIONS).arg(millis(max));
            begin.add_command(add);
            let (surplus,): (Vec<String>,) = self.link.ask_all(&begin).await?;
            let surplus: Vec<SessionKey> = surplus.iter().filter_map(|hex| unhex(hex)).collect();
            for session in &surplus {
                self.end_session(*session).await?;
            }
            Ok(surplus)
        }
        .boxed()
    }

    fn session(&self, session: SessionKey) -> BoxFuture<'_, Answer<Option<Session>>> {
        async move {
            let mut get = redis::cmd("HMGET");
            get.arg(self.session_key(&session)).arg("name").arg("created").arg("used");
            let (name, created, used): (Option<String>, Option<u64>, Option<u64>) =
                self.link.ask(&get).await?;
            let found = name.zip(created.zip(used));
            Ok(found.map(|(name, (created, used))| Session { name, created, used }))
        }
        .boxed()
    }

    fn touch(&self, sessions: Vec<SessionKey>, now: u64) -> BoxFuture<'_, Answer<Vec<SessionKey>>> {
        async move {
            let (mut touch, Lifetime { max, idle }) = (redis::pipe(), self.lifetime);
            for session in &sessions {
                let mut note = call(&SCRIPTS.touch, &[self.session_key(session)]);
                note.arg(now).arg(millis(max)).arg(millis(idle));
                touch.add_command(note);
            }
            let found: Vec<bool> = self.link.ask_all(&touch).await?;
            let gone = sessions.into_iter().zip(found).filter(|(_, is_there)| !is_there);
            Ok(gone.map(|(session, _)| session).collect())
        }
        .boxed()
    }

    fn check_every(&self) -> Option<Duration> {
        Some(CHECK_EVERY)
    }

    fn end_session(&self, session: SessionKey) -> BoxFuture<'_, Answer<()>> {
        async move {
            let key = self.session_key(&session);
            let mut account = redis::cmd("HGET");
            let account: Option<String> = self.link.ask(account.arg(&key).arg("account")).await?;
            let mut end = redis::pipe();
            end.del(&key).ignore();
            if let Some(account) = account {
                let list = self.link.key(&format!("u:{account}"), "sessions");
                end.zrem(list, hex(&session)).ignore();
                // Its connections may be anywhere.
                end.add_command(self.attendance.call(&account, &Call::SignedOut(session))).ignore();
            }
            self.link.ask_all(&end).await
        }
        .boxed()
    }

    /// Redis throws them away by itself.
    fn delete_sessions(&self, _began: u64, _used: u64) -> BoxFuture<'_, Answer<usize>> {
        async { Ok(0) }.boxed()
    }
}
// ANCHOR_END: directory

impl Shared {
    fn account_key(&self, key: &str) -> String {
        self.link.key(ACCOUNTS, &format!("account:{key}"))
    }

    fn look_key(&self, look: &str) -> String {
        self.link.key(ACCOUNTS, &format!("look:{look}"))
    }

    fn session_key(&self, session: &SessionKey) -> String {
        self.link.key(&format!("s:{}", hex(session)), "session")
    }
}

fn hex(session: &SessionKey) -> String {
    session.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<SessionKey> {
    let byte = |n: usize| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok()
}
// ANCHOR_END: all
