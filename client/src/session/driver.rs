// ANCHOR: all
//! The task behind a session. It alone touches the connection: it opens one, keeps it busy, notices
//! its end, waits, and opens the next.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::backoff::{next_delay, random};
use crate::connection::{Connection, Options, Reader, Writer};
use crate::error::{Close, Error};
use crate::protocol::{ClientEvent, ServerEvent};
use crate::session::memory::{Memory, Order, spread};
use crate::session::{Event, Settings, State};

/// How many events may wait for the user before we stop reading from the server. It notices, and
/// what it can't deliver now comes with the next `joined`.
const UNREAD: usize = 256;

/// How many events may wait for the user before we stop taking orders, which may have failures to
/// tell at once.
const UNTOLD: usize = 2 * UNREAD;

/// How long our goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

// ANCHOR: driver
/// The task's own things.
pub struct Driver {
    settings: Settings,
    memory: Memory,
    orders: Receiver<Order>,
    events: Sender<Event>,
}

/// Why a connection, or an attempt at one, is over.
enum Over {
    /// Something went wrong.
    Lost(Error),
    /// The user has had enough.
    Closed,
}

impl Driver {
    pub fn new(
        settings: Settings,
        memory: Memory,
        orders: Receiver<Order>,
        events: Sender<Event>,
    ) -> Self {
        Self { settings, memory, orders, events }
    }

    /// Runs until the user closes the session, or no attempt can help.
    pub async fn run(mut self, mut connection: Option<Connection>) {
        let mut attempt = 0;
        loop {
            let why = match self.connect_and_talk(connection.take()).await {
                Over::Lost(why) => why,
                Over::Closed => return,
            };
            self.memory.disconnect();
            if !self.may_come_back(&why) {
                self.memory.tell(Event::State(State::Ended(why)));
                return self.tell_the_rest().await;
            }
            // Who was sent away for flooding stays away longer each time, progress or not.
            if self.memory.has_progress && !is_flooding(&why) {
                attempt = 0;
            }
            let delay = self.delay(attempt, &why);
            attempt = attempt.saturating_add(1);
            self.memory.has_progress = false;
            self.memory.tell(Event::State(State::Waiting { delay, why }));
            if let Err(Over::Closed) = self.meanwhile(pause(delay)).await {
                return;
            }
        }
    }

    /// How long to stay away: as long as the server has asked for, or a random time.
    fn delay(&mut self, attempt: u32, why: &Error) -> Duration {
        let hint = self.memory.take_hint(Instant::now()).or(why.retry_after().map(spread));
        let shortest = next_delay(0, 0.0);
        hint.filter(|hint| *hint > shortest).unwrap_or_else(|| next_delay(attempt, random()))
    }

    /// Whether there is any use in trying again.
    fn may_come_back(&mut self, why: &Error) -> bool {
        match why {
            // The server has forgotten us: the next hello is that of a newcomer. With a token there is
            // no hello, and whom it does not let in has to sign in again.
            Error::NotWelcome { code, .. }
                if code == "unauthorized" && self.settings.options.token.is_none() =>
            {
                self.memory.forget_session()
            }
            // We had the name before: somebody has it for now, perhaps our own lost connection.
            Error::NotWelcome { code, .. } if code == "name_taken" => self.memory.is_known(),
            why => why.is_passing(),
        }
    }
}
// ANCHOR_END: driver

