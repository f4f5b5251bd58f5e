// ANCHOR: all
//! Passwords: only their hash is kept, and to compute one takes long on purpose.
//!
//! [argon2id](https://www.rfc-editor.org/rfc/rfc9106) fills 19 MiB and takes some 20 ms: nothing for
//! one who signs in, and too much for one who tries a billion. It must not hold up the chat, so it
//! has threads of its own, as many at once as the machine has cores, and a bounded queue.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use crate::protocol::ErrorCode;
use crate::telemetry;

/// How many characters a password may have. Long ones are good; one without end is an attack.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;

/// How long a hash is, in bytes.
const LENGTH_OF_HASH: usize = 32;

/// How many may wait for their turn. Who finds no place comes back later.
const WAITING: usize = 32;

/// Checks the length of a password that somebody chooses.
///
/// # Errors
/// `bad_password`, unless it has 8 to 256 characters.
pub fn check_length(password: &str) -> Result<(), ErrorCode> {
    let fits = LENGTH.contains(&password.chars().count());
    if fits { Ok(()) } else { Err(ErrorCode::BadPassword) }
}

/// What computes hashes.
pub struct Hasher {
    /// One permit for each who computes or waits.
    places: Arc<Semaphore>,
    /// One permit for each who computes.
    cores: Arc<Semaphore>,
    /// What the threads are to do.
    work: Sender<Work>,
    /// The hash that is checked for a name that nobody has, so that this takes as long.
    nobody: String,
}

/// Something to compute.
type Work = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// The right to compute one hash now.
pub struct Turn {
    _place: OwnedSemaphorePermit,
    _core: OwnedSemaphorePermit,
}

impl Hasher {
    /// Makes one. It computes a hash at once, so it takes a moment.
    pub fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // It is nobody's password: a name without an account is refused whatever comes out.
        let nobody = hash("the password of nobody", &mut Vec::new()).unwrap_or_default();
        let places = Arc::new(Semaphore::new(cores.saturating_add(WAITING)));
        let (work, taken) = mpsc::channel();
        let taken = Arc::new(Mutex::new(taken));
        for _ in 0..cores {
            let taken = Arc::clone(&taken);
            thread::spawn(move || do_all(&taken));
        }
        Self { places, cores: Arc::new(Semaphore::new(cores)), work, nobody }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `unavailable`, if too many wait already.
    pub async fn turn(&self) -> Result<Turn, ErrorCode> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| ErrorCode::Unavailable)?;
        let core = Arc::clone(&self.cores).acquire_owned().await;
        let core = core.map_err(|_| ErrorCode::Unavailable)?;
        Ok(Turn { _place: place, _core: core })
    }

    /// Hashes a password, with a salt of its own.
    ///
    /// # Errors
    /// `unavailable`, if the system has no random numbers or no memory.
    pub async fn hash(&self, turn: Turn, password: String) -> Result<String, ErrorCode> {
        self.compute(turn, move |memory| hash(&password, memory))
            .await
            .ok_or(ErrorCode::Unavailable)
    }

    /// Whether a password is the one of this hash. Without a hash it takes as long, and it is not.
    pub async fn verify(&self, turn: Turn, password: String, hash: Option<String>) -> bool {
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let is_right = self.compute(turn, move |memory| verify(&password, &hash, memory)).await;
        is_somebody && is_right == Some(true)
    }
}

impl Hasher {
    // ANCHOR: compute
    /// Computes on one of the threads. The turn lasts until it is done, even if nobody waits for it
    /// any more.
    async fn compute<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut Vec<Block>) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = move |memory: &mut Vec<Block>| {
            let began = Instant::now();
            let _nobody_waits = done.send(work(memory));
            telemetry::hashed(began.elapsed());
            drop(turn);
        };
        self.work.send(Box::new(work)).ok()?;
        result.await.ok().flatten()
    }
    // ANCHOR_END: compute
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// What each of the threads does, for as long as there is a [`Hasher`]. Its 19 MiB are always the same:
/// to give them back and to ask for them again leaves holes, and the program grows with each password.
fn do_all(work: &Mutex<Receiver<Work>>) {
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let mut memory = Vec::new();
    while let Ok(work) = next() {
        work(&mut memory);
    }
}

