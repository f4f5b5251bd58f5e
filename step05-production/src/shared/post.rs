// ANCHOR: all
//! What the servers ask each other: each has a channel of its own. And in Redis stands for each session
//! of the fallback which server has it.
//!
//! A session goes to another server in two steps, so that nobody sees its user leave and come back: its
//! old server is told that it has moved, and takes no more requests for it; and once it is in its rooms
//! on the new one, that it is settled, and the old one leaves them.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Cmd;
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::log::{Answer, Unavailable};
use crate::peers::{Asked, Before, Claim, Errand, Lease, Peers, Reply, There, Ticket, Why};
use crate::protocol::{millis, now};
use crate::shared::Shared;
use crate::shared::link::Link;
use crate::shared::presence::Presence;
use crate::shared::scripts::{SCRIPTS, call};

/// How long another server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one may take to hear that it has no longer a session. If it does not, it finds out with the
/// next refresh.
const MOVE: Duration = Duration::from_secs(1);

/// For how long Redis knows where a session is after its server has said so.
const NOTED: Duration = Duration::from_secs(60);

/// How often it says so.
const REFRESH: Duration = Duration::from_secs(20);

/// How long to wait before the next try while Redis is away.
const RETRY: Duration = Duration::from_millis(500);

/// How many sessions one round trip brings up to date.
const AT_ONCE: usize = 256;

/// How many of a user's sessions are listed: more than anybody may have.
const LISTED: isize = 64;

/// How many errands may wait. What finds no place is not done, and whoever asked tries again.
const QUEUE: usize = 1024;

// ANCHOR: post
/// The errands of this server, and its sessions.
pub struct Post {
    link: Arc<Link>,
    presence: Arc<Presence>,
    /// This server's own channel.
    channel: String,
    /// Who waits for an answer, by request.
    waiting: Mutex<HashMap<Uuid, oneshot::Sender<Option<Reply>>>>,
    came: Sender<Errand>,
    errands: tokio::sync::Mutex<Receiver<Errand>>,
    sessions: Mutex<Sessions>,
    /// Told when Redis may have lost something.
    doubted: Notify,
    /// Held by whoever tells Redis about sessions, so that what has ended is not noted again.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Sessions {
    /// By lease.
    held: HashMap<Uuid, Held>,
    /// The ones that have ended, and Redis has to hear of it.
    ended: Vec<(Uuid, Ticket)>,
}

/// A session of this server.
struct Held {
    ticket: Ticket,
    /// When it began, in milliseconds since 1970.
    began: u64,
    /// Whether Redis has been told of it.
    is_noted: bool,
    moved: CancellationToken,
    settled: CancellationToken,
}

/// The place of a session among those that are held.
struct Place {
    post: Arc<Post>,
    lease: Uuid,
}

/// Somebody who waits for the answer to a request, until this is dropped.
struct Waiter<'a>(&'a Post, Uuid);

/// What tells the old server of a session, when dropped, that it is settled on this one.
struct Settling {
    post: Arc<Post>,
    node: String,
    lease: Uuid,
}

impl Post {
    /// Begins, and keeps Redis up to date for as long as the program runs.
    pub fn new(link: Arc<Link>, presence: Arc<Presence>) -> Arc<Self> {
        let (channel, (came, errands)) = (link.channel(link.node()), mpsc::channel(QUEUE));
        let post = Arc::new(Self {
            link,
            presence,
            channel,
            waiting: Mutex::default(),
            came,
            errands: errands.into(),
            sessions: Mutex::default(),
            doubted: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        });
        tokio::spawn(Arc::clone(&post).keep());
        post
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Option<Reply>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where in Redis stands which server has a session.
    fn at(&self, ticket: &Ticket) -> String {
        self.link.key(&format!("f:{}/{}", ticket.namespace, ticket.session), "at")
    }

    /// Where in Redis the sessions of a user are listed.
    fn list(&self, namespace: &str, owner: &str) -> String {
        self.link.key(&format!("u:{owner}"), &format!("fallback:{namespace}"))
    }
}
// ANCHOR_END: post

// ANCHOR: hear
impl Post {
    /// Whether a channel is this server's own.
    pub fn is_at(&self, channel: &str) -> bool {
        self.channel == channel
    }

    /// Takes what another server says. This waits for nothing.
    pub fn hear(self: &Arc<Self>, text: &str) {
        if self.take(text).is_none() {
            tracing::warn!("another server has said something that makes no sense here");
        }
    }

