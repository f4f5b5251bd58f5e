// ANCHOR: all
//! What survives a connection: who we are, where we are, and what the server has not stored yet.
//!
//! Nothing here waits or touches the network: events go in, and what to send and what to tell the
//! user comes out. So all the rules are tested by calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::backoff::random;
use crate::protocol::{ClientEvent, ServerEvent};
use crate::session::outbox::{Address, Letter, Outbox, Way};
use crate::session::place::{Hole, News, Place, Seam};
use crate::session::{Delivery, Event, State};

/// How long to wait if the server does not say how long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// For how long somebody who is not there may be coming back: what cut us has perhaps cut them.
const ABSENCE: Duration = Duration::from_secs(30);

const NOT_IN_ROOM: &str = "You are not in that room.";

// ANCHOR: memory
/// What survives a connection.
#[derive(Debug)]
pub struct Memory {
    /// Our name; from the first welcome on as the server writes it.
    name: String,
    /// Which client we are to the server: it gets us the name back, or our old connection closed.
    session: Option<Uuid>,
    /// There has been a welcome.
    is_known: bool,
    /// When there was another one after it.
    back_since: Option<Instant>,
    places: BTreeMap<String, Place>,
    outbox: Outbox,
    /// What to ask for. An error that answers one of these does not say which, so they are asked
    /// one after the other.
    requests: VecDeque<Request>,
    /// The one that was sent and is not answered, and when.
    asked: Option<(Request, Instant)>,
    /// Until when the server does not want anything from us.
    quiet_until: Option<Instant>,
    /// In which room we are typing. It is never repeated.
    typing: Option<String>,
    /// When to come back after the connection has ended, if the server has said so.
    come_back: Option<Instant>,
    /// Something has worked on this connection.
    pub has_progress: bool,
    /// What the user has not taken yet.
    pub told: VecDeque<Event>,
}

/// Something to ask for that has one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    what: What,
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Join(String),
    Leave(String),
    Rooms,
}

/// What a user asks of a session.
#[derive(Debug)]
pub enum Order {
    /// Store this message.
    Say { id: Uuid, to: Address, text: String, place: OwnedSemaphorePermit },
    /// Send any other event.
    Ask(ClientEvent),
    /// Cut the wire.
    Cut,
}
// ANCHOR_END: memory

impl Memory {
    /// Nothing is known but the name.
    pub fn new(name: String) -> Self {
        Self {
            name,
            session: None,
            is_known: false,
            back_since: None,
            places: BTreeMap::new(),
            outbox: Outbox::default(),
            requests: VecDeque::new(),
            asked: None,
            quiet_until: None,
            typing: None,
            come_back: None,
            has_progress: false,
            told: VecDeque::new(),
        }
    }

    /// The session of the last welcome.
    pub fn session(&self) -> Option<Uuid> {
        self.session
    }

    /// The hello that begins each connection without a token.
    pub fn hello(&self) -> ClientEvent {
        ClientEvent::Hello { name: self.name.clone(), session: self.session }
    }

    /// The server has let us in.
    pub fn welcome(&mut self, name: String, session: Option<Uuid>) {
        self.back_since = self.is_known.then(Instant::now);
        (self.name, self.session, self.is_known) = (name, session, true);
        // Without rooms and messages there is nothing more that could go wrong.
        self.has_progress = self.places.is_empty() && self.outbox.is_empty();
        self.tell(Event::State(State::Connected));
        let rooms: Vec<String> = self.places.keys().cloned().collect();
        for room in rooms.into_iter().rev() {
            self.request_first(What::Join(room));
        }
    }

    /// Whether there has been a welcome.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// The server does not know our session. Gives whether there was one to forget.
    pub fn forget_session(&mut self) -> bool {
        self.session.take().is_some()
    }

    /// The connection is gone.
    pub fn disconnect(&mut self) {
        for place in self.places.values_mut() {
            place.is_here = false;
        }
        self.outbox.disconnect();
        (self.quiet_until, self.typing) = (None, None);
        if let Some((request, _)) = self.asked.take() {
            self.requests.push_front(request);
        }
        // The next welcome asks for every room.
        self.requests.retain(|request| !matches!(request.what, What::Join(_)));
    }

    /// How long the server wants us to stay away.
    pub fn take_hint(&mut self, now: Instant) -> Option<Duration> {
        self.come_back.take().map(|time| time.saturating_duration_since(now))
    }

    pub fn tell(&mut self, event: Event) {
        self.told.push_back(event);
    }
}

