// ANCHOR: all
//! The log of many servers: a Redis that they share. It is the only truth; a server has copies.
//!
//! [`link`] is the connection for commands, [`pubsub`] the one on which Redis tells what happens;
//! [`scripts`] are what it does as one step. The [`writer`] stores messages, [`presence`] knows who is
//! where, and [`rooms`] is what the rooms of this server ask. [`people`] may sign in, and [`users`] are
//! those who have. By [`post`] the servers ask each other.

pub mod link;
pub mod people;
pub mod post;
pub mod presence;
pub mod pubsub;
pub mod rooms;
pub mod scripts;
pub mod search;
pub mod users;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::accounts::Lifetime;
use crate::feed::Feeds;
use crate::log::{Answer, Appended, Draft, RoomId};
use link::{Link, Up};
use post::Post;
use presence::Presence;
use pubsub::PubSub;
use rooms::Dispatch;
use users::Attendance;

/// For how long an empty setting of `RETENTION` keeps rooms in which nobody writes.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

// ANCHOR: shared
/// What many servers share.
pub struct Shared {
    link: Arc<Link>,
    pubsub: PubSub,
    feeds: Arc<Feeds<String>>,
    presence: Arc<Presence>,
    post: Arc<Post>,
    attendance: Arc<Attendance>,
    /// Messages to store, and where to say how it went.
    drafts: Sender<(Draft, oneshot::Sender<Answer<Appended>>)>,
    retention: Option<Duration>,
    lifetime: Lifetime,
}

/// How it is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where Redis is.
    pub url: String,
    /// How each key and channel begins.
    pub prefix: String,
    /// For how long messages are kept; `None` for as long as their room is in use.
    pub retention: Option<Duration>,
    /// How long sessions last.
    pub lifetime: Lifetime,
    /// Whether to limit how much one user sends.
    pub limited: bool,
}

impl Shared {
    /// Joins the servers that share a Redis.
    ///
    /// # Errors
    /// A sentence: there is no Redis.
    pub async fn open(setup: Setup) -> Result<Self, String> {
        let Setup { url, prefix, retention, lifetime, limited } = setup;
        let link = Link::open(&url, &prefix).await?;
        let feeds = Arc::<Feeds<String>>::default();
        let presence = Presence::new(Arc::clone(&link), Arc::clone(&feeds));
        let post = Post::new(Arc::clone(&link), Arc::clone(&presence));
        let attendance = Attendance::new(Arc::clone(&link));
        let dispatch = Dispatch {
            feeds: Arc::clone(&feeds),
            presence: Arc::clone(&presence),
            post: Arc::clone(&post),
            attendance: Arc::clone(&attendance),
        };
        let pubsub = PubSub::new(Arc::clone(&link), Arc::new(dispatch));
        // If this takes too long, the request for it waits on.
        let _ = pubsub.subscribe(link.channel(link.node())).await;
        attendance.start(pubsub.clone());
        let drafts = writer::start(Arc::clone(&link), retention, limited);
        Ok(Self { link, pubsub, feeds, presence, post, attendance, drafts, retention, lifetime })
    }
}
// ANCHOR_END: shared

// ANCHOR: keys
/// The keys of a room. All have one tag, so that one script can have them.
fn room_key(link: &Link, room: &RoomId, rest: &str) -> String {
    link.key(&format!("{}/{}", room.namespace, room.room), rest)
}

/// The channel of a room.
fn feed_of(link: &Link, room: &RoomId) -> String {
    room_key(link, room, FEED)
}

/// How the name of such a channel ends.
const FEED: &str = "feed";

/// Adds the arguments with which a script finds out how far a room has come.
fn position_args(call: &mut Cmd, up: &Up, retention: Option<Duration>) {
    call.arg(&up.run)
        .arg(u8::from(up.durable))
        .arg(Uuid::new_v4().to_string())
        .arg(retention.unwrap_or(KEEP).as_secs());
}
// ANCHOR_END: keys
// ANCHOR_END: all