// ANCHOR: hash
/// Makes the text by which a password can be checked: which algorithm, how much work, the salt, the
/// result ([PHC string](https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md)).
fn hash(password: &str, memory: &mut Vec<Block>) -> Option<String> {
    let (argon2, salt) = (Argon2::default(), Uuid::new_v4());
    let salt = Salt::new(salt.as_bytes()).ok()?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params()).ok()?,
        salt: Some(salt),
        hash: Some(output(&argon2, password, &salt, memory)?),
    };
    Some(hash.to_string())
}

/// Does the same work again, and compares. That takes as long whatever the first difference is.
fn verify(password: &str, hash: &str, memory: &mut Vec<Block>) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let argon2 = Argon2::from(Params::try_from(&hash).ok()?);
    Some(hash.hash? == output(&argon2, password, &hash.salt?, memory)?)
}

fn output(argon2: &Argon2, password: &str, salt: &[u8], memory: &mut Vec<Block>) -> Option<Output> {
    memory.resize(argon2.params().block_count(), Block::default());
    let mut output = [0; LENGTH_OF_HASH];
    let memory = memory.as_mut_slice();
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut output, memory).ok()?;
    Output::new(&output).ok()
}
// ANCHOR_END: hash

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    async fn verify(hasher: &Hasher, password: &str, hash: Option<&String>) -> bool {
        let turn = hasher.turn().await.unwrap();
        hasher.verify(turn, password.to_owned(), hash.cloned()).await
    }

    #[test]
    fn a_password_has_8_to_256_characters() {
        for good in ["12345678", "ä".repeat(8).as_str(), "x".repeat(256).as_str()] {
            assert_eq!(check_length(good), Ok(()));
        }
        for bad in ["", "1234567", "ä".repeat(7).as_str(), "x".repeat(257).as_str()] {
            assert_eq!(check_length(bad), Err(ErrorCode::BadPassword));
        }
    }

    #[tokio::test]
    async fn only_the_right_password_matches_and_each_hash_has_its_own_salt() {
        let hasher = Hasher::new();
        let turn = hasher.turn().await.unwrap();
        let one = hasher.hash(turn, "correct horse".to_owned()).await.unwrap();
        let turn = hasher.turn().await.unwrap();
        let two = hasher.hash(turn, "correct horse".to_owned()).await.unwrap();
        assert_ne!(one, two);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(verify(&hasher, "correct horse", Some(&one)).await);
        assert!(!verify(&hasher, "correct hors", Some(&one)).await);
        assert!(!verify(&hasher, "the password of nobody", None).await);
        assert!(!verify(&hasher, "correct horse", Some(&"broken".to_owned())).await);
    }

    #[tokio::test]
    async fn nobodys_password_takes_as_long_as_somebodys() {
        let hasher = Hasher::new();
        let turn = hasher.turn().await.unwrap();
        let hash = hasher.hash(turn, "correct horse".to_owned()).await.unwrap();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            for (times, hash) in [(&mut known, Some(&hash)), (&mut unknown, None)] {
                let began = Instant::now();
                assert!(!verify(&hasher, "wrong horse", hash).await);
                times.push(began.elapsed());
            }
        }
        known.sort_unstable();
        unknown.sort_unstable();
        let ratio = known[4].div_duration_f64(unknown[4]);
        assert!((0.2..5.0).contains(&ratio), "{:?} {:?}", known[4], unknown[4]);
        assert!(unknown[0] > Duration::from_millis(2), "it was computed");
    }

    #[tokio::test]
    async fn one_too_many_is_sent_away() {
        let hasher = Arc::new(Hasher::new());
        let cores = hasher.cores.available_permits();
        let mut turns = Vec::new();
        for _ in 0..cores {
            turns.push(hasher.turn().await.unwrap());
        }
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let hasher = Arc::clone(&hasher);
            waiting.push(tokio::spawn(async move { hasher.turn().await.is_ok() }));
        }
        while hasher.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hasher.turn().await, Err(ErrorCode::Unavailable)));
        drop(turns);
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
    }
}
// ANCHOR_END: all