// ANCHOR: obey
impl Memory {
    /// Notes what the user asks for.
    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Say { id, to, text, place } => self.say(Letter::new(id, to, text, place)),
            Order::Ask(ClientEvent::Join { room, .. }) => {
                self.places.entry(room.clone()).or_default();
                self.request(What::Join(room));
            }
            Order::Ask(ClientEvent::Leave { room }) => self.request(What::Leave(room)),
            Order::Ask(ClientEvent::Rooms) => self.request(What::Rooms),
            Order::Ask(ClientEvent::Typing { room }) => self.typing = Some(room),
            // A message has an id and so is an order of its own; hello is our own business.
            Order::Ask(
                ClientEvent::Hello { .. }
                | ClientEvent::Message { .. }
                | ClientEvent::Direct { .. },
            )
            | Order::Cut => {}
        }
    }

    fn say(&mut self, letter: Letter) {
        match &letter.to {
            Address::Room(room) if !self.places.contains_key(room) => {
                self.fail(letter, "not_in_room", NOT_IN_ROOM);
            }
            Address::Room(_) | Address::User(_) => self.outbox.push(letter),
        }
    }

    fn request(&mut self, what: What) {
        let request = Request { what, not_before: None };
        if !self.requests.contains(&request) {
            self.requests.push_back(request);
        }
    }

    fn request_first(&mut self, what: What) {
        self.requests.retain(|request| request.what != what);
        self.requests.push_front(Request { what, not_before: None });
    }

    /// Asks for a room again, unless that has been asked for already.
    fn rejoin(&mut self, room: String) {
        let what = What::Join(room);
        if !self.asked.as_ref().is_some_and(|(request, _)| request.what == what) {
            self.request_first(what);
        }
    }
}
// ANCHOR_END: obey

// ANCHOR: next
impl Memory {
    /// The next event to send, if there is one.
    pub fn next(&mut self, now: Instant) -> Option<ClientEvent> {
        self.give_up_old(now);
        if self.quiet_until.is_some_and(|time| time > now) {
            return None;
        }
        self.next_request(now).or_else(|| self.next_letter(now)).or_else(|| self.next_typing())
    }

    fn next_request(&mut self, now: Instant) -> Option<ClientEvent> {
        if self.asked.is_some() {
            return None;
        }
        let index = self.requests.iter().position(|request| self.is_due(request, now))?;
        let request = self.requests.remove(index)?;
        let event = match &request.what {
            What::Join(room) => self.places.get(room).map(|place| place.join(room))?,
            What::Leave(room) => ClientEvent::Leave { room: room.clone() },
            What::Rooms => ClientEvent::Rooms,
        };
        self.asked = Some((request, now));
        Some(event)
    }

    fn is_due(&self, request: &Request, now: Instant) -> bool {
        let is_time = request.not_before.is_none_or(|time| time <= now);
        is_time
            && match &request.what {
                // First everything that was said before.
                What::Leave(room) => !self.outbox.has_for(&Address::Room(room.clone())),
                What::Join(_) | What::Rooms => true,
            }
    }

    fn next_letter(&mut self, now: Instant) -> Option<ClientEvent> {
        let (places, name) = (&self.places, &self.name);
        let is_here = |room: &str| places.get(room).is_some_and(|place| place.is_here);
        self.outbox.next(now, |to| match to {
            Address::Room(room) if is_here(room) => Way::Open,
            Address::Room(_) => Way::Closed,
            Address::User(to) => {
                let room = conversation(name, to);
                match places.get(&room) {
                    Some(place) if place.is_here => Way::Through(room),
                    Some(_) => Way::Closed,
                    None => Way::Open,
                }
            }
        })
    }

    fn next_typing(&mut self) -> Option<ClientEvent> {
        let room = self.typing.take()?;
        let is_here = self.places.get(&room).is_some_and(|place| place.is_here);
        is_here.then_some(ClientEvent::Typing { room })
    }

    /// When there may be something to send that could not be sent now. What is due already waits
    /// for something else than time.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let requests = self.requests.iter().filter_map(|request| request.not_before);
        let due = requests.chain(self.outbox.due()).chain(self.quiet_until);
        due.filter(|time| *time > now).min()
    }

    /// When the first event was sent that the server has not answered.
    pub fn oldest_unanswered(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|(_, sent)| *sent);
        asked.into_iter().chain(self.outbox.oldest_unanswered()).min()
    }

    fn give_up_old(&mut self, now: Instant) {
        for letter in self.outbox.take_old(now) {
            self.fail(letter, "too_old", "it has waited for an hour");
        }
    }
}

