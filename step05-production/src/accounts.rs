// ANCHOR: all
//! Accounts: who may sign in, and the sessions of those who have.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::directory::{Directory, Newcomer, Session};
use crate::live::Registry;
use crate::log::{Answer, Unavailable};
use crate::lookalikes;
use crate::names;
use crate::password::{self, Hasher, Turn};
use crate::protocol::{ErrorCode, millis, now};

pub use crate::directory::SessionKey;
pub use crate::live::Live;

/// How often it is looked which sessions have ended. Their connections end within a second.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Of how many sessions the use is noted at once, so that no ack waits long for it.
const NOTED: usize = 500;

/// How often the sessions that have ended are deleted.
const DELETE_EVERY: Duration = Duration::from_secs(600);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// At most.
    pub max: Duration,
    /// When nobody uses them.
    pub idle: Duration,
}

/// All accounts. Clones reach the same ones.
#[derive(Clone)]
pub struct Accounts {
    directory: Arc<dyn Directory>,
    lifetime: Lifetime,
    hasher: Arc<Hasher>,
    live: Arc<Registry>,
}

/// What signs a program or a browser in. Whoever has it is that user, so it is shown to nobody
/// else, and stored nowhere: the log has its hash.
pub struct Token(String);

/// One who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The name, as everyone sees it.
    pub name: String,
    /// Which session it is.
    pub session: SessionKey,
    /// When it ends at the latest, in milliseconds since 1970.
    pub ends: u64,
}

impl Accounts {
    /// The accounts that are in a directory.
    pub fn new(directory: Arc<dyn Directory>, lifetime: Lifetime) -> Self {
        Self { directory, lifetime, hasher: Arc::new(Hasher::new()), live: Arc::default() }
    }

    /// How long sessions last.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Waits for the turn to compute one hash. Whoever limits how often passwords are tried has to
    /// look after this: many may have waited at once.
    ///
    /// # Errors
    /// `unavailable`, if too many wait already.
    pub async fn turn(&self) -> Result<Turn, ErrorCode> {
        self.hasher.turn().await
    }

    /// Makes an account, and gives its name as everyone sees it.
    ///
    /// # Errors
    /// `bad_name`, `bad_password`, `name_taken` or `unavailable`.
    pub async fn register(&self, name: &str, password: &str) -> Result<String, ErrorCode> {
        let name = names::normalize(name)?;
        password::check_length(password)?;
        let (key, looks) = (names::key(&name), lookalikes::looks(&name));
        if lookalikes::is_reserved(&name) || self.directory.is_taken(&key, &looks).await? {
            return Err(ErrorCode::NameTaken);
        }
        let password = self.hasher.hash(self.turn().await?, password.to_owned()).await?;
        let newcomer = Newcomer { key, name: name.clone(), looks, password };
        // Somebody else may have taken the name meanwhile.
        let is_new = self.directory.add_account(newcomer, now()).await?;
        if is_new { Ok(name) } else { Err(ErrorCode::NameTaken) }
    }

    /// Checks a password, and gives the account's name as everyone sees it.
    ///
    /// # Errors
    /// `unauthorized` if there is no such account or it has another password: nobody learns which
    /// of the two. Or `unavailable`.
    pub async fn check(&self, name: &str, password: &str) -> Result<String, ErrorCode> {
        self.check_in_turn(self.turn().await?, name, password).await
    }

    /// The same for one who has waited for a turn.
    ///
    /// # Errors
    /// As [`Accounts::check`].
    pub async fn check_in_turn(
        &self,
        turn: Turn,
        name: &str,
        password: &str,
    ) -> Result<String, ErrorCode> {
        // No account has such a password. That takes less time, and tells nothing about accounts.
        password::check_length(password).map_err(|_| ErrorCode::Unauthorized)?;
        let key = names::key(&names::normalize(name).unwrap_or_default());
        let account = self.directory.account(&key).await?;
        let (name, hash) = account.map(|account| (account.name, account.password)).unzip();
        let is_right = self.hasher.verify(turn, password.to_owned(), hash).await;
        name.filter(|_| is_right).ok_or(ErrorCode::Unauthorized)
    }

    /// The name of an account as everyone sees it, if there is one of that name.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn name_of(&self, name: &str) -> Answer<Option<String>> {
        let Ok(name) = names::normalize(name) else { return Ok(None) };
        let account = self.directory.account(&names::key(&name)).await?;
        Ok(account.map(|account| account.name))
    }
}

