// ANCHOR: all
//! Stores messages in Redis, many with one round trip.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::limits;
use crate::log::{Answer, Appended, Draft, KEPT, REPEATABLE, RoomId, Unavailable};
use crate::names;
use crate::protocol::millis;
use crate::shared::link::Link;
use crate::shared::scripts::{SCRIPTS, call};
use crate::shared::{feed_of, position_args, room_key};

/// How many messages may wait. Whoever finds no place waits.
const QUEUE: usize = 1024;

/// How many messages go to Redis together. Its disk takes as long for one as for hundreds.
const BATCH: usize = 256;

/// Where to say what became of a message.
type Reply = oneshot::Sender<Answer<Appended>>;

/// What a sender says, as it is stored and told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Words {
    /// The sender's id for it.
    pub id: Uuid,
    /// The sender.
    pub from: String,
    /// What they say.
    pub text: String,
}

/// The task that stores messages.
struct Writer {
    link: Arc<Link>,
    retention: Option<Duration>,
    limited: bool,
}

/// Starts it. It ends when nobody can hand over messages any more.
pub fn start(
    link: Arc<Link>,
    retention: Option<Duration>,
    limited: bool,
) -> Sender<(Draft, Reply)> {
    let (drafts, waiting) = mpsc::channel(QUEUE);
    tokio::spawn(Writer { link, retention, limited }.run(waiting));
    drafts
}

impl Writer {
    async fn run(self, mut drafts: Receiver<(Draft, Reply)>) {
        let mut batch = Vec::new();
        while drafts.recv_many(&mut batch, BATCH).await > 0 {
            self.store(take(&mut batch)).await;
        }
    }

    // ANCHOR: store
    /// Stores messages, in this order. First each id is claimed for its room, which may be in another
    /// slot of a cluster; a message that gets no further can be sent again.
    async fn store(&self, batch: Vec<(Draft, Reply)>) {
        let drafts = batch.iter().map(|(draft, _)| draft);
        let claims = self.claim(drafts).await;
        let mut claimed = Vec::new();
        for (n, (draft, reply)) in batch.into_iter().enumerate() {
            let claim = claims.as_ref().ok().and_then(|claims| claims.get(n));
            let refused = match claim.map(|(word, wait)| (word.as_str(), *wait)) {
                Some(("ok", _)) => {
                    claimed.push((draft, reply));
                    continue;
                }
                Some(("conflict", _)) => Ok(Appended::Conflict),
                Some(("wait", wait)) => Ok(Appended::TooMuch(Duration::from_millis(wait))),
                _ => Err(Unavailable),
            };
            // Nobody listens if a room has ended meanwhile.
            let _ = reply.send(refused);
        }
        if !claimed.is_empty() {
            let stored = self.publish(claimed.iter().map(|(draft, _)| draft)).await;
            for (n, (_, reply)) in claimed.into_iter().enumerate() {
                let answer = stored.as_ref().ok().and_then(|stored| stored.get(n));
                let _ = reply.send(answer.and_then(appended).ok_or(Unavailable));
            }
        }
    }
    // ANCHOR_END: store

    async fn claim<'a>(
        &self,
        drafts: impl Iterator<Item = &'a Draft>,
    ) -> Answer<Vec<(String, u64)>> {
        let mut claims = redis::pipe();
        let (period, burst) = if self.limited { limits::user_bucket() } else { (0.0, 0) };
        for Draft { namespace, room, id, from, .. } in drafts {
            let user = format!("u:{}", names::key(from));
            let id = self.link.key(&user, &format!("id:{namespace}:{id}"));
            let mut claim = call(&SCRIPTS.claim, &[id, self.link.key(&user, "budget")]);
            claim.arg(room).arg(REPEATABLE.as_secs()).arg(period).arg(burst);
            claims.add_command(claim);
        }
        self.link.ask_all(&claims).await
    }

    async fn publish<'a>(
        &self,
        drafts: impl Iterator<Item = &'a Draft>,
    ) -> Answer<Vec<(String, u64)>> {
        let (up, mut publishes) = (self.link.up()?, redis::pipe());
        for draft in drafts {
            let Draft { namespace, room, id, from, text } = draft.clone();
            let room = RoomId { namespace, room };
            let said = format!("said:{}:{id}", names::key(&from));
            let keys = ["meta", "log", &said].map(|rest| room_key(&self.link, &room, rest));
            let mut publish = call(&SCRIPTS.publish, &keys);
            position_args(&mut publish, &up, self.retention);
            let hash = hash(&text);
            let words = serde_json::to_string(&Words { id, from, text }).unwrap_or_default();
            publish.arg(feed_of(&self.link, &room)).arg(id.to_string()).arg(words).arg(hash);
            publish.arg(KEPT).arg(REPEATABLE.as_secs()).arg(self.retention.map_or(0, millis));
            publishes.add_command(publish);
        }
        self.link.ask_all_on(up, &publishes).await
    }
}

/// What the script says has become of a message.
fn appended((word, seq): &(String, u64)) -> Option<Appended> {
    match word.as_str() {
        "stored" => Some(Appended::Stored(*seq)),
        "repeated" => Some(Appended::Repeated(*seq)),
        "conflict" => Some(Appended::Conflict),
        _ => None,
    }
}

/// Tells whether a message that comes again is the same one. Sixteen bytes do: it is no secret, and
/// there is one for each message of a day.
fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
// ANCHOR_END: all