/// The room in which two users speak with each other.
fn conversation(me: &str, other: &str) -> String {
    let mut names = [me.to_lowercase(), other.to_lowercase()];
    names.sort();
    format!("dm:{}", names.join(":"))
}
// ANCHOR_END: next

// ANCHOR: take
impl Memory {
    /// Takes an event of the server, and tells the user what is new in it.
    pub fn take(&mut self, event: ServerEvent, now: Instant) {
        match event {
            ServerEvent::Joined { .. } => self.joined(event),
            ServerEvent::Message { room: Some(ref room), seq: Some(seq), id, ref from, .. } => {
                let news = self.places.get_mut(room).map(|place| place.take(seq, id, from));
                match news {
                    Some(News::New) => self.tell(Event::Came(event)),
                    Some(News::Hole) => self.mend(room.clone()),
                    Some(News::Old) | None => {}
                }
            }
            ServerEvent::Ack { id, room, seq } => self.acked(id, room, seq),
            ServerEvent::Left { ref room } => {
                self.answered(&What::Leave(room.clone()));
                self.forget(room, "not_in_room", NOT_IN_ROOM);
                self.tell(Event::Came(event));
            }
            ServerEvent::Rooms { .. } => {
                self.answered(&What::Rooms);
                self.tell(Event::Came(event));
            }
            ServerEvent::Status { degraded: true } => self.tell(Event::State(State::Degraded)),
            ServerEvent::Status { degraded: false } => self.tell(Event::State(State::Connected)),
            ServerEvent::Reconnect { after } => {
                self.come_back = Some(now + Duration::from_millis(after).min(MAX_WAIT));
                self.tell(Event::Came(event));
            }
            ServerEvent::Error { id: Some(id), code, message, retry_after } => {
                self.refused(id, &code, &message, retry_after, now);
            }
            ServerEvent::Error { id: None, .. } => self.refused_request(event, now),
            ServerEvent::Unknown => {}
            ServerEvent::Welcome { .. }
            | ServerEvent::UserJoined { .. }
            | ServerEvent::UserLeft { .. }
            | ServerEvent::MemberJoined { .. }
            | ServerEvent::MemberLeft { .. }
            | ServerEvent::Message { .. }
            | ServerEvent::Typing { .. }
            | ServerEvent::Direct { .. } => self.tell(Event::Came(event)),
        }
        self.has_progress |=
            self.requests.is_empty() && self.asked.is_none() && self.outbox.is_empty();
    }

    fn joined(&mut self, mut event: ServerEvent) {
        let ServerEvent::Joined { room, epoch, seq, history, gap, .. } = &mut event else { return };
        let (Some(epoch), Some(seq)) = (*epoch, *seq) else { return self.tell(Event::Came(event)) };
        let name = room.clone();
        let place = self.places.entry(name.clone()).or_default();
        let entered = place.enter(Seam { epoch, seq, gap: *gap }, history);
        self.answered(&What::Join(name.clone()));
        match entered {
            Ok(is_afresh) => {
                *gap = is_afresh;
                self.tell(Event::Came(event));
            }
            Err(Hole) => self.rejoin(name),
        }
    }

    /// Something of this room is missing.
    fn mend(&mut self, room: String) {
        let what = What::Join(room.clone());
        let is_asked = self.asked.as_ref().is_some_and(|(request, _)| request.what == what);
        if is_asked || self.requests.iter().any(|request| request.what == what) {
            return;
        }
        if let Some(place) = self.places.get_mut(&room) {
            place.tear();
            self.rejoin(room);
        }
    }

    fn acked(&mut self, id: Uuid, room: String, seq: u64) {
        if self.places.get(&room).is_some_and(|place| place.is_here && !place.has(seq)) {
            // Everyone hears a message before its sender hears that it is stored.
            self.mend(room.clone());
        }
        if self.outbox.take(id).is_some() {
            self.has_progress = true;
            self.tell(Event::Delivery { id, delivery: Delivery::Sent { room, seq } });
        }
    }

    fn answered(&mut self, what: &What) {
        self.asked.take_if(|(request, _)| request.what == *what);
    }
}
// ANCHOR_END: take

