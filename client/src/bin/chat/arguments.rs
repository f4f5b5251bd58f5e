//! The command line: which server to go to, and under which name. Here a conversation begins.

use std::path::PathBuf;

use clap::Parser;

/// The chat in a terminal.
///
/// Connects to a server, says hello with your name or signs you in, and shows what is said. What you type goes to
/// the room you are in; a line that begins with / is a command, and /help lists them.
#[derive(Debug, Parser)]
#[command(name = "chat", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The server's WebSocket.
    ///
    /// Milestone 2 is at ws://127.0.0.1:3002/ws and has one room for everyone. Milestone 3 is at
    /// ws://127.0.0.1:3003/ws; its other namespaces are /ws/general and /ws/staff. Milestone 4 is at
    /// ws://127.0.0.1:3004/ws: there, chat comes back by itself when the connection is lost, and what
    /// you type meanwhile is sent then. Milestone 5 is at ws://127.0.0.1:3005/ws and wants you to sign
    /// in.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:3003/ws")]
    pub url: String,

    /// Your name: 1 to 32 letters, digits, _ or -.
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// A room to join at the start.
    #[arg(long, value_name = "ROOM")]
    pub room: Option<String>,

    /// A file whose first line is the password of your account, for milestone 5. Without it, chat
    /// looks at the variable CHAT_PASSWORD, and then asks you, if the server wants a password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Open an account with that name and password first.
    #[arg(long)]
    pub sign_up: bool,

    /// The Origin header to send, to see what a server says to a page from there.
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  Join the lobby of milestone 3 as ada:
    cargo run -p client --bin chat -- --name ada --room lobby

  The same with milestone 2, which has no rooms:
    cargo run -p client --bin chat -- --url ws://127.0.0.1:3002/ws --name ada

  Say two things from a script. Each line waits for its answer, then chat leaves:
    printf 'hello\\nbye\\n' | cargo run -p client --bin chat -- --name bot --room lobby

  Write to milestone 4, and stop and start the server meanwhile: each line of a script waits until
  it is stored, for up to a minute.
    cargo run -p client --bin chat -- --url ws://127.0.0.1:3004/ws --name ada --room lobby

  Open an account with milestone 5, which asks for a password, and talk; later, without --sign-up:
    cargo run -p client --bin chat -- --url ws://127.0.0.1:3005/ws --name ada --sign-up --room lobby
    cargo run -p client --bin chat -- --url ws://127.0.0.1:3005/ws --name ada --room lobby

  The same from a script, where nobody can be asked:
    printf 'hello\\n' | cargo run -p client --bin chat -- --url ws://127.0.0.1:3005/ws --name ada \\
      --room lobby --password-file ada.txt

  Try the server's origin check, which answers 403:
    cargo run -p client --bin chat -- --name eve --origin http://evil.example

Keys: Enter sends, Up and Down fetch earlier lines, Ctrl-C or Ctrl-D leaves.
Passwords: never on the command line, which every program on the machine can read. The variable
CHAT_PASSWORD makes chat sign in at once, as --password-file does.
Colors: only on a terminal, and not if NO_COLOR is set.
Exit code: 0 after a goodbye of yours, 1 if something went wrong, 2 for a wrong command line.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_name_is_enough() {
        let arguments = Arguments::try_parse_from(["chat", "--name", "ada"]).unwrap();
        assert_eq!(arguments.url, "ws://127.0.0.1:3003/ws");
        assert!(arguments.room.is_none() && arguments.origin.is_none());
        assert!(Arguments::try_parse_from(["chat"]).is_err());
    }
}
