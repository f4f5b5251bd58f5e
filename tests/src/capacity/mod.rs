//! How much work a chat of many nodes is: a formula, and a simulation that counts to check it.
//!
//! [`measure`] finds out what one piece of that work costs a Redis on this machine.

pub mod measure;

use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;
use std::{cmp::Reverse, iter};

use crate::chance::Chance;

/// How long a room waits between two checks on the average: from 5 to 10 s.
const CHECK_EVERY: f64 = 7.5;

/// How often a node says that it is alive, for each room.
const REFRESH_EVERY: f64 = 10.0;

/// How often a node says of a connected user that they are there, and asks whether their session is.
const SEAT_EVERY: f64 = 20.0;
const SESSION_EVERY: f64 = 30.0;

/// How often a node tries whether Redis writes.
const PROBES_A_SECOND: f64 = 2.0;

/// Who is there, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct Chat {
    /// How many nodes.
    pub nodes: usize,
    /// How many users, with one connection each, spread over the nodes.
    pub users: usize,
    /// How many rooms.
    pub rooms: usize,
    /// In how many of them each user is.
    pub rooms_each: usize,
    /// How many messages a user writes in a minute.
    pub per_minute: f64,
}

/// How much work that is, in a second and over all nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Messages stored: two scripts each.
    pub messages: f64,
    /// Messages written to a member.
    pub deliveries: f64,
    /// Messages that Redis tells to a node.
    pub told: f64,
    /// Rooms that ask whether something is missing.
    pub checks: f64,
    /// Rooms of which a node says who is in them.
    pub refreshes: f64,
    /// Users of whom a node says that they are there, or asks whether their session is.
    pub users: f64,
}

impl Chat {
    /// Foretells the work. Users are in rooms, and at nodes, by chance.
    pub fn work(&self) -> Work {
        let Self { nodes, users, rooms, rooms_each, per_minute } = *self;
        let (nodes, users) = (nodes.max(1) as f64, users as f64);
        // Whether somebody is in a given room.
        let share = rooms_each as f64 / rooms.max(1) as f64;
        // Whether a node has anybody of it.
        let present = 1.0 - (1.0 - share).powf(users / nodes);
        let messages = users * per_minute / 60.0;
        let open = nodes * rooms as f64 * present;
        Work {
            messages,
            deliveries: messages * (1.0 + (users - 1.0).max(0.0) * share),
            told: messages * (1.0 + (nodes - 1.0) * present),
            checks: open / CHECK_EVERY,
            refreshes: open / REFRESH_EVERY,
            users: users / SEAT_EVERY + users / SESSION_EVERY,
        }
    }

    /// Plays it for so many seconds, message by message, and counts.
    pub fn play(&self, seconds: f64, chance: &mut Chance) -> Work {
        let crowd = Crowd::gather(self, chance);
        let mut counted = crowd.talk(self, seconds, chance);
        let open = crowd.open_rooms();
        counted.checks = ticks(open, seconds, |chance| 5.0 + 5.0 * part(chance), chance);
        counted.refreshes = ticks(open, seconds, |_| REFRESH_EVERY, chance);
        counted.users = ticks(self.users, seconds, |_| SEAT_EVERY, chance)
            + ticks(self.users, seconds, |_| SESSION_EVERY, chance);
        counted.each_second(seconds)
    }
}

/// A number from 0 to 1.
fn part(chance: &mut Chance) -> f64 {
    chance.number() as f64 / u64::MAX as f64
}

/// Who is where.
struct Crowd {
    /// The rooms of each user.
    rooms_of: Vec<Vec<usize>>,
    /// How many members each room has.
    members: Vec<usize>,
    /// The nodes that have any of them.
    nodes: Vec<BTreeSet<usize>>,
}

