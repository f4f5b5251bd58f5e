// ANCHOR: all
//! The connection to Redis: one for all commands, which is up or away.
//!
//! The library can connect again by itself, and this server has it not do so: whoever asks something
//! has to know which run of Redis answers, because one that has restarted may have lost something.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisResult};
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::log::{Answer, Unavailable};
use crate::shared::scripts::{SCRIPTS, call};
use crate::spread::spread;
use crate::telemetry;

/// How long Redis may take for an answer. After that nobody knows whether it has done what it was
/// asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is tried whether Redis still writes.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// The longest time between two tries to connect.
const RETRY: Duration = Duration::from_secs(1);

/// How long a server that starts waits for Redis.
const START: Duration = Duration::from_secs(10);

// ANCHOR: link
/// The connection to Redis.
pub struct Link {
    client: Client,
    /// How each key and channel begins.
    prefix: String,
    /// Names this run of this server.
    node: String,
    up: Mutex<Option<Up>>,
    degraded: watch::Sender<bool>,
    /// Told when somebody finds that the connection does not answer.
    broken: Notify,
}

/// A connection that works.
#[derive(Clone)]
pub struct Up {
    commands: MultiplexedConnection,
    /// Names the run of Redis, from its start to its end.
    pub run: String,
    /// Whether Redis brings each write to the disk before it answers. Then a restart loses nothing.
    pub durable: bool,
}

impl Link {
    /// Connects for the first time.
    ///
    /// # Errors
    /// A sentence: the address is none, or nobody answers there for so long.
    pub async fn open(url: &str, prefix: &str) -> Result<Arc<Self>, String> {
        let failed = |error| format!("can't use REDIS_URL: {error}");
        let client = Client::open(url).map_err(failed)?;
        let (degraded, _) = watch::channel(true);
        let link = Arc::new(Self {
            client,
            prefix: prefix.to_owned(),
            node: Uuid::new_v4().simple().to_string(),
            up: Mutex::default(),
            degraded,
            broken: Notify::new(),
        });
        let until = Instant::now() + START;
        while let Err(error) = link.connect().await {
            if Instant::now() > until {
                return Err(failed(error));
            }
            sleep(RETRY / 4).await;
        }
        tokio::spawn(Arc::clone(&link).keep());
        Ok(link)
    }

    /// A client, for connections of another kind.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Names this run of this server.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What something is called in Redis. All keys with one tag are in one slot of a cluster, so that
    /// one script can have them.
    pub fn key(&self, tag: &str, rest: &str) -> String {
        format!("{}:{{{tag}}}:{rest}", self.prefix)
    }

    /// The channel of a server: what others ask of it, and answer.
    pub fn channel(&self, node: &str) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// Tells whether Redis is away, and when that changes.
    pub fn degraded(&self) -> watch::Receiver<bool> {
        self.degraded.subscribe()
    }

    /// The connection, if there is one.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn up(&self) -> Answer<Up> {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        up.clone().ok_or(Unavailable)
    }
}
// ANCHOR_END: link

// ANCHOR: ask
impl Link {
    /// Asks Redis to do something.
    ///
    /// # Errors
    /// [`Unavailable`]: it was not done, or it is not known whether.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Answer<T> {
        self.ask_on(self.up()?, command).await
    }

    /// Asks the Redis of this connection: a command that names its run must not reach the next one.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn ask_on<T: FromRedisValue>(&self, mut up: Up, command: &Cmd) -> Answer<T> {
        self.judge(command.query_async(&mut up.commands)).await
    }

    /// Asks Redis to do several things, in this order, and waits once for all of them.
    ///
    /// # Errors
    /// As [`Link::ask`], for all of them.
    pub async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Answer<T> {
        self.ask_all_on(self.up()?, commands).await
    }

    /// The same for the Redis of this connection.
    ///
    /// # Errors
    /// As [`Link::ask_all`].
    pub async fn ask_all_on<T: FromRedisValue>(
        &self,
        mut up: Up,
        commands: &Pipeline,
    ) -> Answer<T> {
        self.judge(commands.query_async(&mut up.commands)).await
    }

    async fn judge<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Answer<T> {
        let began = Instant::now();
        let answer = timeout(PATIENCE, answer).await;
        telemetry::redis_answered(began.elapsed());
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        telemetry::redis_failed();
        tracing::warn!(error, "Redis has not done what it was asked");
        // If only this request is wrong, the connection is up again at once.
        self.broken.notify_one();
        Err(Unavailable)
    }
}
// ANCHOR_END: ask

// ANCHOR: keep
impl Link {
    /// Keeps the connection up, for as long as the program runs.
    async fn keep(self: Arc<Self>) {
        loop {
            self.watch_over().await;
            *self.up.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.degraded.send_replace(true);
            tracing::warn!("Redis is away");
            let mut longest = RETRY / 10;
            while let Err(error) = self.connect().await {
                tracing::debug!(%error, "Redis is still away");
                // Not all servers at once, or the first thing that Redis meets is a storm.
                sleep(spread(longest)).await;
                longest = (longest * 2).min(RETRY);
            }
            tracing::info!("Redis is back");
        }
    }

    /// Makes a connection that writes, and gives it to everybody.
    async fn connect(&self) -> RedisResult<()> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut commands =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        for script in SCRIPTS.all() {
            script.load_async(&mut commands).await?;
        }
        self.probe().query_async::<()>(&mut commands).await?;
        let info: redis::InfoDict =
            redis::cmd("INFO").arg("server").query_async(&mut commands).await?;
        let run = info.get("run_id").unwrap_or_default();
        let durable = is_durable(&mut commands).await;
        tracing::debug!(run, durable, "connected to Redis");
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Up { commands, run, durable });
        self.degraded.send_replace(false);
        Ok(())
    }

    /// Returns when the connection is of no use any more.
    async fn watch_over(&self) {
        let Ok(mut up) = self.up() else { return };
        loop {
            select! {
                () = sleep(PROBE_EVERY) => {}
                () = self.broken.notified() => {}
            }
            let probe = self.probe();
            let probed = timeout(PATIENCE, probe.query_async::<()>(&mut up.commands)).await;
            if !matches!(probed, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Writes something: a Redis that reads and can't write would pass for one that is well. And it
    /// does so by a script: one that has forgotten its scripts needs them again.
    fn probe(&self) -> Cmd {
        let mut probe = call(&SCRIPTS.probe, &[format!("{}:probe", self.prefix)]);
        probe.arg(&self.node);
        probe
    }
}

/// Whether Redis brings each write to the disk before it answers. One that does not say counts as one
/// that does not.
async fn is_durable(commands: &mut MultiplexedConnection) -> bool {
    let mut asked = redis::cmd("CONFIG");
    asked.arg("GET").arg("append*");
    let said: RedisResult<std::collections::HashMap<String, String>> =
        asked.query_async(commands).await;
    said.is_ok_and(|said| {
        let is = |name: &str, value: &str| said.get(name).is_some_and(|it| it == value);
        is("appendonly", "yes") && is("appendfsync", "always")
    })
}
// ANCHOR_END: keep
// ANCHOR_END: all
