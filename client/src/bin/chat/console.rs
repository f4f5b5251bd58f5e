// ANCHOR: all
//! Where lines come from and go to: a terminal with a line to type in, or pipes.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::thread;

use anyhow::bail;
use rustyline_async::{Readline, ReadlineError, ReadlineEvent, SharedWriter};
use tokio::sync::mpsc;

use crate::display::{Line, clean};

// ANCHOR: console
/// The two ends of the program that a person, or a script, holds.
pub struct Console {
    source: Source,
    colors: bool,
}

/// Where lines come from.
enum Source {
    /// A line to type in, which stays whole below whatever is written meanwhile.
    ///
    /// If it is longer than the terminal is wide, its upper rows stay on the screen once it is sent:
    /// <https://github.com/zyansheep/rustyline-async/issues/20>.
    Terminal { readline: Box<Readline>, screen: SharedWriter, prompt: String },
    /// Lines out of a file or a program.
    Pipe(mpsc::Receiver<io::Result<String>>),
}

/// What comes from the person or the script.
pub enum Input {
    /// A line, without its end.
    Line(String),
    /// The end: Ctrl-C, Ctrl-D, or nothing more in the pipe.
    End,
}
// ANCHOR_END: console

impl Console {
    /// Takes the terminal, if there is one for both typing and showing; otherwise the pipes.
    ///
    /// The terminal is given back when the console is dropped, after an error or a panic, too.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn open() -> Result<Self, ReadlineError> {
        let on_terminal = io::stdout().is_terminal();
        let colors = wants_colors(on_terminal, std::env::var_os("NO_COLOR"));
        if !on_terminal || !io::stdin().is_terminal() {
            return Ok(Self { source: Source::Pipe(read_stdin()), colors });
        }
        let prompt = prompt(None, "");
        let (mut readline, screen) = Readline::new(prompt.clone())?;
        // What is sent comes back from the server, with its time and place: once is enough.
        readline.should_print_line_on(false, false);
        let source = Source::Terminal { readline: Box::new(readline), screen, prompt };
        Ok(Self { source, colors })
    }

    /// Whether lines come out of a pipe, and so faster than anyone could type.
    pub fn is_pipe(&self) -> bool {
        matches!(self.source, Source::Pipe(_))
    }

    /// Waits for the next line. As long as it waits, a terminal shows what is written.
    ///
    /// It may be given up at any time without losing what is typed.
    ///
    /// # Errors
    /// The terminal or the pipe cannot be read.
    pub async fn next(&mut self) -> anyhow::Result<Input> {
        match &mut self.source {
            Source::Terminal { readline, .. } => match readline.readline().await? {
                ReadlineEvent::Line(line) => {
                    readline.add_history_entry(line.clone());
                    Ok(Input::Line(line))
                }
                ReadlineEvent::Eof | ReadlineEvent::Interrupted => Ok(Input::End),
            },
            Source::Pipe(lines) => match lines.recv().await {
                Some(Ok(line)) => Ok(Input::Line(line)),
                Some(Err(error)) => bail!("can't read the next line of stdin: {error}"),
                None => Ok(Input::End),
            },
        }
    }

    /// Writes lines, all at once: the terminal's queue takes a long history as one piece.
    ///
    /// # Errors
    /// Nobody takes our lines any more.
    pub fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(|line| line.render(self.colors) + "\n").collect();
        match &mut self.source {
            Source::Terminal { screen, .. } => screen.write_all(text.as_bytes()),
            Source::Pipe(_) => io::stdout().write_all(text.as_bytes()),
        }
    }

    /// Says before the line to type in where it will go, and what keeps it from getting there.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn turn_to(&mut self, room: Option<&str>, status: &str) -> Result<(), ReadlineError> {
        match &mut self.source {
            Source::Terminal { readline, prompt: shown, .. } if *shown != prompt(room, status) => {
                *shown = prompt(room, status);
                readline.update_prompt(shown)
            }
            Source::Terminal { .. } | Source::Pipe(_) => Ok(()),
        }
    }

    /// Shows what has been written so far, and gives the terminal back.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn close(self) -> Result<(), ReadlineError> {
        match self.source {
            Source::Terminal { mut readline, .. } => readline.flush(),
            Source::Pipe(_) => Ok(()),
        }
    }
}

/// What stands before the line to type in.
fn prompt(room: Option<&str>, status: &str) -> String {
    let room = clean(room.unwrap_or_default());
    match (room.is_empty(), status.is_empty()) {
        (_, true) => format!("{room}> "),
        (true, false) => format!("({status})> "),
        (false, false) => format!("{room} ({status})> "),
    }
}

/// Whether to use colors: <https://no-color.org>.
fn wants_colors(on_terminal: bool, no_color: Option<OsString>) -> bool {
    on_terminal && no_color.is_none_or(|value| value.is_empty())
}

// ANCHOR: pipe
/// Reads stdin in a thread of its own, a line or two ahead.
///
/// A thread of the runtime would not do: the runtime waits for its threads when the program ends,
/// and this one may wait for the next line forever.
fn read_stdin() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
// ANCHOR_END: pipe

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_need_a_terminal_that_wants_them() {
        assert!(wants_colors(true, None));
        assert!(wants_colors(true, Some("".into())));
        assert!(!wants_colors(true, Some("1".into())));
        assert!(!wants_colors(false, None));
    }

    #[test]
    fn the_prompt_names_the_room_and_what_is_wrong() {
        assert_eq!(prompt(None, ""), "> ");
        assert_eq!(prompt(Some("rust"), ""), "rust> ");
        assert_eq!(prompt(Some("\x1b[2J"), ""), "\u{FFFD}[2J> ");
        assert_eq!(prompt(None, "offline"), "(offline)> ");
        assert_eq!(prompt(Some("rust"), "offline"), "rust (offline)> ");
    }
}
// ANCHOR_END: all