impl Accounts {
    /// Begins a session, and gives its token and when it ends at the latest, in milliseconds since
    /// 1970. An account has so many sessions at most; one more ends the oldest.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn begin_session(&self, name: &str) -> Result<(Token, u64), ErrorCode> {
        let (token, began) = (Token::new(), now());
        let (session, account) = (key(token.as_str()), names::key(name));
        for ended in self.directory.begin_session(session, &account, began).await? {
            self.live.end(ended, now());
        }
        Ok((token, began.saturating_add(millis(self.lifetime.max))))
    }

    /// Who a token signs in, if anybody.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn signed_in(&self, token: &str) -> Answer<Option<SignedIn>> {
        let session = key(token);
        let Some(found) = self.directory.session(session).await? else {
            return Ok(None);
        };
        let (Session { name, created, used }, now) = (found, now());
        let ends = created.saturating_add(millis(self.lifetime.max));
        if now >= ends || now >= used.saturating_add(millis(self.lifetime.idle)) {
            return Ok(None);
        }
        if used <= self.note_before(now) {
            // While nothing can be written, nobody is sent away for that.
            let _ = self.directory.touch(vec![session], now).await;
        }
        Ok(Some(SignedIn { name, session, ends }))
    }

    // ANCHOR: sign-out
    /// Ends a session, and its connections.
    ///
    /// # Errors
    /// `unavailable`: it has not ended.
    pub async fn sign_out(&self, session: SessionKey) -> Result<(), ErrorCode> {
        self.directory.end_session(session).await?;
        self.live.end(session, now());
        Ok(())
    }
    // ANCHOR_END: sign-out

    /// Ends the connections of a session that has ended elsewhere.
    pub fn signed_out(&self, session: SessionKey) {
        self.live.end(session, now());
    }

    /// Looks soon whether the sessions of all connections are still there.
    pub fn doubt(&self) {
        self.live.doubt();
    }

    /// Adds a connection to a session: it hears when the session ends, and keeps it in use.
    pub fn watch(&self, signed_in: &SignedIn) -> Live {
        // If it may have ended elsewhere since somebody looked, it is looked once more.
        let noted = if self.directory.check_every().is_some() { 0 } else { now() };
        self.live.add(signed_in.session, signed_in.ends, noted)
    }

    /// A use is noted again when the last note is older than this, so not for each request.
    fn note_before(&self, now: u64) -> u64 {
        now.saturating_sub(millis(self.lifetime.idle / 20))
    }
}

impl Accounts {
    /// Ends sessions whose time is over, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.sweep(), self.delete()) };
        stop.run_until_cancelled(both).await;
    }

    async fn sweep(&self) {
        loop {
            sleep(SWEEP_EVERY).await;
            self.live.end_expired(now());
            while self.note().await {}
        }
    }

    /// Notes that sessions are in use, and ends those that have ended elsewhere. Tells whether to go
    /// on at once.
    async fn note(&self) -> bool {
        let (now, every) = (now(), self.directory.check_every());
        let before = now.saturating_sub(every.map_or(u64::MAX, millis));
        let used = self.live.unnoted(before.max(self.note_before(now)), now, NOTED);
        if used.is_empty() {
            return false;
        }
        let is_full = used.len() == NOTED;
        match self.directory.touch(used, now).await {
            Ok(gone) => {
                gone.into_iter().for_each(|session| self.live.end(session, now));
                is_full && every.is_some()
            }
            Err(Unavailable) => {
                // While nobody knows which sessions there are, nobody is sent away.
                every.is_some().then(|| self.live.doubt());
                false
            }
        }
    }

    async fn delete(&self) {
        loop {
            let (now, Lifetime { max, idle }) = (now(), self.lifetime);
            let (began, used) = (now.saturating_sub(millis(max)), now.saturating_sub(millis(idle)));
            let _ = self.directory.delete_sessions(began, used).await;
            sleep(DELETE_EVERY).await;
        }
    }
}

