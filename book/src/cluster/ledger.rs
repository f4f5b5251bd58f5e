//! What the robots have said and seen, and what is wrong with it.
//!
//! It takes the events of [`client::Session`] and nothing else, so its rules are tested by calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Instant;

use client::{Delivery, Event, ServerEvent, State};
use uuid::Uuid;

/// Everything that the robots know.
#[derive(Debug)]
pub struct Ledger {
    robots: Vec<Robot>,
    rooms: BTreeMap<String, Room>,
    /// How many messages were given to a session.
    sent: u64,
    /// How many came to a robot, all together.
    seen: u64,
    /// Messages that nobody gets any more, or that somebody did not get, each counted once.
    lost: BTreeSet<(String, u64)>,
    /// How often a robot saw a message that it had seen.
    twice: u64,
    /// Who lost the connection since the last recovery that was told.
    cut: BTreeSet<usize>,
    /// Who had to wait for Redis since then.
    delayed: BTreeSet<usize>,
    /// Since when all are here.
    complete_since: Option<Instant>,
    /// What else should not have happened, in sentences that are not told yet.
    wrong: Vec<String>,
    /// How often that was.
    wrongs: u64,
}

/// One room, as the acks and the eyes of all robots make it.
#[derive(Debug, Default)]
struct Room {
    /// The highest number that somebody has seen.
    top: u64,
    /// What was acked: the number of each message.
    acked: HashMap<Uuid, u64>,
}

/// One robot.
#[derive(Debug, Default)]
struct Robot {
    is_connected: bool,
    /// The rooms in which it is at present.
    here: BTreeSet<String>,
    views: BTreeMap<String, View>,
    /// What it has said and knows nothing of yet.
    waiting: HashSet<Uuid>,
}

/// How a robot sees a room.
#[derive(Debug, Default)]
struct View {
    epoch: Option<Uuid>,
    /// The number of the last message.
    at: Option<u64>,
    ids: HashSet<Uuid>,
}

/// One message in the log of a room, as it is read at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
}

/// The numbers that people want to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// How many robots there are.
    pub robots: usize,
    /// How many of them are connected, in all rooms, and able to talk.
    pub here: usize,
    /// How many messages were said.
    pub sent: u64,
    /// How many of them the cluster has promised to keep.
    pub acked: u64,
    /// How many wait for that promise.
    pub waiting: u64,
    /// How many messages came to a robot, all together.
    pub seen: u64,
    /// How many were lost.
    pub lost: u64,
    /// How many came twice.
    pub twice: u64,
    /// How often something else happened that should not.
    pub wrongs: u64,
    /// The highest number in each room.
    pub tops: Vec<(String, u64)>,
}

/// All robots are here again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Since when.
    pub at: Instant,
    /// How many had lost their connection.
    pub cut: usize,
    /// How many had to wait until messages could be stored again.
    pub delayed: usize,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let robots =
            |count| if count == 1 { "1 robot".to_owned() } else { format!("{count} robots") };
        match (self.cut, self.delayed) {
            (cut, 0) => write!(f, "{} had to reconnect", robots(cut)),
            (0, delayed) => write!(f, "{} had to wait", robots(delayed)),
            (cut, delayed) => write!(f, "{} had to reconnect, {delayed} to wait", robots(cut)),
        }
    }
}

impl Count {
    /// Whether nothing got lost, came twice, is left over, or went wrong in another way.
    pub fn is_right(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.waiting == 0 && self.wrongs == 0
    }
}

impl Ledger {
    /// So many robots, in these rooms, that have said nothing.
    pub fn new(robots: usize, rooms: &[&str]) -> Self {
        Self {
            robots: (0..robots).map(|_| Robot::default()).collect(),
            rooms: rooms.iter().map(|&room| (room.to_owned(), Room::default())).collect(),
            sent: 0,
            seen: 0,
            lost: BTreeSet::new(),
            twice: 0,
            cut: BTreeSet::new(),
            delayed: BTreeSet::new(),
            complete_since: None,
            wrong: Vec::new(),
            wrongs: 0,
        }
    }