    fn take(self: &Arc<Self>, text: &str) -> Option<()> {
        let (word, rest) = text.split_once(' ')?;
        match word {
            "say" => self.take_errand(rest),
            "answer" => self.take_answer(rest),
            "moved" => self.take_move(rest),
            "settled" => self.end(rest.parse().ok()?, |held| held.settled.cancel()),
            _ => None,
        }
    }

    /// `request node namespace session owner body`, where the namespace may be empty.
    fn take_errand(self: &Arc<Self>, text: &str) -> Option<()> {
        let mut words = text.splitn(6, ' ');
        let (request, node) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (namespace, session) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let (owner, body) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (reply, replied) = oneshot::channel();
        let ticket = Ticket { namespace, owner, session };
        if self.came.try_send(Errand { ticket, body, reply }).is_err() {
            tracing::warn!("other servers ask more than this one can do");
            return Some(());
        }
        let post = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(reply) = replied.await {
                post.answer(&node, &request, reply).await;
            }
        });
        Some(())
    }

    async fn answer(&self, node: &str, request: &str, reply: Option<Reply>) {
        // Whoever waits in vain gives up, and asks again.
        let _ = self.tell(node, &format!("answer {request} {}", write(reply))).await;
    }

    fn take_answer(&self, text: &str) -> Option<()> {
        let (request, reply) = text.split_once(' ')?;
        let waiting = self.waiting().remove(&request.parse().ok()?);
        if let Some(waiting) = waiting {
            // Nobody listens if they have just given up.
            let _ = waiting.send(read(reply)?);
        }
        Some(())
    }

    /// `request node lease`.
    fn take_move(self: &Arc<Self>, text: &str) -> Option<()> {
        let mut words = text.splitn(3, ' ');
        let (request, node) = (words.next()?.to_owned(), words.next()?.to_owned());
        self.end(words.next()?.parse().ok()?, |held| held.moved.cancel());
        let post = Arc::clone(self);
        tokio::spawn(async move { post.answer(&node, &request, None).await });
        Some(())
    }

    fn end(&self, lease: Uuid, end: impl FnOnce(&Held)) -> Option<()> {
        if let Some(held) = self.lock().held.get(&lease) {
            end(held);
        }
        Some(())
    }
}

/// An answer as text: `status wait json`; `gone` if there is none.
fn write(reply: Option<Reply>) -> String {
    let Some(Reply { status, wait, json }) = reply else { return "gone".to_owned() };
    let wait = wait.map_or_else(|| "-".to_owned(), |wait| wait.to_string());
    format!("{status} {wait} {json}")
}

fn read(text: &str) -> Option<Option<Reply>> {
    if text == "gone" {
        return Some(None);
    }
    let mut words = text.splitn(3, ' ');
    let (status, wait) = (words.next()?.parse().ok()?, words.next()?);
    let wait = if wait == "-" { None } else { Some(wait.parse().ok()?) };
    Some(Some(Reply { status, wait, json: words.next()?.to_owned() }))
}
// ANCHOR_END: hear

// ANCHOR: tell
impl Post {
    /// Tells a server something. Gives whether it is alive.
    async fn tell(&self, node: &str, text: &str) -> Answer<bool> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.link.channel(node)).arg(text);
        self.link.ask::<u64>(&publish).await.map(|heard| heard > 0)
    }

    /// Asks a server something: `word`, the request, this server, and then `text`.
    async fn call(&self, node: &str, word: &str, text: &str, patience: Duration) -> Answer<Asked> {
        let (request, (reply, replied)) = (Uuid::new_v4(), oneshot::channel());
        self.waiting().insert(request, reply);
        let _waiter = Waiter(self, request);
        let text = format!("{word} {request} {} {text}", self.link.node());
        if !self.tell(node, &text).await? {
            return Ok(Asked::Dead);
        }
        let reply = timeout(patience, replied).await.map_err(|_elapsed| Unavailable)?;
        Ok(reply.map_err(|_| Unavailable)?.map_or(Asked::NotThere, Asked::Done))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}
// ANCHOR_END: tell

// ANCHOR: claim
impl Post {
    async fn claim(self: &Arc<Self>, ticket: Ticket, why: Why) -> Answer<Option<Claim>> {
        // Before Redis is asked: if this is given up meanwhile, the session is given back.
        let (id, lease) = self.hold(ticket.clone());
        let lodge = self.note(&SCRIPTS.lodge, &ticket, id);
        let (is_ours, node, old): (bool, String, String) = self.link.ask(&lodge).await?;
        if !is_ours {
            return Ok(None);
        }
        let began = self.lock().held.get_mut(&id).map(|held| {
            held.is_noted = true;
            held.began
        });
        let mut list = redis::pipe();
        self.add_to_list(&mut list, &ticket, began.unwrap_or_default(), why);
        self.link.ask_all::<()>(&list).await?;
        let before = match old.parse() {
            Ok(old) => self.call_off(node, old).await,
            Err(_none) => None,
        };
        Ok(Some(Claim { lease, before }))
    }

