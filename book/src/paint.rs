//! Colors, where they are wanted: on a terminal, unless `NO_COLOR` says otherwise.

use std::io::{IsTerminal, stdout};

/// A color on stdout, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Colors only on a terminal, and not if `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: stdout().is_terminal() && !unwanted }
    }

    /// No colors.
    pub fn none() -> Self {
        Self { on: false }
    }

    /// For what holds.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// For what does not.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// For what matters less.
    pub fn quiet(self, text: &str) -> String {
        self.with("2", text)
    }

    /// For what matters more.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