    /// Something has happened that should not. Twelve robots that say the same are one.
    fn is_wrong(&mut self, sentence: String) {
        self.wrongs += 1;
        if !self.wrong.contains(&sentence) {
            self.wrong.push(sentence);
        }
    }

    /// A robot has said something.
    pub fn said(&mut self, robot: usize, id: Uuid) {
        self.sent += 1;
        if let Some(robot) = self.robots.get_mut(robot) {
            robot.waiting.insert(id);
        }
    }

    /// A robot's session tells something.
    pub fn take(&mut self, robot: usize, event: &Event) {
        match event {
            Event::Came(ServerEvent::Joined { room, epoch, history, gap, .. }) => {
                self.joined(robot, room, *epoch, *gap, history);
            }
            Event::Came(message @ ServerEvent::Message { .. }) => self.saw(robot, message),
            Event::Came(_) => {}
            Event::State(state) => self.state(robot, state),
            Event::Delivery { id, delivery } => self.delivered(robot, *id, delivery),
        }
        if self.here() < self.robots.len() {
            self.complete_since = None;
        } else if self.complete_since.is_none() {
            self.complete_since = Some(Instant::now());
        }
    }

    fn state(&mut self, number: usize, state: &State) {
        let Some(robot) = self.robots.get_mut(number) else { return };
        robot.is_connected = matches!(state, State::Connected);
        match state {
            State::Connected => {}
            State::Degraded => _ = self.delayed.insert(number),
            State::Connecting => robot.here.clear(),
            State::Waiting { .. } => {
                robot.here.clear();
                self.cut.insert(number);
            }
            State::Ended(why) => {
                robot.here.clear();
                self.is_wrong(format!("robot{} was turned away: {why}", number + 1));
            }
        }
    }

    fn joined(
        &mut self,
        robot: usize,
        room: &str,
        epoch: Option<Uuid>,
        gap: bool,
        history: &[ServerEvent],
    ) {
        let Some(own) = self.robots.get_mut(robot) else { return };
        own.here.insert(room.to_owned());
        let view = own.views.entry(room.to_owned()).or_default();
        let has_begun = view.epoch.is_some();
        if has_begun && view.epoch != epoch {
            // Another count: what is the same has other numbers.
            view.at = None;
            self.rooms.entry(room.to_owned()).or_default().top = 0;
        }
        let is_afresh = has_begun && (gap || view.epoch != epoch);
        view.epoch = epoch;
        if !has_begun {
            let first = history.first().and_then(numbered);
            view.at = Some(first.map_or(0, |(_, entry)| entry.seq.saturating_sub(1)));
        }
        if is_afresh {
            // What it shows again is not seen twice.
            view.ids.clear();
            self.is_wrong(format!("the room {room} began afresh: something in Redis is gone"));
        }
        history.iter().for_each(|message| self.saw(robot, message));
    }

    fn saw(&mut self, robot: usize, message: &ServerEvent) {
        let Some((room, Entry { seq, id })) = numbered(message) else { return };
        let view = self.robots.get_mut(robot).map(|robot| robot.views.entry(room.to_owned()));
        let Some(view) = view.map(|entry| entry.or_default()) else { return };
        self.seen += 1;
        self.twice += u64::from(!view.ids.insert(id));
        if let Some(at) = view.at {
            let skipped = at.saturating_add(1)..seq;
            self.lost.extend(skipped.map(|seq| (room.to_owned(), seq)));
        }
        view.at = view.at.max(Some(seq));
        let top = &mut self.rooms.entry(room.to_owned()).or_default().top;
        *top = (*top).max(seq);
    }

    fn delivered(&mut self, robot: usize, id: Uuid, delivery: &Delivery) {
        if let Some(robot) = self.robots.get_mut(robot) {
            robot.waiting.remove(&id);
        }
        match delivery {
            Delivery::Sent { room, seq } => {
                self.rooms.entry(room.clone()).or_default().acked.insert(id, *seq);
            }
            Delivery::Failed { message, .. } => {
                self.is_wrong(format!("a message of robot{} was refused: {message}", robot + 1));
            }
        }
    }

    fn is_here(&self, robot: usize) -> bool {
        let all = self.rooms.len();
        self.robots.get(robot).is_some_and(|robot| robot.is_connected && robot.here.len() == all)
    }