// ANCHOR: meanwhile
impl Driver {
    /// Waits for something, and serves the user meanwhile.
    async fn meanwhile<T>(
        &mut self,
        something: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Over> {
        let mut something = pin!(something);
        loop {
            select! {
                result = &mut something => return result.map_err(Over::Lost),
                order = self.orders.recv(), if self.memory.told.len() < UNTOLD => match order {
                    Some(order) => self.memory.obey(order),
                    None => return Err(Over::Closed),
                },
                permit = self.events.reserve(), if !self.memory.told.is_empty() => {
                    let Ok(permit) = permit else { return Err(Over::Closed) };
                    if let Some(event) = self.memory.told.pop_front() {
                        permit.send(event);
                    }
                }
            }
        }
    }

    /// Tells the user what is left to tell.
    async fn tell_the_rest(mut self) {
        while let Some(event) = self.memory.told.pop_front() {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn pause(delay: Duration) -> Result<(), Error> {
    sleep(delay).await;
    Ok(())
}
// ANCHOR_END: meanwhile

// ANCHOR: connect
impl Driver {
    /// One connection from its beginning to its end.
    async fn connect_and_talk(&mut self, connection: Option<Connection>) -> Over {
        let connection = match connection {
            Some(connection) => connection,
            None => match self.connect().await {
                Ok(connection) => connection,
                Err(over) => return over,
            },
        };
        let (mut reader, mut writer) = connection.into_split();
        let over = self.talk(&mut reader, &mut writer).await;
        if let Over::Closed = over {
            let farewell = async {
                writer.close().await?;
                // What still comes is for nobody.
                while reader.next().await?.is_some() {}
                Ok::<_, Error>(())
            };
            let _ = timeout(GOODBYE, farewell).await;
        }
        over
    }

    /// Opens a connection, says who we are, and waits for the welcome.
    async fn connect(&mut self) -> Result<Connection, Over> {
        self.memory.tell(Event::State(State::Connecting));
        let (settings, hello) = (self.settings.clone(), self.memory.hello());
        let session = self.memory.session();
        let opening = async {
            let limit = settings.options.handshake_timeout;
            let mut connection = open(&settings, hello, session).await?;
            let welcome = timeout(limit, welcome(&mut connection)).await;
            let welcome = welcome.unwrap_or(Err(Error::NoAnswer { limit }))?;
            Ok((connection, welcome))
        };
        let (connection, welcome) = self.meanwhile(opening).await?;
        if let ServerEvent::Welcome { name, session, .. } = welcome {
            self.memory.welcome(name, session);
        }
        Ok(connection)
    }
}

/// Opens a connection on which a welcome is due: with a token the handshake says who we are, without
/// one a hello does.
async fn open(
    settings: &Settings,
    hello: ClientEvent,
    session: Option<Uuid>,
) -> Result<Connection, Error> {
    let Settings { url, options, .. } = settings;
    if options.token.is_some() {
        let session = session.or(options.session);
        return Connection::open_with(url, &Options { session, ..options.clone() }).await;
    }
    let mut connection = Connection::open_with(url, options).await?;
    connection.send(&hello).await?;
    Ok(connection)
}

/// Waits for a welcome with a session.
async fn welcome(connection: &mut Connection) -> Result<ServerEvent, Error> {
    loop {
        match connection.next().await {
            Ok(Some(welcome @ ServerEvent::Welcome { session: Some(_), .. })) => {
                return Ok(welcome);
            }
            Ok(Some(ServerEvent::Welcome { session: None, .. })) => {
                let message = "it keeps no sessions; that comes with milestone 4".to_owned();
                let code = "no_session".to_owned();
                return Err(Error::NotWelcome { code, message, retry_after: None });
            }
            Ok(Some(ServerEvent::Error { code, message, retry_after, .. })) => {
                let retry_after = retry_after.map(Duration::from_millis);
                return Err(Error::NotWelcome { code, message, retry_after });
            }
            Ok(Some(_)) | Err(Error::BadEvent { .. }) => {}
            Ok(None) => return Err(ended(connection.closed())),
            Err(error) => return Err(error),
        }
    }
}
// ANCHOR_END: connect

// ANCHOR: talk
impl Driver {
    /// Sends what there is to send and takes what comes, until either side ends it.
    ///
    /// Every branch of the `select!` may be given up half-way: an order, a place for an event and a
    /// server's event are taken whole or not at all. Sending is not among them.
    async fn talk(&mut self, reader: &mut Reader, writer: &mut Writer) -> Over {
        // Since when we have been reading all the time.
        let mut reading_since = Instant::now();
        loop {
            let now = Instant::now();
            if let Err(error) = self.send_all(now, writer).await {
                return Over::Lost(self.last_words(error, reader).await);
            }
            let is_reading = self.memory.told.len() < UNREAD;
            if !is_reading {
                reading_since = Instant::now();
            }
            let silent = reader.heard().max(reading_since) + self.settings.silence;
            let unanswered = self.memory.oldest_unanswered();
            let overdue = unanswered.map(|sent| sent.max(reading_since) + self.settings.answer);
            select! {
                order = self.orders.recv(), if self.memory.told.len() < UNTOLD => match order {
                    Some(Order::Cut) => return Over::Lost(lost("it was cut on purpose")),
                    Some(order) => self.memory.obey(order),
                    None => return Over::Closed,
                },
                permit = self.events.reserve(), if !self.memory.told.is_empty() => {
                    let Ok(permit) = permit else { return Over::Closed };
                    if let Some(event) = self.memory.told.pop_front() {
                        permit.send(event);
                    }
                }
                came = reader.next(), if is_reading => match came {
                    Ok(Some(event)) => self.memory.take(event, Instant::now()),
                    Err(Error::BadEvent { .. }) => {}
                    Ok(None) => return Over::Lost(ended(reader.closed())),
                    Err(error) => return Over::Lost(error),
                },
                () = until(self.memory.next_due(now)) => {}
                () = until(overdue), if is_reading => {
                    return Over::Lost(Error::NoAnswer { limit: self.settings.answer });
                }
                () = sleep_until(silent), if is_reading => {
                    // Pings don't wake this loop, so it has to look.
                    if reader.heard().max(reading_since) + self.settings.silence <= Instant::now() {
                        return Over::Lost(Error::Silent { limit: self.settings.silence });
                    }
                }
            }
        }
    }

    /// Sends what can be sent now.
    async fn send_all(&mut self, now: Instant, writer: &mut Writer) -> Result<(), Error> {
        let limit = self.settings.answer;
        while let Some(event) = self.memory.next(now) {
            let sent = timeout(limit, writer.send(&event)).await;
            match sent.unwrap_or(Err(Error::NoAnswer { limit })) {
                Err(error @ Error::TooLong { .. }) => self.too_long(&event, &error),
                sent => sent?,
            }
        }
        Ok(())
    }

    /// Why a connection is over on which we can't send: perhaps the server has said goodbye before.
    async fn last_words(&mut self, error: Error, reader: &mut Reader) -> Error {
        let _ = timeout(LAST_WORDS, async {
            while let Ok(Some(event)) = reader.next().await {
                self.memory.take(event, Instant::now());
            }
        })
        .await;
        reader.closed().map_or(error, |close| Error::Closed(close.clone()))
    }

    fn too_long(&mut self, event: &ClientEvent, error: &Error) {
        if let ClientEvent::Message { id: Some(id), .. }
        | ClientEvent::Direct { id: Some(id), .. } = event
        {
            self.memory.give_up(*id, &error.to_string());
        }
    }
}

/// Waits until a time, or forever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
// ANCHOR_END: talk

/// How long we look for the server's goodbye when it does not take what we send.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whether the server has sent us away because we said too much at once.
fn is_flooding(why: &Error) -> bool {
    matches!(why, Error::Closed(close) if close.code == 4029)
}

/// Why the server's side of the conversation has ended.
fn ended(close: Option<&Close>) -> Error {
    match close {
        Some(close) => Error::Closed(close.clone()),
        None => lost("it ended without a goodbye"),
    }
}

fn lost(problem: &str) -> Error {
    Error::Lost { problem: problem.to_owned() }
}
// ANCHOR_END: all
