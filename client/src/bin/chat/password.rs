// ANCHOR: all
//! A question to the person at the terminal whose answer nobody sees.

use std::io::{self, IsTerminal};

use anyhow::{Context, bail};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};

/// More than any server takes.
const MAX_CHARS: usize = 1000;

/// Whether there is a terminal to ask at.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

// ANCHOR: ask
/// Asks, and waits for the answer.
///
/// # Errors
/// The person does not want to answer, or the terminal can't be used.
pub fn ask(question: &str) -> anyhow::Result<String> {
    eprint!("{question}");
    let answer = unseen();
    eprintln!();
    match answer.context("can't use this terminal")? {
        Some(password) => Ok(password),
        None => bail!("not signed in, since there is no password"),
    }
}

/// Reads a line that is not shown. `None`: Ctrl-C or Ctrl-D.
fn unseen() -> io::Result<Option<String>> {
    let _raw = Raw::enter()?;
    let mut typed = String::new();
    loop {
        let Event::Key(key) = event::read()? else { continue };
        match take(key, &mut typed) {
            Typed::Some => {}
            Typed::All => return Ok(Some(typed)),
            Typed::Nothing => return Ok(None),
        }
    }
}

/// A terminal that gives each key to us, and shows none. Dropping it gives the terminal back.
struct Raw;

impl Raw {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that is gone.
        let _ = disable_raw_mode();
    }
}
// ANCHOR_END: ask

/// How far the person is.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    /// There may be more.
    Some,
    /// That was it.
    All,
    /// There will be no answer.
    Nothing,
}

/// Takes a key.
fn take(key: KeyEvent, typed: &mut String) -> Typed {
    if key.kind == KeyEventKind::Release {
        return Typed::Some;
    }
    match key.code {
        KeyCode::Enter => return Typed::All,
        KeyCode::Char(letter) if key.modifiers.contains(KeyModifiers::CONTROL) => match letter {
            'c' | 'd' => return Typed::Nothing,
            'j' => return Typed::All,
            'u' => typed.clear(),
            _ => {}
        },
        KeyCode::Char(letter) if typed.len() < MAX_CHARS => typed.push(letter),
        KeyCode::Backspace => {
            typed.pop();
        }
        _ => {}
    }
    Typed::Some
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers, typed: &mut String) -> Typed {
        take(KeyEvent::new(code, modifiers), typed)
    }

    #[test]
    fn keys_make_a_password() {
        let mut typed = String::new();
        for letter in "süß!".chars() {
            let key = KeyCode::Char(letter);
            assert_eq!(press(key, KeyModifiers::NONE, &mut typed), Typed::Some);
        }
        press(KeyCode::Backspace, KeyModifiers::NONE, &mut typed);
        press(KeyCode::Char('A'), KeyModifiers::SHIFT, &mut typed);
        press(KeyCode::Left, KeyModifiers::NONE, &mut typed);
        assert_eq!(typed, "süßA");
        assert_eq!(press(KeyCode::Enter, KeyModifiers::NONE, &mut typed), Typed::All);
        press(KeyCode::Char('u'), KeyModifiers::CONTROL, &mut typed);
        assert_eq!(typed, "");
    }

    #[test]
    fn one_may_refuse_to_answer() {
        for letter in ['c', 'd'] {
            let (key, mut typed) = (KeyCode::Char(letter), "x".to_owned());
            assert_eq!(press(key, KeyModifiers::CONTROL, &mut typed), Typed::Nothing);
        }
    }
}
// ANCHOR_END: all
