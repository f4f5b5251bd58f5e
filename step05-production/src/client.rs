// ANCHOR: all
//! One client, however it is connected: what each event that it sends does.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::select;
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use uuid::Uuid;

use crate::conversation;
use crate::hub::{Hub, Invitations, Place};
use crate::names;
use crate::outbox::Outbox;
use crate::places::Places;
use crate::protocol::{self, ClientEvent, Cursor, ErrorCode, ServerEvent};
use crate::room::{self, Command, Listener, Seam, Who};
use crate::telemetry;

/// How many rooms one client may be in. As many conversations come on top, so that nobody can keep
/// a user out of rooms by starting conversations with them.
const MAX_ROOMS: usize = 64;

// ANCHOR: client
/// A client that is signed in.
pub struct Client {
    who: Who,
    session: Uuid,
    hub: Arc<Hub>,
    /// Where everything goes that is not the answer to one event.
    outbox: Outbox,
    /// How many more rooms its user may be in.
    memberships: Arc<Semaphore>,
    /// The rooms this client is in.
    rooms: HashMap<String, Joined>,
}

/// A room that a client is in.
struct Joined {
    /// Reaches the room, and keeps it open.
    commands: Sender<Command>,
    /// Counts among the rooms of its user.
    _membership: OwnedSemaphorePermit,
}

/// What comes to a client from elsewhere in the server, and not through a room.
pub struct Notices {
    invitations: Arc<Invitations>,
    degraded: watch::Receiver<bool>,
}

/// One of them.
#[derive(Debug)]
pub enum Notice {
    /// Somebody has written in a conversation with this client.
    Invited(String),
    /// The log went away, or came back.
    Degraded(bool),
}

impl Client {
    /// Makes a client of whoever has taken a place, and says welcome.
    pub fn new(place: Place, hub: Arc<Hub>, outbox: Outbox) -> (Self, Notices) {
        let Place { who, session, invitations, memberships, degraded, .. } = place;
        tracing::info!(id = %who.connection, name = who.name, "welcome");
        let client = Self { who, session, hub, outbox, memberships, rooms: HashMap::new() };
        client.outbox.tell(client.welcome());
        let mut notices = Notices { invitations, degraded };
        notices.tell_status(&client.outbox);
        (client, notices)
    }

    /// The first event of each client: who it is.
    fn welcome(&self) -> ServerEvent {
        let Who { name, connection } = self.who.clone();
        ServerEvent::Welcome { id: connection, name, session: self.session }
    }

    /// Leaves all rooms and the hub.
    pub async fn leave(self) {
        for room in self.rooms.into_values() {
            let _ = room.commands.send(Command::Gone(self.who.clone())).await;
        }
        self.hub.leave(&self.who);
    }
}

impl Notices {
    /// Tells a newcomer if the log is away.
    pub fn tell_status(&mut self, outbox: &Outbox) {
        if *self.degraded.borrow_and_update() {
            outbox.tell(ServerEvent::Status { degraded: true });
        }
    }

    /// Waits for the next notice. `select!` may drop this while it waits; then nothing is lost.
    pub async fn next(&mut self) -> Option<Notice> {
        select! {
            room = self.invitations.next() => Some(Notice::Invited(room)),
            changed = self.degraded.changed() => {
                changed.ok().map(|()| Notice::Degraded(*self.degraded.borrow_and_update()))
            }
        }
    }
}
// ANCHOR_END: client

// ANCHOR: handle
impl Client {
    /// Does what one event asks for. The ack of a message, an error and a list of rooms go to
    /// `reply`.
    pub async fn handle(&mut self, event: ClientEvent, reply: &Outbox) {
        let id = event.message_id();
        if let Err(code) = self.obey(event, reply).await {
            telemetry::failed(code.word());
            reply.tell(code.about(id));
        }
    }

    async fn obey(&mut self, event: ClientEvent, reply: &Outbox) -> Result<(), ErrorCode> {
        match event {
            ClientEvent::Hello { .. } => Err(ErrorCode::Forbidden),
            ClientEvent::Join { room, epoch, after } => {
                let cursor = epoch.zip(after).map(|(epoch, after)| Cursor { epoch, after });
                self.join(room, cursor).await
            }
            ClientEvent::Leave { room } => {
                self.ask(&room, Command::Leave(self.who.clone())).await?;
                self.rooms.remove(&room);
                Ok(())
            }
            ClientEvent::Message { id, room, text } => self.say(id, room, &text, reply).await,
            ClientEvent::Typing { room } => {
                conversation::partner(&room, &self.who.name)?;
                self.ask(&room, Command::Typing(self.who.clone())).await
            }
            ClientEvent::Direct { id, to, text } => self.direct(id, &to, &text, reply).await,
            ClientEvent::Rooms => {
                reply.tell(ServerEvent::Rooms { rooms: self.hub.list().await? });
                Ok(())
            }
            ClientEvent::Unknown => Err(ErrorCode::UnknownType),
        }
    }