    fn here(&self) -> usize {
        (0..self.robots.len()).filter(|robot| self.is_here(*robot)).count()
    }

    /// Since when all are here, if they are.
    pub fn complete_since(&self) -> Option<Instant> {
        self.complete_since
    }

    /// That all are here again, once after each time that they were not.
    pub fn take_recovery(&mut self) -> Option<Recovery> {
        let at = self.complete_since?;
        let (cut, delayed) = (std::mem::take(&mut self.cut), std::mem::take(&mut self.delayed));
        let is_news = !cut.is_empty() || !delayed.is_empty();
        is_news.then_some(Recovery { at, cut: cut.len(), delayed: delayed.len() })
    }

    /// What else went wrong since the last time that somebody asked.
    pub fn take_wrong(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wrong)
    }

    /// Whether every robot has every message up to the highest number, and nothing waits.
    pub fn is_settled(&self) -> bool {
        let has_all = |robot: &Robot| {
            self.rooms.iter().all(|(name, room)| {
                robot.views.get(name).is_some_and(|view| view.at >= Some(room.top))
            })
        };
        self.robots.iter().all(|robot| robot.waiting.is_empty() && has_all(robot))
    }

    /// Compares a room with its log, as somebody reads it who was never there.
    pub fn compare(&mut self, name: &str, log: &[Entry]) {
        let Some(room) = self.rooms.get(name) else { return };
        let mut places = HashMap::new();
        for entry in log {
            self.twice += u64::from(places.insert(entry.id, entry.seq).is_some());
        }
        // A log that does not begin with 1 has forgotten its beginning on purpose.
        let first = log.first().map_or(1, |entry| entry.seq);
        let expected = room.acked.iter().filter(|(_, seq)| **seq >= first);
        let gone = expected.filter(|(id, seq)| places.get(*id) != Some(*seq));
        self.lost.extend(gone.map(|(_, seq)| (name.to_owned(), *seq)));
        let end = log.last().map_or(0, |entry| entry.seq);
        for robot in &self.robots {
            let at = robot.views.get(name).and_then(|view| view.at).unwrap_or_default();
            self.lost.extend((at + 1..=end).map(|seq| (name.to_owned(), seq)));
        }
    }

    /// The numbers for people.
    pub fn count(&self) -> Count {
        let waiting: usize = self.robots.iter().map(|robot| robot.waiting.len()).sum();
        let acked: usize = self.rooms.values().map(|room| room.acked.len()).sum();
        Count {
            robots: self.robots.len(),
            here: self.here(),
            sent: self.sent,
            acked: acked as u64,
            waiting: waiting as u64,
            seen: self.seen,
            lost: self.lost.len() as u64,
            twice: self.twice,
            wrongs: self.wrongs,
            tops: self.rooms.iter().map(|(name, room)| (name.clone(), room.top)).collect(),
        }
    }
}

