//! The end of the server, as a client sees it.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::outbox::Outbox;
use crate::protocol::ServerEvent;
use crate::spread::spread;

/// When a server stops: the signal, and how long its clients may take to leave.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Cancelled when the server is to stop.
    pub stop: CancellationToken,
    /// The time over which the goodbyes are spread, so that not all clients knock at the next
    /// server in the same moment.
    pub window: Duration,
}

impl Drain {
    /// Waits until the server stops, tells a client when to come back, and returns when it has to go.
    pub async fn farewell(&self, outbox: &Outbox) {
        self.stop.cancelled().await;
        sleep(self.announce(outbox)).await;
    }

    /// Tells a client when to come back, and gives that time.
    pub fn announce(&self, outbox: &Outbox) -> Duration {
        let after = spread(self.window);
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        outbox.tell(ServerEvent::Reconnect { after: millis });
        after
    }
}