// ANCHOR: refused
impl Memory {
    /// The server has not taken one of our messages.
    fn refused(
        &mut self,
        id: Uuid,
        code: &str,
        message: &str,
        retry_after: Option<u64>,
        now: Instant,
    ) {
        self.slow_down(code, retry_after, now);
        let can_wait = match code {
            "no_such_user" => self.back_since.is_some_and(|since| now < since + ABSENCE),
            "not_in_room" => self.come_in_again(id),
            code => is_passing(code, retry_after),
        };
        if can_wait {
            self.outbox.postpone(id, now + wait(retry_after));
            return;
        }
        let Some(letter) = self.outbox.take(id) else { return };
        self.fail(letter, code, message);
    }

    /// The server has forgotten that we are in the room of this message: joins again. Gives whether
    /// that makes sense.
    fn come_in_again(&mut self, id: Uuid) -> bool {
        let Some(Address::Room(room)) = self.outbox.address(id).cloned() else { return false };
        let leave = What::Leave(room.clone());
        if self.asked.as_ref().is_some_and(|(request, _)| request.what == leave) {
            return false;
        }
        let Some(place) = self.places.get_mut(&room) else { return false };
        place.is_here = false;
        self.rejoin(room);
        true
    }

    /// The server has not done what we asked for last.
    fn refused_request(&mut self, event: ServerEvent, now: Instant) {
        let ServerEvent::Error { code, message, retry_after, .. } = &event else { return };
        self.slow_down(code, *retry_after, now);
        let Some((request, _)) = self.asked.take() else { return self.tell(Event::Came(event)) };
        if is_passing(code, *retry_after) {
            let not_before = Some(now + wait(*retry_after));
            self.requests.push_back(Request { not_before, ..request });
            return;
        }
        if let What::Join(room) | What::Leave(room) = request.what {
            self.forget(&room, code, message);
        }
        self.tell(Event::Came(event));
    }

    /// Says nothing for a while if we have said too much. What the server allows comes back at some
    /// events a second: who goes on with the first of them is refused again at once, and who is
    /// refused too often is sent away.
    fn slow_down(&mut self, code: &str, retry_after: Option<u64>, now: Instant) {
        if code == "rate_limited" {
            self.quiet_until = Some(now + wait(retry_after).max(RETRY_AFTER));
        }
    }

    /// We are not in this room any more, and what we wanted to say there stays unsaid.
    fn forget(&mut self, room: &str, code: &str, message: &str) {
        self.places.remove(room);
        for letter in self.outbox.take_for(&Address::Room(room.to_owned())) {
            self.fail(letter, code, message);
        }
    }

    /// Tells the user that a message will not be sent again.
    fn fail(&mut self, letter: Letter, code: &str, message: &str) {
        let Letter { id, text, .. } = letter;
        let (code, message) = (code.to_owned(), message.to_owned());
        self.tell(Event::Delivery { id, delivery: Delivery::Failed { code, message, text } });
    }

    /// Gives a message up that cannot be sent at all.
    pub fn give_up(&mut self, id: Uuid, message: &str) {
        if let Some(letter) = self.outbox.take(id) {
            self.fail(letter, "text_too_long", message);
        }
    }
}

/// Whether the same may be accepted later.
pub fn is_passing(code: &str, retry_after: Option<u64>) -> bool {
    retry_after.is_some() || matches!(code, "unavailable" | "rate_limited")
}

/// How long to wait until we send something again.
fn wait(retry_after: Option<u64>) -> Duration {
    spread(retry_after.map_or(RETRY_AFTER, Duration::from_millis))
}

