//! What the screen shows of a cluster, line by line.

use super::command::Whom;
use super::ledger::Count;
use super::node::{Condition, Life};
use crate::paint::Paint;

/// Everything that is shown, as it is at one moment.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The nodes: where each is, and how.
    pub nodes: Vec<(String, Condition)>,
    /// Where Redis is, and what it is doing.
    pub redis: (String, Life),
    /// What the robots have counted.
    pub count: Count,
    /// Who gets the next key, if there are keys.
    pub chosen: Option<Whom>,
}

impl Picture {
    /// The block at the foot of the screen.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let mut lines = vec![String::new()];
        for (number, (place, condition)) in (1..).zip(&self.nodes) {
            let state = node_words(condition, paint);
            lines.push(self.row(Whom::Node(number), &number.to_string(), place, &state, paint));
        }
        let (place, life) = &self.redis;
        lines.push(self.row(Whom::Redis, "r", place, &life_words(*life, paint), paint));
        lines.push(String::new());
        lines.extend(self.count.lines(paint));
        if self.chosen.is_some() {
            lines.push(String::new());
            lines.extend(keys(self.nodes.len(), paint));
        }
        lines
    }

    fn row(&self, whom: Whom, key: &str, place: &str, state: &str, paint: Paint) -> String {
        let is_chosen = self.chosen == Some(whom);
        let mark = if is_chosen { "▸" } else { " " };
        let name = format!("{mark} {key}  {:<7}", whom.to_string());
        let name = if is_chosen { paint.strong(&name) } else { name };
        format!(" {name} {}  {state}", paint.quiet(&format!("{place:<23}")))
    }

    /// The same in one line, for a log.
    pub fn line(&self) -> String {
        let nodes: Vec<&str> =
            self.nodes.iter().map(|(_, condition)| condition.life.words()).collect();
        let Count { robots, here, sent, acked, lost, twice, .. } = &self.count;
        format!(
            "nodes {}; Redis {}; {here} of {robots} robots can talk; sent {sent}, acked {acked}, lost {lost}, twice {twice}",
            nodes.join(", "),
            self.redis.1.words()
        )
    }
}

fn life_words(life: Life, paint: Paint) -> String {
    let words = life.words();
    match life {
        Life::Up => paint.good(words),
        Life::Starting | Life::Stopping => words.to_owned(),
        Life::Frozen | Life::Stopped | Life::Killed | Life::Ended => paint.bad(words),
    }
}

fn node_words(condition: &Condition, paint: Paint) -> String {
    let mut words = life_words(condition.life, paint);
    if condition.life.is_process() {
        if let Some(connections) = condition.connections {
            let plural = if connections == 1 { "" } else { "s" };
            words += &format!(", {connections} connection{plural}");
        }
        if !condition.is_wired {
            words += &paint.bad(", cut off from Redis");
        } else if condition.is_degraded {
            words += &paint.bad(", without Redis");
        }
    }
    words
}

impl Count {
    /// The numbers, in two lines.
    pub fn lines(&self, paint: Paint) -> [String; 2] {
        let tops: Vec<String> =
            self.tops.iter().map(|(room, top)| format!("{room} at {top}")).collect();
        let here = format!("{} of {} robots can talk", self.here, self.robots);
        let here = if self.here == self.robots { here } else { paint.bad(&here) };
        let first = format!("   {here} · rooms: {}", tops.join(", "));
        [first, format!("   {}", self.totals(paint))]
    }

    /// The numbers that must be right.
    pub fn totals(&self, paint: Paint) -> String {
        let Self { sent, acked, waiting, seen, lost, twice, .. } = self;
        let judged = |word: &str, count: u64| {
            let text = format!("{word} {count}");
            if count == 0 { paint.good(&text) } else { paint.bad(&text) }
        };
        format!(
            "sent {sent} · acked {acked} · waiting {waiting} · seen {seen} · {} · {}",
            judged("lost", *lost),
            judged("twice", *twice)
        )
    }
}

/// What the keys do.
fn keys(nodes: usize, paint: Paint) -> [String; 2] {
    let numbers: Vec<String> = (1..=nodes).map(|number| number.to_string()).collect();
    let key = |key: &str, what: &str| format!("{} {}", paint.strong(key), paint.quiet(what));
    let choose = key(&format!("{} r", numbers.join(" ")), "choose");
    let (kill, stop, start) = (key("k", "kill -9"), key("s", "stop"), key("b", "bring back"));
    let (freeze, cut) = (key("f", "freeze/thaw"), key("c", "cut from Redis/mend"));
    let quit = key("q", "quit");
    [format!("   {choose}   {kill}   {stop}   {start}"), format!("   {freeze}   {cut}   {quit}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let up =
            Condition { life: Life::Up, is_wired: true, connections: Some(6), is_degraded: false };
        let killed = Condition { life: Life::Killed, connections: None, ..up };
        let cut = Condition { is_wired: false, connections: Some(1), ..up };
        let place = "http://127.0.0.1:3011".to_owned();
        let tops = vec![("blue".to_owned(), 3), ("red".to_owned(), 5)];
        Picture {
            nodes: [up, killed, cut].map(|condition| (place.clone(), condition)).to_vec(),
            redis: ("redis://127.0.0.1:4711".to_owned(), Life::Up),
            count: Count {
                robots: 12,
                here: 12,
                sent: 8,
                acked: 8,
                seen: 96,
                tops,
                ..Count::default()
            },
            chosen: Some(Whom::Node(2)),
        }
    }

    #[test]
    fn the_screen_says_who_is_up_who_is_chosen_and_what_was_counted() {
        let text = picture().lines(Paint::none()).join("\n");
        for part in [
            "   1  node 1  http://127.0.0.1:3011    up, 6 connections\n",
            " ▸ 2  node 2  http://127.0.0.1:3011    killed\n",
            "   3  node 3  http://127.0.0.1:3011    up, 1 connection, cut off from Redis\n",
            "   r  Redis   redis://127.0.0.1:4711   up\n",
            "12 of 12 robots can talk · rooms: blue at 3, red at 5\n",
            "sent 8 · acked 8 · waiting 0 · seen 96 · lost 0 · twice 0\n",
            "1 2 3 r choose   k kill -9   s stop   b bring back\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn without_keys_there_is_nothing_to_choose() {
        let text = Picture { chosen: None, ..picture() }.lines(Paint::none()).join("\n");
        assert!(!text.contains("choose") && !text.contains('▸'), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_small_terminal() {
        for line in picture().lines(Paint::none()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_log_gets_one_line() {
        let line = picture().line();
        assert!(
            line.starts_with("nodes up, killed, up; Redis up; 12 of 12 robots can talk; sent 8")
        );
    }
}
