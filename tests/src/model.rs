//! What a client has sent and seen, and what it should have: the log as somebody reads it who was
//! never there.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::event::{is, text};
use crate::raw::{Frame, Opened, PING, Socket, TEXT};

/// How long the log may take for one page.
const PATIENCE: Duration = Duration::from_secs(20);

/// One message, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its number in the room.
    pub seq: u64,
    /// Its sender's id for it.
    pub id: Uuid,
    /// Its sender.
    pub from: String,
    /// What it says.
    pub text: String,
}

impl Heard {
    /// The message in an event.
    pub fn of(event: &Value) -> Option<Self> {
        Some(Self {
            seq: event.get("seq")?.as_u64()?,
            id: Uuid::try_parse(text(event, "id")).ok()?,
            from: text(event, "from").to_owned(),
            text: text(event, "text").to_owned(),
        })
    }
}

/// How one client sees one room.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The epoch of the room's numbers; empty before the first `joined`.
    pub epoch: String,
    /// The number of the last message it has.
    pub at: u64,
    /// All messages, as they came.
    pub heard: Vec<Heard>,
}

/// A message that somebody wants to be stored.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The id.
    pub id: Uuid,
    /// The room.
    pub room: String,
    /// What it says.
    pub text: String,
}

impl Draft {
    /// The event that sends it.
    pub fn event(&self) -> String {
        json!({"type": "message", "id": self.id, "room": self.room, "text": self.text}).to_string()
    }
}

/// Everything one client has sent and seen, and what was wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The session of its last `welcome`.
    pub session: Option<String>,
    /// What is not acked yet, in the order in which it was typed.
    pub outbox: VecDeque<Draft>,
    /// What was acked: the room, the number and the text.
    pub acked: HashMap<Uuid, (String, u64, String)>,
    /// Its rooms.
    pub views: BTreeMap<String, View>,
    /// How often it had a connection.
    pub connections: u64,
    /// How many messages it has sent again.
    pub sent_again: u64,
    /// Messages that came twice.
    pub duplicates: u64,
    /// Messages that came out of order, or after a hole.
    pub order_breaks: u64,
    /// Where its stream was, without a WebSocket.
    pub last_id: String,
    /// Whether a room may begin anew, where the log may lose its end.
    pub forgives: bool,
    /// How often a room has begun anew.
    pub begun_anew: usize,
    /// How often its stream ended for a newer one.
    pub replaced: usize,
    /// Anything else a right server does not do.
    pub wrong: Vec<String>,
}

impl Record {
    /// Takes in an event of the server.
    pub fn take(&mut self, event: &Value) {
        match text(event, "type") {
            "joined" => self.joined(event),
            "message" => self.message(event),
            "ack" => self.ack(event),
            _ => {}
        }
    }

    fn joined(&mut self, event: &Value) {
        let history = event.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
        let seq = event.get("seq").and_then(Value::as_u64).unwrap_or_default();
        let (room, epoch) = (text(event, "room").to_owned(), text(event, "epoch").to_owned());
        let view = self.views.entry(room.clone()).or_default();
        if view.epoch.is_empty() {
            let first = history.first().and_then(Heard::of);
            view.at = first.map_or(seq, |first| first.seq - 1);
        } else if epoch != view.epoch || event.get("gap") != Some(&json!(false)) {
            self.begun_anew += 1;
            if !self.forgives {
                self.wrong.push(format!("a gap in {room} at {}", view.at));
            } else if event.get("gap") == Some(&json!(true)) {
                // What comes now is all there is.
                let first = history.first().and_then(Heard::of);
                view.at = first.map_or(seq, |first| first.seq - 1);
                view.heard.clear();
            }
        }
        view.epoch = epoch;
        history.iter().for_each(|message| self.message(message));
        let at = self.views.get(&room).map(|view| view.at);
        if at != Some(seq) {
            self.wrong.push(format!("joined {room} at {seq}, but the history ends at {at:?}"));
        }
    }

    fn message(&mut self, event: &Value) {
        let view = self.views.get_mut(text(event, "room"));
        let (Some(heard), Some(view)) = (Heard::of(event), view) else {
            return self.wrong.push(format!("a message from nowhere: {event}"));
        };
        match heard.seq {
            seq if seq <= view.at => self.duplicates += 1,
            seq if seq > view.at + 1 => self.order_breaks += 1,
            _ => {}
        }
        view.at = view.at.max(heard.seq);
        view.heard.push(heard);
    }

