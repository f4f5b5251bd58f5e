//! What one can do to a cluster, in the words of a script.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longer than anybody waits in a script.
const LONGEST_WAIT: f64 = 3600.0;

/// What a script may say, for who has said something else.
const VERBS: &str = "kill, stop, start, freeze, thaw, cut, mend, wait and quit";

/// Something to do to a node or to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// kill -9: it has no time for a goodbye.
    Kill,
    /// SIGTERM: it sends its clients away, and ends.
    Stop,
    /// Starts it again.
    Start,
    /// SIGSTOP: it stands still, and its connections stay open.
    Freeze,
    /// SIGCONT: it goes on.
    Thaw,
    /// Cuts a node's wire to Redis.
    Cut,
    /// Lays it again.
    Mend,
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// A node; the first is 1.
    Node(usize),
    /// The Redis that all nodes share.
    Redis,
}

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Does something, and waits until it is done.
    Do(Action, Whom),
    /// Does nothing for a while.
    Wait(Duration),
    /// Ends the script.
    Quit,
}

/// Steps to be taken one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Script(Vec<Step>);

impl Script {
    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The highest number of a node in it.
    pub fn last_node(&self) -> usize {
        let number = |step: &Step| match step {
            Step::Do(_, Whom::Node(number)) => *number,
            _ => 0,
        };
        self.0.iter().map(number).max().unwrap_or_default()
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps = text.split([',', ';', '\n']).map(str::trim).filter(|step| !step.is_empty());
        steps.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split_whitespace().filter(|word| *word != "node").collect();
        match *words.as_slice() {
            ["quit"] => Ok(Self::Quit),
            ["wait", time] => wait(time).ok_or_else(|| {
                format!("\"{text}\": wait takes seconds from 0 to {LONGEST_WAIT}, as in wait 2.5")
            }),
            // Both orders, since both are said.
            [first, second] => match (action(first), action(second)) {
                (Some(action), None) => whom(second, text).and_then(|whom| check(action, whom)),
                (None, Some(action)) => whom(first, text).and_then(|whom| check(action, whom)),
                _ => Err(unknown(text)),
            },
            _ => Err(unknown(text)),
        }
    }
}

fn wait(time: &str) -> Option<Step> {
    let seconds: f64 = time.trim_end_matches('s').parse().ok()?;
    let is_right = (0.0..=LONGEST_WAIT).contains(&seconds);
    is_right.then(|| Step::Wait(Duration::from_secs_f64(seconds)))
}

fn action(word: &str) -> Option<Action> {
    Some(match word {
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        "start" => Action::Start,
        "freeze" => Action::Freeze,
        "thaw" => Action::Thaw,
        "cut" => Action::Cut,
        "mend" => Action::Mend,
        _ => return None,
    })
}

fn whom(word: &str, text: &str) -> Result<Whom, String> {
    match word.parse() {
        Ok(number) if number > 0 => Ok(Whom::Node(number)),
        _ if word == "redis" => Ok(Whom::Redis),
        _ => Err(format!("\"{text}\": whom? There are redis and the nodes 1, 2, 3")),
    }
}

fn check(action: Action, whom: Whom) -> Result<Step, String> {
    action.expect_for(whom).map(|()| Step::Do(action, whom))
}

fn unknown(text: &str) -> String {
    format!("\"{text}\" is no step; there are {VERBS}, as in kill 2, wait 3, start 2, kill redis")
}

impl Action {
    /// Not everything can be done to everyone.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn expect_for(self, whom: Whom) -> Result<(), String> {
        match (self, whom) {
            (Self::Cut | Self::Mend, Whom::Redis) => Err(format!(
                "{self} is for a node, and its wire to Redis; freeze Redis to stop all"
            )),
            (Self::Stop, Whom::Redis) => {
                Err("stop is for a node, which has clients to send away; kill Redis".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Cut => "cut",
            Self::Mend => "mend",
        })
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(number) => write!(f, "node {number}"),
            Self::Redis => f.write_str("Redis"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<Script>().unwrap().0
    }

    #[test]
    fn a_script_is_steps_with_commas_between_them() {
        let wanted = [
            Step::Do(Action::Kill, Whom::Node(2)),
            Step::Wait(Duration::from_millis(1500)),
            Step::Do(Action::Start, Whom::Node(2)),
            Step::Quit,
        ];
        assert_eq!(steps("kill 2, wait 1.5, start 2, quit"), wanted);
        assert_eq!(steps(" Kill node 2;wait 1.5s\nstart 2,, quit,"), wanted);
        assert_eq!(steps(""), []);
    }

    #[test]
    fn redis_may_come_first_or_last() {
        let wanted = [Step::Do(Action::Freeze, Whom::Redis)];
        assert_eq!(steps("redis freeze"), wanted);
        assert_eq!(steps("freeze redis"), wanted);
        assert_eq!(steps("2 cut"), [Step::Do(Action::Cut, Whom::Node(2))]);
    }

    #[test]
    fn a_script_knows_which_nodes_it_needs() {
        assert_eq!("kill 2, kill redis, stop 5".parse::<Script>().unwrap().last_node(), 5);
        assert_eq!("wait 1".parse::<Script>().unwrap().last_node(), 0);
    }

    #[test]
    fn what_is_no_step_is_told_in_a_sentence() {
        for (text, part) in [
            ("burn 2", "\"burn 2\" is no step; there are kill, stop"),
            ("kill", "\"kill\" is no step"),
            ("kill start", "is no step"),
            ("kill 0", "\"kill 0\": whom?"),
            ("kill everyone", "There are redis and the nodes"),
            ("wait long", "wait takes seconds"),
            ("wait -1", "wait takes seconds"),
            ("wait NaN", "wait takes seconds"),
            ("wait 1e99", "wait takes seconds"),
            ("cut redis", "cut is for a node"),
            ("redis stop", "stop is for a node"),
        ] {
            let sentence = format!("wait 1, {text}").parse::<Script>().unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
            assert!(!sentence.contains('\n'));
        }
    }
}
