// ANCHOR: all
//! Whether a client is still there. A cable that was pulled sends no goodbye: without a question
//! now and then, a dead connection looks like a quiet one.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::spread::spread;

/// How often a client is asked. Proxies cut connections that are quiet for 60 seconds or more.
const PERIOD: Duration = Duration::from_secs(25);

/// How long a client may take to answer, with a pong or with anything else.
const PATIENCE: Duration = Duration::from_secs(10);

/// The heartbeat of one connection.
pub struct Heartbeat {
    next: Instant,
    unanswered: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    /// A ping.
    Ping,
    /// The end: nothing has come since the last ping.
    Silence,
}

// ANCHOR: heartbeat
impl Heartbeat {
    /// Starts at a time of its own, so that after a restart the pings of all clients do not go out
    /// together.
    pub fn start() -> Self {
        let first = PERIOD / 2 + spread(PERIOD / 2);
        Self { next: Instant::now() + first, unanswered: false }
    }

    /// Waits for the next beat. `select!` may drop this while it waits, and call it again.
    pub async fn beat(&mut self) -> Beat {
        sleep_until(self.next).await;
        self.next = Instant::now() + PATIENCE;
        if self.unanswered {
            return Beat::Silence;
        }
        self.unanswered = true;
        Beat::Ping
    }

    /// Something has come from the client.
    pub fn heard(&mut self) {
        if self.unanswered {
            self.unanswered = false;
            self.next += PERIOD - PATIENCE;
        }
    }
}
// ANCHOR_END: heartbeat

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_is_asked_every_25_seconds() {
        let mut heartbeat = Heartbeat::start();
        assert_eq!(heartbeat.beat().await, Beat::Ping);
        for _ in 0..3 {
            let asked = Instant::now();
            heartbeat.heard();
            heartbeat.heard();
            assert_eq!(heartbeat.beat().await, Beat::Ping);
            assert_eq!(asked.elapsed().as_secs(), PERIOD.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_after_ten_seconds() {
        let mut heartbeat = Heartbeat::start();
        assert_eq!(heartbeat.beat().await, Beat::Ping);
        let asked = Instant::now();
        assert_eq!(heartbeat.beat().await, Beat::Silence);
        assert_eq!(asked.elapsed().as_secs(), PATIENCE.as_secs());
    }
}
// ANCHOR_END: all
