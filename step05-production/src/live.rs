//! The connections of sessions: when a session ends, each of its connections hears it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::directory::SessionKey;

/// For how long it is remembered that a session was ended, in milliseconds: a connection that was
/// about to begin in that moment would not hear it otherwise.
const REMEMBERED: u64 = 60_000;

/// All sessions that have connections.
#[derive(Default)]
pub struct Registry(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    open: HashMap<SessionKey, Open>,
    /// The ones that were ended lately, and when.
    ended: HashMap<SessionKey, u64>,
}

/// A session that has connections. There may be very many, so it is small.
struct Open {
    /// Closed when the session ends. It never has a permit.
    end: Arc<Semaphore>,
    /// When it ends at the latest, in milliseconds since 1970.
    ends: u64,
    /// When its use was last noted.
    noted: u64,
    connections: u32,
}

/// A connection of a session. The session counts as used for as long as this lives.
pub struct Live {
    session: SessionKey,
    end: Arc<Semaphore>,
    registry: Arc<Registry>,
}

impl Live {
    /// Completes when the session has ended. It may be dropped and called again.
    pub async fn ended(&self) {
        // There is nothing to acquire: this is the error that says that the semaphore is closed.
        let _ = self.end.acquire().await;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        if let Some(open) = sessions.open.get_mut(&self.session) {
            open.connections -= 1;
            if open.connections == 0 {
                sessions.open.remove(&self.session);
            }
        }
    }
}

impl Registry {
    /// Adds a connection of a session that ends at `ends`, and whose use was noted at `noted`.
    pub fn add(self: &Arc<Self>, session: SessionKey, ends: u64, noted: u64) -> Live {
        let mut sessions = self.lock();
        let end = if sessions.ended.contains_key(&session) {
            let end = Arc::new(Semaphore::new(0));
            end.close();
            end
        } else {
            let new = || Open { end: Arc::new(Semaphore::new(0)), ends, noted, connections: 0 };
            let open = sessions.open.entry(session).or_insert_with(new);
            open.noted = open.noted.min(noted);
            open.connections += 1;
            Arc::clone(&open.end)
        };
        Live { session, end, registry: Arc::clone(self) }
    }

    /// Tells the connections of a session that it has ended.
    pub fn end(&self, session: SessionKey, now: u64) {
        let mut sessions = self.lock();
        sessions.ended.insert(session, now);
        if let Some(open) = sessions.open.remove(&session) {
            open.end.close();
        }
    }

    /// Ends the sessions whose time is over.
    pub fn end_expired(&self, now: u64) {
        let mut sessions = self.lock();
        for (_, open) in sessions.open.extract_if(|_, open| open.ends <= now) {
            open.end.close();
        }
        sessions.ended.retain(|_, at| now.saturating_sub(*at) < REMEMBERED);
    }

    /// Sessions whose use was last noted before `before`, so many at most. From now on it counts as
    /// noted at `now`.
    pub fn unnoted(&self, before: u64, now: u64, most: usize) -> Vec<SessionKey> {
        let mut sessions = self.lock();
        let unnoted = sessions.open.iter_mut().filter(|(_, open)| open.noted <= before);
        let note = |(session, open): (&SessionKey, &mut Open)| {
            open.noted = now;
            *session
        };
        unnoted.take(most).map(note).collect()
    }

    /// From now on the use of no session counts as noted.
    pub fn doubt(&self) {
        self.lock().open.values_mut().for_each(|open| open.noted = 0);
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn has_ended(live: &Live) -> bool {
        timeout(Duration::from_millis(10), live.ended()).await.is_ok()
    }

    #[tokio::test]
    async fn all_connections_of_a_session_hear_that_it_has_ended() {
        let registry = Arc::new(Registry::default());
        let lives = [1, 1, 2].map(|n| registry.add([n; 32], 100, 0));
        assert!(!has_ended(&lives[0]).await);
        registry.end([1; 32], 5);
        assert!(has_ended(&lives[0]).await && has_ended(&lives[1]).await);
        assert!(has_ended(&lives[0]).await, "asked again");
        assert!(!has_ended(&lives[2]).await);
        let late = registry.add([1; 32], 100, 5);
        assert!(has_ended(&late).await);
        registry.end_expired(100);
        assert!(has_ended(&lives[2]).await);
    }

    #[tokio::test]
    async fn nothing_is_left_of_connections_that_are_gone() {
        let registry = Arc::new(Registry::default());
        let (one, two) = (registry.add([1; 32], 100, 0), registry.add([1; 32], 100, 0));
        drop(one);
        assert!(!has_ended(&two).await);
        registry.end([1; 32], 5);
        drop(two);
        registry.end_expired(5 + REMEMBERED);
        let sessions = registry.lock();
        assert!(sessions.open.is_empty() && sessions.ended.is_empty());
    }

    #[test]
    fn each_use_is_noted_now_and_then_and_few_at_once() {
        let registry = Arc::new(Registry::default());
        let _lives = [1, 2, 3].map(|n| registry.add([n; 32], 1000, 0));
        assert_eq!(registry.unnoted(0, 50, 2).len(), 2);
        assert_eq!(registry.unnoted(0, 50, 2).len(), 1);
        assert_eq!(registry.unnoted(49, 50, 2).len(), 0);
        assert_eq!(registry.unnoted(50, 100, 9).len(), 3);
        registry.doubt();
        assert_eq!(registry.unnoted(50, 110, 9).len(), 3);
    }

    #[test]
    fn a_connection_takes_few_bytes() {
        // With what a map has in reserve that makes some 200 bytes for a session.
        assert!(size_of::<(SessionKey, Open)>() <= 64);
        assert!(size_of::<Semaphore>() <= 48);
        assert!(size_of::<Live>() <= 48);
    }
}