impl Token {
    /// Makes one that nobody can guess: 244 random bits.
    fn new() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Unavailable> for ErrorCode {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

// ANCHOR: key
/// What the session of a token is found by. From the hash nobody gets back to the token.
fn key(token: &str) -> SessionKey {
    Sha256::digest(token).into()
}
// ANCHOR_END: key

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;
    use crate::embedded::Embedded;
    use crate::log::Log;

    const PASSWORD: &str = "correct horse";

    struct Scene {
        accounts: Accounts,
        log: Arc<Embedded>,
        dir: PathBuf,
    }

    impl Scene {
        fn new(max: Duration, idle: Duration) -> Self {
            let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
            let log = Arc::new(Embedded::open(&dir).unwrap());
            let accounts = Accounts::new(log.clone(), Lifetime { max, idle });
            tokio::spawn(accounts.clone().run(CancellationToken::new()));
            Self { accounts, log, dir }
        }

        fn lasting() -> Self {
            Self::new(Duration::from_secs(600), Duration::from_secs(600))
        }

        /// Registers somebody, signs them in, and gives their token.
        async fn enter(&self, name: &str) -> String {
            self.accounts.register(name, PASSWORD).await.unwrap();
            self.accounts.begin_session(name).await.unwrap().0.0
        }

        async fn who(&self, token: &str) -> Option<SignedIn> {
            self.accounts.signed_in(token).await.unwrap()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    async fn has_ended(live: &Live) -> bool {
        timeout(Duration::from_millis(50), live.ended()).await.is_ok()
    }

    #[tokio::test]
    async fn whoever_registers_can_sign_in_by_any_spelling() {
        let scene = Scene::lasting();
        let accounts = &scene.accounts;
        assert_eq!(accounts.register("Ada", PASSWORD).await.as_deref(), Ok("Ada"));
        assert_eq!(accounts.check("ADA", PASSWORD).await.as_deref(), Ok("Ada"));
        assert_eq!(accounts.check("ａｄａ", PASSWORD).await.as_deref(), Ok("Ada"));
        for (name, password) in [
            ("ada", "correct hors"),
            ("ada", "short"),
            ("grace", PASSWORD),
            ("not a name", PASSWORD),
        ] {
            assert_eq!(accounts.check(name, password).await, Err(ErrorCode::Unauthorized));
        }
        assert_eq!(accounts.name_of("aDA").await, Ok(Some("Ada".to_owned())));
        assert_eq!(accounts.name_of("grace").await, Ok(None));
        assert_eq!(accounts.name_of("a b").await, Ok(None));
    }

    #[tokio::test]
    async fn names_and_passwords_have_rules_and_each_name_is_given_once() {
        let scene = Scene::lasting();
        let register = |name: &'static str, password: &'static str| {
            let accounts = scene.accounts.clone();
            async move { accounts.register(name, password).await }
        };
        assert_eq!(register("a b", PASSWORD).await, Err(ErrorCode::BadName));
        assert_eq!(register("alice", "1234567").await, Err(ErrorCode::BadPassword));
        let (one, two) = tokio::join!(register("alice", PASSWORD), register("Alice", PASSWORD));
        let lost = if one.is_ok() { two } else { one };
        assert_eq!(lost, Err(ErrorCode::NameTaken));
        for taken in ["aIice", "аlice", "admin", "АDMIN"] {
            assert_eq!(register(taken, PASSWORD).await, Err(ErrorCode::NameTaken), "{taken}");
        }
    }

    #[tokio::test]
    async fn a_token_signs_in_until_it_is_signed_out() {
        let scene = Scene::lasting();
        let token = scene.enter("Ada").await;
        assert_eq!(token.len(), 64);
        let ada = scene.who(&token).await.unwrap();
        assert_eq!(ada.name, "Ada");
        assert_eq!(scene.who(&"0".repeat(64)).await, None);
        let live = scene.accounts.watch(&ada);
        assert!(!has_ended(&live).await);
        scene.accounts.sign_out(ada.session).await.unwrap();
        assert!(has_ended(&live).await);
        assert!(has_ended(&scene.accounts.watch(&ada)).await, "one that was about to begin");
        assert_eq!(scene.who(&token).await, None);
    }

    #[tokio::test]
    async fn the_file_has_no_token_and_no_password() {
        let scene = Scene::lasting();
        let token = scene.enter("ada").await;
        scene.log.close().await;
        let file = std::fs::read(scene.dir.join("chat.db")).unwrap();
        let contains = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(contains("$argon2id$"));
        assert!(!contains(&token) && !contains(PASSWORD));
    }

    #[tokio::test]
    async fn a_session_ends_when_its_time_is_over_even_if_it_is_used() {
        let scene = Scene::new(Duration::from_secs(1), Duration::from_secs(600));
        let token = scene.enter("ada").await;
        let ada = scene.who(&token).await.unwrap();
        let (live, began) = (scene.accounts.watch(&ada), Instant::now());
        live.ended().await;
        assert!((500..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert_eq!(scene.who(&token).await, None);
    }

    #[tokio::test]
    async fn a_session_that_nobody_uses_ends_and_a_connection_is_use() {
        let scene = Scene::new(Duration::from_secs(600), Duration::from_secs(2));
        let (one, two) = (scene.enter("ada").await, scene.enter("grace").await);
        let live = scene.accounts.watch(&scene.who(&one).await.unwrap());
        sleep(Duration::from_millis(2500)).await;
        assert!(scene.who(&one).await.is_some());
        assert_eq!(scene.who(&two).await, None);
        drop(live);
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(scene.who(&one).await, None);
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_sessions_ends_with_its_connections() {
        let scene = Scene::lasting();
        let token = scene.enter("ada").await;
        let live = scene.accounts.watch(&scene.who(&token).await.unwrap());
        sleep(Duration::from_millis(2)).await;
        for _ in 0..50 {
            scene.accounts.begin_session("ada").await.unwrap();
        }
        assert!(has_ended(&live).await);
        assert_eq!(scene.who(&token).await, None);
    }
}
// ANCHOR_END: all
