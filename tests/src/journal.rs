//! What was sent and what came in a scenario, to be shown when something is wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scenario::Stop;

/// How many of the last lines are kept.
const KEPT: usize = 12;

/// How much of a line is shown, in characters.
const WIDTH: usize = 200;

/// The journal of one scenario, shared by all its clients.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    expected: Arc<str>,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    lines: VecDeque<String>,
    waiting_for: Option<String>,
}

impl Journal {
    /// A new journal of a scenario whose promise is `expected`.
    pub fn new(expected: &str) -> Self {
        Self { expected: expected.into(), ..Self::default() }
    }

    /// Writes down what happened.
    pub fn note(&self, line: &str) {
        let mut pages = self.pages();
        if pages.lines.len() == KEPT {
            pages.lines.pop_front();
        }
        pages.lines.push_back(shortened(line));
    }

    /// Writes down what the scenario is waiting for, which matters if it waits for ever.
    pub fn wait_for(&self, what: &str) {
        self.pages().waiting_for = Some(shortened(what));
    }

    /// What was waited for has come.
    pub fn has_come(&self) {
        self.pages().waiting_for = None;
    }

    /// The last lines, what was waited for, and how that ended.
    pub fn came(&self, ending: &str) -> String {
        let pages = self.pages();
        let waiting = pages.waiting_for.iter().map(|what| format!("expected {what}"));
        let lines: Vec<String> = pages
            .lines
            .iter()
            .cloned()
            .chain(waiting)
            .chain([format!("got {}", shortened(ending))])
            .collect();
        lines.join("\n")
    }

    /// The scenario fails here: the server did `got` instead of what was waited for.
    pub fn mismatch(&self, got: &str) -> Stop {
        Stop::Mismatch { expected: self.expected.to_string(), came: self.came(got) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that fits on a screen: its middle may be missing.
pub fn shortened(text: &str) -> String {
    let length = text.chars().count();
    // A little more than what comes out below, so that it is not shortened once more in a line.
    if length <= WIDTH * 5 / 4 {
        return text.to_owned();
    }
    let start: String = text.chars().take(WIDTH * 3 / 4).collect();
    let end: String = text.chars().skip(length - WIDTH / 5).collect();
    format!("{start} … {end} ({length} characters)")
}