    /// Adds a session to those of this server.
    fn hold(self: &Arc<Self>, ticket: Ticket) -> (Uuid, Lease) {
        let (lease, moved, settled) = (Uuid::new_v4(), CancellationToken::new(), <_>::default());
        let place = Box::new(Place { post: Arc::clone(self), lease });
        let (began, is_noted) = (now(), false);
        let of_client = Lease { moved: moved.clone(), settled, place };
        let settled = of_client.settled.clone();
        self.lock().held.insert(lease, Held { ticket, began, is_noted, moved, settled });
        (lease, of_client)
    }

    /// Tells a server that one of its sessions is here now.
    async fn call_off(self: &Arc<Self>, node: String, lease: Uuid) -> Option<Before> {
        if self.link.node() == node {
            self.end(lease, |held| held.moved.cancel());
        } else {
            // Without an answer it is dead, or finds out by itself.
            let _ = self.call(&node, "moved", &lease.to_string(), MOVE).await;
        }
        Some(Box::new(Settling { post: Arc::clone(self), node, lease }))
    }

    /// The command for one of the scripts that say where a session is.
    fn note(&self, script: &redis::Script, ticket: &Ticket, lease: Uuid) -> Cmd {
        let mut note = call(script, &[self.at(ticket)]);
        note.arg(self.link.node()).arg(lease.to_string()).arg(&ticket.owner).arg(millis(NOTED));
        note
    }

    fn add_to_list(&self, commands: &mut redis::Pipeline, ticket: &Ticket, began: u64, why: Why) {
        let list = self.list(&ticket.namespace, &ticket.owner);
        let mut add = redis::cmd("ZADD");
        add.arg(&list);
        if why == Why::Move {
            // It is as new as it was.
            add.arg("NX");
        }
        add.arg(began).arg(ticket.session.to_string());
        commands.add_command(add).ignore();
        commands.zremrangebyrank(&list, 0, -1 - LISTED).ignore();
        commands.expire(&list, NOTED.as_secs().cast_signed()).ignore();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.post.lock();
        if let Some(held) = sessions.held.remove(&self.lease) {
            sessions.ended.push((self.lease, held.ticket));
        }
        drop(sessions);
        let post = Arc::clone(&self.post);
        spawn(async move { post.flush().await });
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let (post, node, lease) = (Arc::clone(&self.post), take(&mut self.node), self.lease);
        spawn(async move {
            // In this order: who is here is on the lists before they are off them there.
            post.presence.flush().await;
            let _ = post.tell(&node, &format!("settled {lease}")).await;
        });
    }
}

/// Spawns a task, unless the program ends.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}
// ANCHOR_END: claim

// ANCHOR: keep
impl Post {
    /// Tells Redis now and then which sessions are here.
    async fn keep(self: Arc<Self>) {
        let mut ticks = interval(REFRESH);
        loop {
            select! {
                _ = ticks.tick() => {}
                () = self.doubted.notified() => {}
            }
            while self.refresh().await.is_err() {
                sleep(RETRY).await;
            }
        }
    }

    /// Redis may have lost what it knew of this server, and this one what others have told it.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    async fn refresh(&self) -> Answer<()> {
        let _turn = self.turn.lock().await;
        let noted = self.noted();
        for some in noted.chunks(AT_ONCE) {
            self.refresh_some(some).await?;
        }
        Ok(())
    }

    fn noted(&self) -> Vec<(Uuid, Ticket, u64)> {
        let sessions = self.lock();
        let noted = sessions.held.iter().filter(|(_, held)| held.is_noted);
        noted.map(|(lease, held)| (*lease, held.ticket.clone(), held.began)).collect()
    }

    async fn refresh_some(&self, some: &[(Uuid, Ticket, u64)]) -> Answer<()> {
        let mut commands = redis::pipe();
        for (lease, ticket, began) in some {
            commands.add_command(self.note(&SCRIPTS.stay, ticket, *lease));
            self.add_to_list(&mut commands, ticket, *began, Why::Move);
        }
        let stays: Vec<bool> = self.link.ask_all(&commands).await?;
        let lost = some.iter().zip(stays).filter(|(_, stays)| !stays);
        for ((lease, ..), _) in lost {
            self.end(*lease, |held| {
                held.moved.cancel();
                held.settled.cancel();
            });
        }
        Ok(())
    }

    /// Tells Redis which sessions have ended. If it is away, it forgets them by itself.
    pub async fn flush(&self) {
        let _turn = self.turn.lock().await;
        let ended = take(&mut self.lock().ended);
        for some in ended.chunks(AT_ONCE) {
            let _ = self.flush_some(some).await;
        }
    }

    async fn flush_some(&self, some: &[(Uuid, Ticket)]) -> Answer<()> {
        let (mut departs, mut lists) = (redis::pipe(), redis::pipe());
        for (lease, ticket) in some {
            let mut depart = call(&SCRIPTS.depart, &[self.at(ticket)]);
            depart.arg(lease.to_string());
            departs.add_command(depart);
        }
        let gone: Vec<bool> = self.link.ask_all(&departs).await?;
        for ((_, ticket), _) in some.iter().zip(gone).filter(|(_, gone)| *gone) {
            let list = self.list(&ticket.namespace, &ticket.owner);
            lists.zrem(list, ticket.session.to_string()).ignore();
        }
        if lists.is_empty() { Ok(()) } else { self.link.ask_all(&lists).await }
    }
}
// ANCHOR_END: keep