    fn ack(&mut self, event: &Value) {
        let id = Uuid::try_parse(text(event, "id")).unwrap_or_default();
        let seq = event.get("seq").and_then(Value::as_u64).unwrap_or_default();
        if let Some(place) = self.outbox.iter().position(|draft| draft.id == id)
            && let Some(draft) = self.outbox.remove(place)
        {
            self.acked.insert(id, (draft.room, seq, draft.text));
        }
        match self.acked.get(&id) {
            Some((room, first, _)) if (room.as_str(), *first) == (text(event, "room"), seq) => {}
            other => self.wrong.push(format!("{event}, where {other:?} was due")),
        }
    }
}

/// The rooms as they are in the log.
pub type Log = BTreeMap<String, Vec<Heard>>;

/// Reads whole rooms, as somebody who was never there.
///
/// # Errors
/// The server does not answer, or a room has lost its beginning.
pub async fn read_log(address: &str, rooms: &[String]) -> Result<Log> {
    let opened = timeout(PATIENCE, Socket::open(address, "/ws", &[])).await??;
    let Opened::Socket(mut socket) = opened else { bail!("refused: {opened:?}") };
    let name = format!("reader-{}", Uuid::new_v4().simple());
    let name = name.chars().take(32).collect::<String>();
    send(&mut socket, &json!({"type": "hello", "name": name})).await?;
    until(&mut socket, "welcome").await?;
    let mut log = Log::new();
    for room in rooms {
        send(&mut socket, &json!({"type": "join", "room": room})).await?;
        let newest = until(&mut socket, "joined").await?;
        let last = newest.get("seq").and_then(Value::as_u64).context("no seq")?;
        let epoch = text(&newest, "epoch");
        send(&mut socket, &json!({"type": "join", "room": room, "epoch": epoch, "after": 0}))
            .await?;
        let mut all: Vec<Heard> = Vec::new();
        while all.last().map_or(0, |heard| heard.seq) < last {
            let page = until(&mut socket, "joined").await?;
            ensure!(page.get("gap") == Some(&json!(false)), "{room} has lost its beginning");
            let history = page.get("history").and_then(Value::as_array).cloned();
            all.extend(history.unwrap_or_default().iter().filter_map(Heard::of));
        }
        log.insert(room.clone(), all);
    }
    Ok(log)
}

async fn send(socket: &mut Socket, event: &Value) -> Result<()> {
    Ok(socket.send(&Frame::text(event.to_string())).await?)
}

/// Reads up to an event of this type.
async fn until(socket: &mut Socket, kind: &str) -> Result<Value> {
    loop {
        let frame = timeout(PATIENCE, socket.next()).await??.context("the connection ended")?;
        if frame.opcode == PING {
            socket.send(&Frame::new(crate::raw::PONG, frame.payload)).await?;
        } else if frame.opcode == TEXT {
            let event: Value = serde_json::from_slice(&frame.payload)?;
            ensure!(!is(&event, "error"), "{event}");
            if is(&event, kind) {
                return Ok(event);
            }
        }
    }
}

/// The figures of a run: what happened, and what was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many clients.
    pub clients: usize,
    /// How many messages were acked.
    pub acked: usize,
    /// How many messages clients have got, all together.
    pub seen: usize,
    /// How many messages are in the log.
    pub stored: usize,
    /// How many connections there were, all together.
    pub connections: u64,
    /// How many messages were sent again.
    pub sent_again: u64,
    /// Acked, and not in the log with that number and text.
    pub lost: usize,
    /// Seen twice by a client, or twice in the log.
    pub duplicates: u64,
    /// Seen out of order, after a hole, or other than in the log.
    pub order_breaks: u64,
    /// Clients that have not everything.
    pub unfinished: usize,
    /// Anything else, in sentences.
    pub wrong: Vec<String>,
}

impl Figures {
    /// Compares what clients have sent and seen with the log.
    pub fn compare(records: &[Record], log: &Log) -> Self {
        let mut figures = Self { clients: records.len(), ..Self::default() };
        for (room, messages) in log {
            figures.check_log(room, messages);
        }
        for record in records {
            figures.check(record, log);
        }
        figures.wrong.truncate(20);
        figures
    }

    /// Whether everything was as it should be.
    pub fn is_right(&self) -> bool {
        let counts = [self.lost, self.unfinished, self.wrong.len()];
        counts == [0; 3] && self.duplicates == 0 && self.order_breaks == 0
    }

    fn check_log(&mut self, room: &str, messages: &[Heard]) {
        self.stored += messages.len();
        let mut ids = HashSet::new();
        for (seq, message) in (1..).zip(messages) {
            if message.seq != seq {
                self.wrong.push(format!("{room} has number {} at place {seq}", message.seq));
            }
            self.duplicates += u64::from(!ids.insert((message.from.as_str(), message.id)));
        }
    }

