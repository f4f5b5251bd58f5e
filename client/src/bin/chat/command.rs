// ANCHOR: all
//! What a typed line asks for: the first thing that happens to it.

// ANCHOR: command
/// What somebody wants who has typed a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Plain text: tell everyone in the current room.
    Say(String),
    /// `/join ROOM`
    Join(String),
    /// `/leave [ROOM]`: without a room, the current one.
    Leave(Option<String>),
    /// `/msg NAME TEXT`
    Direct {
        /// The name.
        to: String,
        /// The text.
        text: String,
    },
    /// `/rooms`
    Rooms,
    /// `/who`
    Who,
    /// `/quit`
    Quit,
    /// `/help`
    Help,
}

/// Why a line is not a command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// There is no such command.
    #[error(
        "There is no command {0}: /help lists them, and // sends a line that begins with a slash."
    )]
    Unknown(String),
    /// Something is missing, or is too much.
    #[error("Write it like this: {0}")]
    Usage(&'static str),
}

/// What `/help` shows.
pub const HELP: [&str; 9] = [
    "TEXT            tell everyone in the current room",
    "/join ROOM      join a room, or turn to one you are in already",
    "/leave [ROOM]   leave the current room, or another one",
    "/msg NAME TEXT  tell one user, and nobody else",
    "/rooms          which rooms there are",
    "/who            who is in the current room",
    "/quit           leave; Ctrl-C and Ctrl-D do the same",
    "/help           this list",
    "//TEXT          tell everyone a text that begins with a slash",
];
// ANCHOR_END: command

// ANCHOR: parse
/// Reads a line. An empty one asks for nothing.
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse(line: &str) -> Result<Option<Command>, Mistake> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_prefix('/') {
        None => Ok(Some(Command::Say(line.to_owned()))),
        Some(text) if text.starts_with('/') => Ok(Some(Command::Say(text.to_owned()))),
        Some(command) => parse_command(command).map(Some),
    }
}

/// Reads what follows the slash.
fn parse_command(line: &str) -> Result<Command, Mistake> {
    let (word, rest) = first_word(line);
    match word {
        "join" => Ok(Command::Join(one(rest).ok_or(Mistake::Usage("/join ROOM"))?)),
        "leave" if rest.is_empty() => Ok(Command::Leave(None)),
        "leave" => Ok(Command::Leave(Some(one(rest).ok_or(Mistake::Usage("/leave [ROOM]"))?))),
        "msg" => match first_word(rest) {
            (_, "") => Err(Mistake::Usage("/msg NAME TEXT")),
            (to, text) => Ok(Command::Direct { to: to.to_owned(), text: text.to_owned() }),
        },
        "rooms" => alone(rest, Command::Rooms, "/rooms"),
        "who" => alone(rest, Command::Who, "/who"),
        "quit" => alone(rest, Command::Quit, "/quit"),
        "help" => alone(rest, Command::Help, "/help"),
        other => Err(Mistake::Unknown(format!("/{other}"))),
    }
}

/// Splits off the first word.
fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// The one word that a text consists of.
fn one(text: &str) -> Option<String> {
    let (word, rest) = first_word(text);
    (!word.is_empty() && rest.is_empty()).then(|| word.to_owned())
}

/// A command that takes nothing.
fn alone(rest: &str, command: Command, usage: &'static str) -> Result<Command, Mistake> {
    if rest.is_empty() { Ok(command) } else { Err(Mistake::Usage(usage)) }
}
// ANCHOR_END: parse

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        parse(line).unwrap().unwrap()
    }

    fn mistake(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn plain_text_is_said() {
        assert_eq!(command("  hi there "), Command::Say("hi there".into()));
        assert_eq!(command("either/or"), Command::Say("either/or".into()));
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse(" \t "), Ok(None));
    }

    #[test]
    fn two_slashes_say_a_text_that_begins_with_one() {
        assert_eq!(command("//etc is a folder"), Command::Say("/etc is a folder".into()));
    }

    #[test]
    fn each_command_is_read() {
        assert_eq!(command("/join rust"), Command::Join("rust".into()));
        assert_eq!(command("/join\trust "), Command::Join("rust".into()));
        assert_eq!(command("/leave"), Command::Leave(None));
        assert_eq!(command("/leave rust"), Command::Leave(Some("rust".into())));
        let direct = Command::Direct { to: "grace".into(), text: "psst, you  there?".into() };
        assert_eq!(command("/msg  grace  psst, you  there?"), direct);
        assert_eq!(command("/rooms"), Command::Rooms);
        assert_eq!(command("/who"), Command::Who);
        assert_eq!(command("/quit"), Command::Quit);
        assert_eq!(command("/help"), Command::Help);
    }

    #[test]
    fn a_missing_argument_is_told_by_an_example() {
        assert_eq!(mistake("/join"), "Write it like this: /join ROOM");
        assert_eq!(mistake("/msg"), "Write it like this: /msg NAME TEXT");
        assert_eq!(mistake("/msg grace"), "Write it like this: /msg NAME TEXT");
    }

    #[test]
    fn so_is_an_argument_too_many() {
        assert_eq!(mistake("/join rust lobby"), "Write it like this: /join ROOM");
        assert_eq!(mistake("/leave rust lobby"), "Write it like this: /leave [ROOM]");
        assert_eq!(mistake("/quit now"), "Write it like this: /quit");
    }

    #[test]
    fn an_unknown_command_is_named() {
        assert!(mistake("/dance all night").starts_with("There is no command /dance:"));
        assert!(mistake("/").starts_with("There is no command /:"));
    }

    #[test]
    fn the_help_names_every_command() {
        for name in ["/join", "/leave", "/msg", "/rooms", "/who", "/quit", "/help"] {
            assert!(HELP.iter().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
// ANCHOR_END: all