// ANCHOR: seek
impl Post {
    /// Finds the first of some sessions, given by name, that a server has and that is this user's.
    async fn find(&self, tickets: Vec<Ticket>) -> Answer<Option<There>> {
        if tickets.is_empty() {
            return Ok(None);
        }
        let mut commands = redis::pipe();
        for ticket in &tickets {
            commands.cmd("HMGET").arg(self.at(ticket)).arg("node").arg("owner");
        }
        let found: Vec<(Option<String>, Option<String>)> = self.link.ask_all(&commands).await?;
        let there = |(ticket, (node, owner)): (Ticket, (Option<String>, Option<String>))| {
            let is_theirs = owner.is_some_and(|owner| owner == ticket.owner);
            node.filter(|_| is_theirs).map(|node| There { node, ticket })
        };
        Ok(tickets.into_iter().zip(found).find_map(there))
    }

    /// The sessions of a user, the newest first. Some may have ended.
    async fn of(&self, namespace: &str, owner: &str) -> Answer<Vec<Uuid>> {
        let mut range = redis::cmd("ZREVRANGE");
        range.arg(self.list(namespace, owner)).arg(0).arg(LISTED - 1);
        let sessions: Vec<String> = self.link.ask(&range).await?;
        Ok(sessions.iter().filter_map(|session| session.parse().ok()).collect())
    }
}

impl Peers for Shared {
    fn claim(&self, ticket: Ticket, why: Why) -> BoxFuture<'_, Answer<Option<Claim>>> {
        self.post.claim(ticket, why).boxed()
    }

    fn seek<'a>(
        &'a self,
        namespace: &'a str,
        owner: &'a str,
        session: Option<Uuid>,
    ) -> BoxFuture<'a, Answer<Option<There>>> {
        async move {
            let sessions = match session {
                Some(session) => vec![session],
                None => self.post.of(namespace, owner).await?,
            };
            let ticket = |session| Ticket {
                namespace: namespace.to_owned(),
                owner: owner.to_owned(),
                session,
            };
            self.post.find(sessions.into_iter().map(ticket).collect()).await
        }
        .boxed()
    }

    fn is_here(&self, there: &There) -> bool {
        there.node == self.post.link.node()
    }

    fn ask(&self, there: There, body: String) -> BoxFuture<'_, Answer<Asked>> {
        async move {
            let There { node, ticket: Ticket { namespace, owner, session } } = there;
            let text = format!("{namespace} {session} {owner} {body}");
            self.post.call(&node, "say", &text, PATIENCE).await
        }
        .boxed()
    }

    fn errand(&self) -> BoxFuture<'_, Errand> {
        async {
            match self.post.errands.lock().await.recv().await {
                Some(errand) => errand,
                // The other end is beside this one, so this does not happen.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}
// ANCHOR_END: seek

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_went() {
        let json = r#"{"type":"ack", "seq":1}"#.to_owned();
        for wait in [None, Some(7)] {
            let reply = Some(Reply { status: 429, wait, json: json.clone() });
            assert_eq!(read(&write(reply.clone())), Some(reply));
        }
        let nothing = Some(Reply { status: 204, wait: None, json: String::new() });
        assert_eq!(read(&write(nothing.clone())), Some(nothing));
        assert_eq!(read(&write(None)), Some(None));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in ["", "200", "200 -", "x - {}", "200 x {}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
// ANCHOR_END: all