    fn check(&mut self, record: &Record, log: &Log) {
        self.acked += record.acked.len();
        self.connections += record.connections;
        self.sent_again += record.sent_again;
        self.duplicates += record.duplicates;
        self.order_breaks += record.order_breaks;
        let about = |wrong: &String| format!("{}: {wrong}", record.name);
        self.wrong.extend(record.wrong.iter().map(about));
        for (id, (room, seq, text)) in &record.acked {
            let stored = log.get(room).and_then(|all| all.get(usize::try_from(*seq).ok()? - 1));
            let is_there = stored.is_some_and(|stored| {
                stored.id == *id && stored.from == record.name && stored.text == *text
            });
            self.lost += usize::from(!is_there);
        }
        let is_whole = record.views.iter().all(|(room, view)| self.check_view(room, view, log));
        self.unfinished += usize::from(!is_whole || !record.outbox.is_empty());
    }

    /// Whether a client has seen everything from where it began to the end.
    fn check_view(&mut self, room: &str, view: &View, log: &Log) -> bool {
        self.seen += view.heard.len();
        let all = log.get(room).map(Vec::as_slice).unwrap_or_default();
        let Some(first) = view.heard.first() else { return view.at == all.len() as u64 };
        let from = usize::try_from(first.seq - 1).unwrap_or(usize::MAX);
        let same = all.get(from..).unwrap_or_default();
        let differences = view.heard.iter().zip(same).filter(|(seen, stored)| seen != stored);
        self.order_breaks += differences.count() as u64;
        view.heard.len() == same.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, id: Uuid) -> Value {
        json!({"type": "message", "room": "rust", "seq": seq, "id": id, "from": "ada", "text": "hi", "at": 1})
    }

    fn joined(seq: u64, history: &[Value]) -> Value {
        json!({"type": "joined", "room": "rust", "epoch": "e", "seq": seq, "history": history, "gap": false})
    }

    /// Ada's record of three messages, and the log.
    fn record() -> (Record, Log) {
        let ids = [1, 2, 3].map(Uuid::from_u128);
        let mut record = Record { name: "ada".to_owned(), ..Record::default() };
        record.take(&joined(0, &[]));
        let mut log = Vec::new();
        for (seq, id) in (1..).zip(ids) {
            record.outbox.push_back(Draft { id, room: "rust".to_owned(), text: "hi".to_owned() });
            record.take(&message(seq, id));
            record.take(&json!({"type": "ack", "id": id, "room": "rust", "seq": seq}));
            log.extend(Heard::of(&message(seq, id)));
        }
        (record, Log::from([("rust".to_owned(), log)]))
    }

    #[test]
    fn a_right_run_is_right() {
        let (record, log) = record();
        let figures = Figures::compare(&[record], &log);
        assert!(figures.is_right(), "{figures:?}");
        assert_eq!((figures.acked, figures.seen, figures.stored), (3, 3, 3));
    }

    #[test]
    fn what_was_acked_and_is_not_there_is_lost() {
        let (record, mut log) = record();
        log.get_mut("rust").unwrap().pop();
        let figures = Figures::compare(&[record], &log);
        assert_eq!((figures.lost, figures.unfinished), (1, 1));
    }

    #[test]
    fn what_comes_again_is_a_duplicate_and_what_skips_is_an_order_break() {
        let (mut record, _) = record();
        record.take(&message(3, Uuid::from_u128(3)));
        record.take(&message(5, Uuid::from_u128(5)));
        assert_eq!((record.duplicates, record.order_breaks), (1, 1));
    }

    #[test]
    fn a_gap_another_order_and_a_missing_end_are_noticed() {
        let (mut first, log) = record();
        first.take(&json!({"type": "joined", "room": "rust", "epoch": "other", "seq": 3, "history": [], "gap": true}));
        assert!(!Figures::compare(&[first], &log).is_right());
        let (mut second, log) = record();
        second.views.get_mut("rust").unwrap().heard.swap(0, 1);
        assert!(!Figures::compare(&[second], &log).is_right());
        let (mut third, log) = record();
        third.views.get_mut("rust").unwrap().heard.pop();
        assert_eq!(Figures::compare(&[third], &log).unfinished, 1);
    }

    #[test]
    fn an_ack_with_another_number_is_wrong() {
        let (mut record, _) = record();
        record.take(&json!({"type": "ack", "id": Uuid::from_u128(1), "room": "rust", "seq": 2}));
        assert_eq!(record.wrong.len(), 1);
    }
}