impl Crowd {
    fn gather(chat: &Chat, chance: &mut Chance) -> Self {
        let mut members = vec![0; chat.rooms];
        let mut nodes = vec![BTreeSet::new(); chat.rooms];
        let mut rooms_of = Vec::with_capacity(chat.users);
        for user in 0..chat.users {
            let mut rooms = BTreeSet::new();
            while rooms.len() < chat.rooms_each.min(chat.rooms) {
                rooms.insert(chance.below(chat.rooms));
            }
            for room in &rooms {
                if let Some(members) = members.get_mut(*room) {
                    *members += 1;
                }
                if let Some(nodes) = nodes.get_mut(*room) {
                    // A balancer that looks for the fewest connections deals them out in turn.
                    nodes.insert(user % chat.nodes.max(1));
                }
            }
            rooms_of.push(rooms.into_iter().collect());
        }
        Self { rooms_of, members, nodes }
    }

    /// How many rooms are open, counted at each node.
    fn open_rooms(&self) -> usize {
        self.nodes.iter().map(BTreeSet::len).sum()
    }

    /// Lets everybody write, at times of their own.
    fn talk(&self, chat: &Chat, seconds: f64, chance: &mut Chance) -> Work {
        let mut counted = Work::default();
        let a_second = chat.users as f64 * chat.per_minute / 60.0;
        let pauses = iter::repeat_with(|| -(1.0 - part(chance)).ln() / a_second);
        let mut now = 0.0;
        let times = pauses.take_while(|pause| {
            now += pause;
            now < seconds
        });
        let count = times.count();
        for _ in 0..count {
            let user = chance.below(chat.users);
            let rooms = self.rooms_of.get(user).map(Vec::as_slice).unwrap_or_default();
            let Some(room) = chance.pick(rooms) else { continue };
            counted.messages += 1.0;
            counted.deliveries += self.members.get(*room).map_or(0.0, |members| *members as f64);
            counted.told += self.nodes.get(*room).map_or(0.0, |nodes| nodes.len() as f64);
        }
        counted
    }
}

/// Lets each of so many clocks tick, each with pauses of its own, and counts.
fn ticks(
    clocks: usize,
    seconds: f64,
    pause: impl Fn(&mut Chance) -> f64,
    chance: &mut Chance,
) -> f64 {
    // Microseconds, which can be compared. Each clock has begun at a time of its own.
    let micros = |seconds: f64| (seconds * 1e6) as u64;
    let mut next: BinaryHeap<Reverse<u64>> = BinaryHeap::with_capacity(clocks);
    for _ in 0..clocks {
        let first = pause(chance);
        next.push(Reverse(micros(first * part(chance))));
    }
    let mut count = 0.0;
    while let Some(Reverse(now)) = next.pop() {
        if now < micros(seconds) {
            count += 1.0;
            next.push(Reverse(now + micros(pause(chance))));
        }
    }
    count
}

impl Work {
    fn each_second(self, seconds: f64) -> Self {
        Self {
            messages: self.messages / seconds,
            deliveries: self.deliveries / seconds,
            told: self.told / seconds,
            checks: self.checks / seconds,
            refreshes: self.refreshes / seconds,
            users: self.users / seconds,
        }
    }

    fn rows(&self) -> [(&'static str, f64); 6] {
        [
            ("messages", self.messages),
            ("deliveries", self.deliveries),
            ("told to nodes", self.told),
            ("checks", self.checks),
            ("presence", self.refreshes),
            ("users", self.users),
        ]
    }
}

/// What was counted beside what was foretold.
#[derive(Debug)]
pub struct Comparison {
    /// What was counted.
    pub counted: Work,
    /// What was foretold.
    pub foretold: Work,
}

impl Comparison {
    /// The largest difference, as a part of what was foretold.
    pub fn off(&self) -> f64 {
        let both = self.counted.rows().into_iter().zip(self.foretold.rows());
        both.map(|((_, counted), (_, foretold))| off(counted, foretold)).fold(0.0, f64::max)
    }
}

fn off(counted: f64, foretold: f64) -> f64 {
    (counted - foretold).abs() / foretold.max(1e-9)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| a second | counted | by the formula | off by |")?;
        write!(f, "|---|---|---|---|")?;
        for ((name, counted), (_, foretold)) in
            self.counted.rows().into_iter().zip(self.foretold.rows())
        {
            let percent = 100.0 * off(counted, foretold);
            write!(f, "\n| {name} | {counted:.1} | {foretold:.1} | {percent:.1} % |")?;
        }
        Ok(())
    }
}