/// The room, the number and the id of a message that has them.
pub fn numbered(event: &ServerEvent) -> Option<(&str, Entry)> {
    match event {
        ServerEvent::Message { room: Some(room), seq: Some(seq), id, .. } => {
            Some((room, Entry { seq: *seq, id: *id }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use client::Error;

    use super::*;

    const EPOCH: Uuid = Uuid::from_u128(99);

    fn message(seq: u64, id: u128) -> ServerEvent {
        ServerEvent::Message {
            room: Some("red".into()),
            seq: Some(seq),
            id: Uuid::from_u128(id),
            from: "robot1".into(),
            text: "hi".into(),
            at: 1,
        }
    }

    fn joined(epoch: Uuid, gap: bool, history: Vec<ServerEvent>) -> Event {
        let (room, members) = ("red".to_owned(), Vec::new());
        Event::Came(ServerEvent::Joined {
            room,
            epoch: Some(epoch),
            seq: None,
            members,
            history,
            gap,
        })
    }

    fn sent(seq: u64, id: u128) -> Event {
        let delivery = Delivery::Sent { room: "red".to_owned(), seq };
        Event::Delivery { id: Uuid::from_u128(id), delivery }
    }

    fn entry(seq: u64, id: u128) -> Entry {
        Entry { seq, id: Uuid::from_u128(id) }
    }

    /// One robot that has said and seen two messages.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(1, &["red"]);
        ledger.take(0, &Event::State(State::Connected));
        ledger.take(0, &joined(EPOCH, false, vec![]));
        for number in 1..=2 {
            ledger.said(0, Uuid::from_u128(number.into()));
            ledger.take(0, &Event::Came(message(number, number.into())));
            ledger.take(0, &sent(number, number.into()));
        }
        ledger
    }

    #[test]
    fn a_right_run_is_right() {
        let mut ledger = ledger();
        assert!(ledger.is_settled());
        ledger.compare("red", &[entry(1, 1), entry(2, 2)]);
        let count = ledger.count();
        assert!(count.is_right() && ledger.take_wrong().is_empty(), "{count:?}");
        assert_eq!((count.sent, count.acked, count.seen, count.here), (2, 2, 2, 1));
        assert_eq!(count.tops, [("red".to_owned(), 2)]);
    }

    #[test]
    fn what_was_acked_and_is_not_in_the_log_is_lost() {
        let mut ledger = ledger();
        ledger.compare("red", &[entry(1, 1)]);
        assert_eq!(ledger.count().lost, 1);
    }

    #[test]
    fn what_a_robot_skips_or_never_gets_is_lost_once() {
        let mut ledger = ledger();
        ledger.take(0, &Event::Came(message(4, 4)));
        assert_eq!(ledger.count().lost, 1);
        let log = [entry(1, 1), entry(2, 2), entry(3, 3), entry(4, 4), entry(5, 5)];
        ledger.compare("red", &log);
        assert_eq!(ledger.count().lost, 2);
    }

    #[test]
    fn the_same_id_again_is_twice_wherever_it_is() {
        let mut ledger = ledger();
        ledger.take(0, &Event::Came(message(3, 2)));
        assert_eq!(ledger.count().twice, 1);
        ledger.compare("red", &[entry(1, 1), entry(2, 2), entry(3, 2)]);
        assert_eq!(ledger.count().twice, 2);
    }

    #[test]
    fn what_waits_is_neither_right_nor_settled() {
        let mut ledger = ledger();
        ledger.said(0, Uuid::from_u128(3));
        assert!(!ledger.is_settled());
        assert!(!ledger.count().is_right());
    }

    #[test]
    fn who_is_away_is_missed_and_comes_back_into_the_rooms() {
        let mut ledger = ledger();
        assert!(ledger.complete_since().is_some());
        let why = Error::Lost { problem: "cut".to_owned() };
        ledger.take(0, &Event::State(State::Waiting { delay: Duration::ZERO, why }));
        assert_eq!(ledger.count().here, 0);
        assert_eq!((ledger.complete_since(), ledger.take_recovery()), (None, None));
        ledger.take(0, &Event::State(State::Connected));
        assert_eq!(ledger.count().here, 0);
        ledger.take(0, &joined(EPOCH, false, vec![message(3, 3)]));
        let back = ledger.take_recovery().unwrap();
        assert_eq!(back.to_string(), "1 robot had to reconnect");
        assert_eq!(ledger.take_recovery(), None);
        assert_eq!((ledger.count().lost, ledger.count().twice), (0, 0));
    }

    #[test]
    fn who_can_hear_and_not_talk_is_not_here() {
        let mut ledger = ledger();
        ledger.take(0, &Event::State(State::Degraded));
        assert_eq!(ledger.count().here, 0);
        ledger.take(0, &Event::State(State::Connected));
        assert_eq!(ledger.take_recovery().unwrap().to_string(), "1 robot had to wait");
    }

    #[test]
    fn a_room_that_begins_afresh_is_told() {
        let mut ledger = ledger();
        ledger.take(0, &joined(Uuid::from_u128(98), true, vec![message(8, 2), message(9, 9)]));
        let sentence = "the room red began afresh: something in Redis is gone";
        assert_eq!(ledger.take_wrong(), [sentence]);
        assert!(ledger.take_wrong().is_empty() && !ledger.count().is_right());
        assert_eq!(ledger.count().tops, [("red".to_owned(), 9)]);
        assert_eq!((ledger.count().lost, ledger.count().twice), (0, 0));
    }
}