/// As long as the server says and up to half as long again, so that not everyone who was refused
/// comes back in the same moment.
pub fn spread(retry_after: Duration) -> Duration {
    let wait = retry_after.clamp(Duration::from_millis(50), MAX_WAIT);
    wait.mul_f64(1.0 + random() / 2.0)
}
// ANCHOR_END: refused

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    /// Takes everything that is to be sent.
    fn sent(memory: &mut Memory, now: Instant) -> Vec<ClientEvent> {
        std::iter::from_fn(|| memory.next(now)).collect()
    }

    fn order(id: u128, room: &str) -> Order {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (id, to, text) = (Uuid::from_u128(id), Address::Room(room.to_owned()), id.to_string());
        Order::Say { id, to, text, place }
    }

    fn joined(room: &str) -> ServerEvent {
        let (room, members, history) = (room.to_owned(), vec![], vec![]);
        let (epoch, seq, gap) = (Some(Uuid::nil()), Some(0), false);
        ServerEvent::Joined { room, epoch, seq, members, history, gap }
    }

    fn error(code: &str, id: Option<u128>) -> ServerEvent {
        let (code, message) = (code.to_owned(), String::new());
        ServerEvent::Error { code, message, id: id.map(Uuid::from_u128), retry_after: None }
    }

    /// A memory of one who is in these rooms.
    fn of(rooms: &[&str], now: Instant) -> Memory {
        let mut memory = Memory::new("ada".into());
        memory.welcome("ada".into(), Some(Uuid::nil()));
        for room in rooms {
            memory.obey(Order::Ask(ClientEvent::join(*room)));
            assert_eq!(sent(&mut memory, now), [ClientEvent::join(*room)]);
            memory.take(joined(room), now);
        }
        memory
    }

    #[tokio::test(start_paused = true)]
    async fn questions_without_an_id_are_asked_one_after_the_other() {
        let now = Instant::now();
        let mut memory = of(&[], now);
        memory.obey(Order::Ask(ClientEvent::join("a")));
        memory.obey(Order::Ask(ClientEvent::join("B!")));
        memory.obey(Order::Ask(ClientEvent::Rooms));
        assert_eq!(sent(&mut memory, now), [ClientEvent::join("a")]);
        memory.take(joined("a"), now);
        assert_eq!(sent(&mut memory, now), [ClientEvent::join("B!")]);
        memory.take(error("bad_room", None), now);
        assert_eq!(sent(&mut memory, now), [ClientEvent::Rooms]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_room_does_not_wait_for_another() {
        let now = Instant::now();
        let mut memory = of(&["a", "b"], now);
        for (id, room) in [(1, "a"), (2, "a"), (3, "b")] {
            memory.obey(order(id, room));
        }
        let ids = |events: Vec<ClientEvent>| {
            Vec::from_iter(events.iter().map(|event| match event {
                ClientEvent::Message { text, .. } => text.clone(),
                other => panic!("{other:?}"),
            }))
        };
        assert_eq!(ids(sent(&mut memory, now)), ["1", "3"]);
        memory.take(error("unavailable", Some(1)), now);
        assert_eq!(ids(sent(&mut memory, now)), [""; 0]);
        let due = memory.next_due(now).unwrap();
        assert!(due >= now + RETRY_AFTER && due <= now + RETRY_AFTER * 3 / 2, "{:?}", due - now);
        assert_eq!(ids(sent(&mut memory, due)), ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_said_too_much_says_nothing_anywhere_for_a_while() {
        let now = Instant::now();
        let mut memory = of(&["a", "b"], now);
        memory.obey(order(1, "a"));
        assert_eq!(sent(&mut memory, now).len(), 1);
        memory.take(error("rate_limited", Some(1)), now);
        memory.obey(order(2, "b"));
        memory.obey(Order::Ask(ClientEvent::Rooms));
        let soon = now + RETRY_AFTER / 2;
        assert_eq!(sent(&mut memory, soon), []);
        let due = now + RETRY_AFTER * 2;
        assert!(memory.next_due(soon).is_some_and(|time| time < due));
        assert_eq!(sent(&mut memory, due).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_something_else_than_time_wakes_nobody() {
        let now = Instant::now();
        let mut memory = of(&["a"], now);
        memory.obey(order(1, "a"));
        assert_eq!(sent(&mut memory, now).len(), 1);
        // The server has forgotten that we are in the room.
        memory.take(error("not_in_room", Some(1)), now);
        assert!(matches!(sent(&mut memory, now)[..], [ClientEvent::Join { after: Some(0), .. }]));
        let due = memory.next_due(now).unwrap();
        assert_eq!(sent(&mut memory, due), []);
        assert_eq!(memory.next_due(due), None);
        memory.take(joined("a"), due);
        assert_eq!(sent(&mut memory, due).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_hour_a_message_is_given_up() {
        let mut memory = of(&["a"], Instant::now());
        memory.disconnect();
        memory.obey(order(1, "a"));
        tokio::time::advance(Duration::from_secs(60 * 60)).await;
        memory.welcome("ada".into(), Some(Uuid::nil()));
        assert_eq!(sent(&mut memory, Instant::now()).len(), 1, "the join");
        let failed = memory.told.pop_back();
        assert!(
            matches!(failed, Some(Event::Delivery { delivery: Delivery::Failed { code, .. }, .. }) if code == "too_old")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_cannot_send_us_away_for_long() {
        let now = Instant::now();
        let mut memory = of(&[], now);
        memory.take(ServerEvent::Reconnect { after: u64::MAX }, now);
        assert_eq!(memory.take_hint(now), Some(MAX_WAIT));
        assert_eq!(memory.take_hint(now), None, "once");
    }
}
// ANCHOR_END: all