/// What a piece of work costs.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Memory of a connection, in KiB: from `idle`.
    pub connection_kib: f64,
    /// A node's processor for each delivery, in µs: from `fanout`.
    pub delivery: f64,
    /// Redis's time for a message, both scripts, in µs; this and all below from `--measure`.
    pub message: f64,
    /// Redis's time to tell one node, in µs.
    pub tell: f64,
    /// Redis's time for a check, in µs.
    pub check: f64,
    /// Redis's time for a room's presence, in µs.
    pub refresh: f64,
    /// Redis's time for a sign of life of a user, in µs.
    pub user: f64,
}

/// A line of the worksheet.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    chat: Chat,
    work: Work,
    costs: Costs,
}

impl Line {
    /// The head of the table.
    pub const HEAD: &'static str = "\
| nodes | users | messages/s | deliveries/s | told/s | a node: connections | MiB | processors | Redis: busy, % | of it messages | telling | what never stops |
|---|---|---|---|---|---|---|---|---|---|---|---|";

    /// The line of one chat.
    pub fn of(chat: Chat, costs: Costs) -> Self {
        Self { chat, work: chat.work(), costs }
    }

    /// How much of Redis's one thread is taken: by messages, by telling, and by what never stops.
    pub fn redis(&self) -> [f64; 3] {
        let Self { chat, work, costs } = self;
        let probes = chat.nodes as f64 * PROBES_A_SECOND * costs.check;
        [
            work.messages * costs.message / 1e6,
            work.told * costs.tell / 1e6,
            (work.checks * costs.check
                + work.refreshes * costs.refresh
                + work.users * costs.user
                + probes)
                / 1e6,
        ]
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chat, work, costs } = self;
        let nodes = chat.nodes.max(1) as f64;
        let connections = chat.users as f64 / nodes;
        let [messages, telling, standing] = self.redis().map(|part| 100.0 * part);
        write!(
            f,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} |",
            chat.nodes,
            chat.users,
            work.messages,
            work.deliveries,
            work.told,
            connections,
            connections * costs.connection_kib / 1024.0,
            work.deliveries * costs.delivery / 1e6 / nodes,
            messages + telling + standing,
            messages,
            telling,
            standing
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Chat = Chat { nodes: 3, users: 900, rooms: 300, rooms_each: 4, per_minute: 6.0 };

    #[test]
    fn the_formula_is_as_good_as_counting() {
        for chat in [SMALL, Chat { nodes: 1, ..SMALL }, Chat { nodes: 30, rooms: 2000, ..SMALL }] {
            let counted = chat.play(100.0, &mut Chance::seeded(7));
            let comparison = Comparison { counted, foretold: chat.work() };
            assert!(comparison.off() < 0.05, "{chat:?}\n{comparison}");
        }
    }

    #[test]
    fn a_node_more_does_not_change_what_members_get() {
        let (one, ten) = (Chat { nodes: 1, ..SMALL }.work(), Chat { nodes: 10, ..SMALL }.work());
        assert_eq!((one.messages, one.deliveries), (ten.messages, ten.deliveries));
        assert_eq!(one.told, one.messages);
        assert!(ten.told > 5.0 * one.told);
    }

    #[test]
    fn two_in_a_room_are_two_deliveries() {
        let two = Chat { nodes: 2, users: 2, rooms: 1, rooms_each: 1, per_minute: 60.0 };
        let work = two.work();
        assert_eq!((work.messages, work.deliveries, work.told), (2.0, 4.0, 4.0));
    }
}
