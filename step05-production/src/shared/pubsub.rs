// ANCHOR: all
//! The connection on which Redis tells what happens. It may lose something at any time: whoever listens
//! is told so, and looks for it elsewhere.

use std::collections::HashSet;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError, RedisResult};
use tokio::select;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};

use crate::log::{Answer, Unavailable};
use crate::shared::link::Link;
use crate::spread::spread;

/// How many requests may wait.
const QUEUE: usize = 1024;

/// How many channels one command names at most.
const AT_ONCE: usize = 256;

/// How long Redis may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is tried whether the connection is still alive, and which channels nobody needs.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// The longest time between two tries to connect.
const RETRY: Duration = Duration::from_millis(500);

// ANCHOR: listener
/// Whoever hears what comes.
pub trait Listener: Send + Sync + 'static {
    /// Something was said on a channel. This must not wait for anything.
    fn hear(&self, channel: &str, payload: &str);

    /// Something may have been lost on all channels.
    fn lose(&self);

    /// Whether anybody still needs a channel.
    fn needs(&self, channel: &str) -> bool;
}

/// The connection. Clones reach the same one.
#[derive(Clone)]
pub struct PubSub {
    requests: Sender<Subscribe>,
}

/// A channel, and where to tell that it is heard.
struct Subscribe(String, oneshot::Sender<()>);

impl PubSub {
    /// Begins to connect, for as long as the program runs.
    pub fn new(link: Arc<Link>, listener: Arc<dyn Listener>) -> Self {
        let (requests, waiting) = mpsc::channel(QUEUE);
        let (link, channels) = (Arc::clone(&link), Arc::default());
        let ear = Ear { link, listener, channels };
        tokio::spawn(ear.run(waiting));
        Self { requests }
    }

    /// Subscribes to a channel. When this returns, nothing that is said there from now on is missed,
    /// unless the listener is told so. It ends by itself once nobody needs the channel any more.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn subscribe(&self, channel: String) -> Answer<()> {
        let (done, subscribed) = oneshot::channel();
        let request = self.requests.send(Subscribe(channel, done));
        let both = async {
            request.await.map_err(|_| Unavailable)?;
            subscribed.await.map_err(|_| Unavailable)
        };
        timeout(PATIENCE, both).await.unwrap_or(Err(Unavailable))
    }
}
// ANCHOR_END: listener

// ANCHOR: ear
/// The task that has the connection.
struct Ear {
    link: Arc<Link>,
    listener: Arc<dyn Listener>,
    /// All channels that are, or should be, subscribed to.
    channels: Arc<Mutex<HashSet<String>>>,
}

impl Ear {
    /// Listens, and connects again whenever the connection ends.
    async fn run(self, mut requests: Receiver<Subscribe>) {
        loop {
            if let Err(error) = self.listen(&mut requests).await {
                tracing::warn!(%error, "the pub/sub connection to Redis has ended");
            }
            if requests.is_closed() {
                return;
            }
            sleep(spread(RETRY)).await;
        }
    }

    /// Listens until the connection ends.
    async fn listen(&self, requests: &mut Receiver<Subscribe>) -> RedisResult<()> {
        // A connection of its own: what it says comes unasked, between the answers to commands.
        let connected = within(self.link.client().get_async_pubsub()).await?;
        let (mut sink, stream) = connected.split();
        let channels: Vec<String> = self.lock().iter().cloned().collect();
        for some in channels.chunks(AT_ONCE) {
            within(sink.subscribe(some)).await?;
        }
        // What was said while nobody listened has been lost.
        self.listener.lose();
        select! {
            ended = self.hear(stream) => ended,
            ended = self.serve(sink, requests) => ended,
        }
    }

    async fn hear(&self, mut stream: PubSubStream) -> RedisResult<()> {
        while let Some(message) = stream.next().await {
            self.pass_on(&message);
        }
        Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
    }

    fn pass_on(&self, message: &Msg) {
        // What is not text is none of ours.
        if let Ok(payload) = str::from_utf8(message.get_payload_bytes()) {
            self.listener.hear(message.get_channel_name(), payload);
        }
    }

    /// Subscribes to what is asked for, and tries now and then whether anybody is there.
    async fn serve(
        &self,
        mut sink: PubSubSink,
        requests: &mut Receiver<Subscribe>,
    ) -> RedisResult<()> {
        let (mut tick, mut some) = (interval(TIDY_EVERY), Vec::new());
        loop {
            select! {
                count = requests.recv_many(&mut some, AT_ONCE) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.subscribe(&mut sink, take(&mut some)).await?;
                }
                _ = tick.tick() => {
                    within(sink.ping::<()>()).await?;
                    self.tidy(&mut sink).await?;
                }
            }
        }
    }

    async fn subscribe(&self, sink: &mut PubSubSink, some: Vec<Subscribe>) -> RedisResult<()> {
        let (channels, done): (Vec<String>, Vec<_>) =
            some.into_iter().map(|Subscribe(channel, done)| (channel, done)).unzip();
        self.lock().extend(channels.iter().cloned());
        within(sink.subscribe(&channels)).await?;
        // Nobody listens if a room has ended meanwhile.
        for done in done {
            let _ = done.send(());
        }
        Ok(())
    }

    /// Ends subscriptions that nobody needs. Not at once: whoever leaves a room often comes back.
    async fn tidy(&self, sink: &mut PubSubSink) -> RedisResult<()> {
        let extra = |channels: &mut HashSet<String>| -> Vec<String> {
            channels.extract_if(|channel| !self.listener.needs(channel)).collect()
        };
        let extra = extra(&mut self.lock());
        for some in extra.chunks(AT_ONCE) {
            within(sink.unsubscribe(some)).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for Redis, and not for ever.
async fn within<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let elapsed = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    timeout(PATIENCE, answer).await.map_err(elapsed)?
}
// ANCHOR_END: ear
// ANCHOR_END: all