    /// Takes in a notice.
    pub async fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Degraded(degraded) => self.outbox.tell(ServerEvent::Status { degraded }),
            Notice::Invited(room) if self.rooms.contains_key(&room) => {}
            Notice::Invited(room) => {
                if let Err(code) = self.join(room, None).await {
                    self.outbox.tell(code);
                }
            }
        }
    }

    /// Sends a command to a room that this client is in.
    async fn ask(&self, room: &str, command: Command) -> Result<(), ErrorCode> {
        let room = self.rooms.get(room).ok_or(ErrorCode::NotInRoom)?;
        room.commands.send(command).await.map_err(|_| ErrorCode::NotInRoom)
    }
}
// ANCHOR_END: handle

// ANCHOR: join
impl Client {
    /// Joins a room, or asks it for `joined` once more.
    pub async fn join(&mut self, room: String, cursor: Option<Cursor>) -> Result<(), ErrorCode> {
        if conversation::partner(&room, &self.who.name)?.is_none() {
            room::check_name(&room)?;
        }
        let is_new = !self.rooms.contains_key(&room);
        if is_new {
            self.open(&room)?;
        }
        let joined = self.catch_up(&room, cursor).await;
        if is_new && joined.is_err() {
            self.rooms.remove(&room);
        }
        joined
    }

    /// Puts a room on the list of rooms, if there is space on it and in the server.
    fn open(&mut self, room: &str) -> Result<(), ErrorCode> {
        if self.is_full(room) {
            return Err(ErrorCode::TooManyRooms);
        }
        let membership = Arc::clone(&self.memberships).try_acquire_owned();
        let membership = membership.map_err(|_full| ErrorCode::TooManyRooms)?;
        let commands = self.hub.room(room)?;
        self.rooms.insert(room.to_owned(), Joined { commands, _membership: membership });
        Ok(())
    }

    // ANCHOR: catch-up
    /// Asks a room for what this client has missed, page by page, until nothing is missing.
    async fn catch_up(&self, room: &str, mut cursor: Option<Cursor>) -> Result<(), ErrorCode> {
        loop {
            // Who does not read the last page gets no next one, so it takes no memory.
            let turn = self.outbox.turn().await;
            let listener = Listener { who: self.who.clone(), outbox: self.outbox.clone() };
            let (answer, answered) = oneshot::channel();
            self.ask(room, Command::Join { listener, cursor, turn, answer }).await?;
            match answered.await.unwrap_or(Err(ErrorCode::Unavailable))? {
                Seam::Whole => return Ok(()),
                Seam::More(reached) => cursor = Some(reached),
            }
        }
    }
    // ANCHOR_END: catch-up

    fn is_full(&self, room: &str) -> bool {
        let kind = conversation::is_one(room);
        self.rooms.keys().filter(|room| conversation::is_one(room) == kind).count() >= MAX_ROOMS
    }
}
// ANCHOR_END: join

// ANCHOR: say
impl Client {
    /// Says something in a room. The room replies when it is stored.
    async fn say(
        &self,
        id: Uuid,
        room: String,
        text: &str,
        reply: &Outbox,
    ) -> Result<(), ErrorCode> {
        let partner = conversation::partner(&room, &self.who.name)?;
        let (text, reply) = (protocol::trim(text)?, reply.clone());
        self.ask(&room, Command::Say { who: self.who.clone(), id, text, reply }).await?;
        if let Some(partner) = partner {
            // On all their devices, and on our others.
            let (me, here) = (names::key(&self.who.name), self.who.connection);
            self.hub.invite(&partner, &room, here);
            self.hub.invite(&me, &room, here);
        }
        Ok(())
    }

    /// Says something in the conversation with a user, who need not be here, and joins it before.
    async fn direct(
        &mut self,
        id: Uuid,
        to: &str,
        text: &str,
        reply: &Outbox,
    ) -> Result<(), ErrorCode> {
        let room = conversation::between(&self.who.name, &self.hub.find(to).await?);
        if !self.rooms.contains_key(&room) {
            self.join(room.clone(), None).await?;
        }
        self.say(id, room, text, reply).await
    }
}
// ANCHOR_END: say

// ANCHOR: outbox
impl Client {
    /// Its name and id.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Where everything goes that is not the answer to one event.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Puts another outbox in its place, and leaves the rooms that are not among these. The others
    /// use the new outbox from the next join on.
    pub async fn move_to(&mut self, outbox: Outbox, places: &Places) {
        self.outbox = outbox;
        for (_, room) in self.rooms.extract_if(|room, _| !places.0.contains_key(room)) {
            let _ = room.commands.send(Command::Gone(self.who.clone())).await;
        }
    }
}
// ANCHOR_END: outbox
// ANCHOR_END: all
