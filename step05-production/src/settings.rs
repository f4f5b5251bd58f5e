// ANCHOR: all
//! What the person who starts the server may choose, by environment variables or by options.

use std::env::{self, VarError};
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

/// The length of a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

// ANCHOR: settings
/// The settings of one server. Each comment is what `--help` says.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The address to listen on. The default is reachable from this machine only.
    #[arg(long, env, default_value = "127.0.0.1", help_heading = LISTENING)]
    pub host: String,
    // ANCHOR: port
    /// The port to listen on; 0 takes any free one.
    #[arg(long, env, default_value = "3005", value_parser = number, help_heading = LISTENING)]
    pub port: u16,
    // ANCHOR_END: port
    /// The address of the admin port. Whoever reaches it learns a lot: keep it from the internet.
    #[arg(long, env, default_value = "127.0.0.1", help_heading = LISTENING)]
    pub admin_host: String,
    /// The port for /livez, /readyz and /metrics; 0 takes any free one.
    #[arg(long, env, default_value = "9005", value_parser = number, help_heading = LISTENING)]
    pub admin_port: u16,

    /// The other sites whose pages may use this server, with commas between them. Behind a proxy
    /// this is the server's own address, as browsers show it: `https://chat.example`
    #[arg(long, env, default_value = "", value_parser = origins, help_heading = WHO)]
    pub allowed_origins: std::vec::Vec<String>,
    /// The networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, with
    /// commas between them: 10.0.0.0/8,::1
    #[arg(long, env, default_value = "", value_parser = networks, help_heading = WHO)]
    pub trusted_proxies: std::vec::Vec<IpNet>,
    /// How long a session lasts, as in 30d, 12h, 90m or 15s.
    #[arg(long, env, default_value = "30d", value_parser = lifetime, help_heading = WHO)]
    pub session_max: Duration,
    /// After what time a session ends that nobody uses.
    #[arg(long, env, default_value = "7d", value_parser = lifetime, help_heading = WHO)]
    pub session_idle: Duration,

    /// How many connections there may be at once. Each takes one open file.
    #[arg(long, env, default_value = "10000", value_parser = large_number, help_heading = LIMITS)]
    pub max_connections: u32,
    /// How many of them from one address (IPv6: from one /64).
    #[arg(long, env, default_value = "150", value_parser = large_number, help_heading = LIMITS)]
    pub max_connections_per_address: u32,
    /// How many of them from one user.
    #[arg(long, env, default_value = "20", value_parser = large_number, help_heading = LIMITS)]
    pub max_connections_per_user: u32,
    /// How many rooms may have members at once.
    #[arg(long, env, default_value = "50000", value_parser = large_number, help_heading = LIMITS)]
    pub max_rooms: u32,
    /// Whether to limit how much one sends and how often one tries to sign in.
    #[arg(long, env, value_enum, default_value_t = RateLimit::On, help_heading = LIMITS)]
    pub rate_limit: RateLimit,

    /// The directory of the database; made if it is missing.
    #[arg(long, env, default_value = "data", help_heading = KEPT)]
    pub data_dir: PathBuf,
    /// Messages that are older than this are deleted, as in 90d; with 0s the last 10,000 of each
    /// room are kept, whatever their age.
    #[arg(long, env, default_value = "0s", value_parser = retention, help_heading = KEPT)]
    pub retention: Duration,
    /// The Redis by which several servers become one, as in redis://user:password@host:6379/0. It
    /// takes the place of DATA_DIR.
    #[arg(long, env, help_heading = KEPT)]
    pub redis_url: Option<String>,
    /// A file that holds REDIS_URL: a password in the environment is seen by more than one likes.
    #[arg(long, env, help_heading = KEPT)]
    pub redis_url_file: Option<PathBuf>,
    /// How the keys and channels in Redis begin, so that several chats can share one.
    #[arg(long, env, default_value = "chat", value_parser = prefix, help_heading = KEPT)]
    pub redis_prefix: String,

    /// Over how many seconds clients are sent away when the server stops.
    #[arg(
        long = "drain-seconds", env = "DRAIN_SECONDS", value_name = "DRAIN_SECONDS",
        default_value = "3", value_parser = seconds, help_heading = OPERATION
    )]
    pub drain: Duration,
    /// How the log on stderr looks. RUST_LOG chooses how much of it: warn, info, debug.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Human, help_heading = OPERATION)]
    pub log_format: LogFormat,
}

const LISTENING: &str = "Where it listens";
const WHO: &str = "Who may come in";
const LIMITS: &str = "How much is too much";
const KEPT: &str = "What is kept";
const OPERATION: &str = "How it is run";

/// Whether something is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RateLimit {
    /// As an internet full of strangers needs it.
    On,
    /// For load tests.
    Off,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// Lines for programs, each one JSON object.
    Json,
}
// ANCHOR_END: settings

// ANCHOR: order
/// What the program is to do.
#[derive(Debug)]
pub enum Order {
    /// Serve.
    Serve(Box<Settings>),
    /// Say this, and end.
    Say(String),
    /// Ask the server on this machine whether it is alive.
    Health {
        /// The address of its admin port.
        host: String,
        /// The port.
        port: u16,
    },
    /// Write the database in a directory, which may be in use, into a new file.
    Backup {
        /// The directory.
        dir: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// Put a backup in the place of the database in a directory.
    Restore {
        /// The directory.
        dir: PathBuf,
        /// The backup.
        file: PathBuf,
    },
}

/// A chat server for the internet.
///
/// Each setting is an environment variable or an option; the option wins, and an empty variable
/// counts as none.
#[derive(Debug, Parser)]
#[command(version, next_line_help = true)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
    /// Check the settings, print them, and end.
    #[arg(long, help_heading = OPERATION)]
    check: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What else the program can do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Ask the server on this machine, at its ADMIN_HOST and ADMIN_PORT, whether it is alive.
    Health,
    /// Write a copy of the database into a new file. The server may run meanwhile.
    Backup {
        /// The new file.
        file: PathBuf,
    },
    /// Put a copy in the place of the database, which stays as chat.db.before-restore. Stop the
    /// server first. Everyone has to sign in again, and clients show each room afresh.
    Restore {
        /// The copy.
        file: PathBuf,
    },
}

impl Order {
    /// Reads the environment and the command line.
    ///
    /// # Errors
    /// A sentence that names what is wrong, what it is and what it should be.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let command = CommandLine::command();
        check_text(&command)?;
        let command = command.mut_args(|arg| {
            let value = arg.get_env().and_then(env::var_os);
            // An empty variable counts as none.
            let is_empty = value.is_some_and(|value| value.is_empty());
            // Help is for everyone's eyes; what the variables hold may not be.
            let arg = arg.hide_env_values(true);
            if is_empty { arg.env(Resettable::Reset) } else { arg }
        });
        let line = command.try_get_matches_from(line);
        match line.and_then(|line| CommandLine::from_arg_matches(&line)) {
            Ok(line) => line.order(),
            Err(error) if !error.use_stderr() => Ok(Self::Say(error.to_string())),
            Err(error) => Err(sentence(&error)),
        }
    }
}

impl CommandLine {
    fn order(self) -> Result<Order, String> {
        let Self { mut settings, check, task } = self;
        // Whether a server is alive has nothing to do with where it keeps what.
        let keeps = !matches!(task, Some(Task::Health));
        if keeps {
            settings.redis_url = redis_url(settings.redis_url, settings.redis_url_file.as_deref())?;
        }
        if keeps && task.is_some() && settings.redis_url.is_some() {
            return Err("with REDIS_URL there is no database in DATA_DIR: copy the files of Redis"
                .to_owned());
        }
        let dir = settings.data_dir.clone();
        Ok(match task {
            Some(Task::Backup { file }) => Order::Backup { dir, file },
            Some(Task::Restore { file }) => Order::Restore { dir, file },
            Some(Task::Health) => {
                Order::Health { host: settings.admin_host, port: settings.admin_port }
            }
            None if check => Order::Say(settings.to_string()),
            None => Order::Serve(Box::new(settings)),
        })
    }
}
// ANCHOR_END: order

// ANCHOR: redis_url
/// The URL of Redis: as it was given, or out of a file, without the line break at its end.
fn redis_url(url: Option<String>, file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(url) };
    if url.is_some() {
        return Err("REDIS_URL and REDIS_URL_FILE are both set, but only one can hold".to_owned());
    }
    let wrong = |why: &dyn Display| format!("REDIS_URL_FILE is \"{}\", but {why}", file.display());
    let text =
        fs::read_to_string(file).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    let url = text.trim();
    if url.is_empty() { Err(wrong(&"holds nothing")) } else { Ok(Some(url.to_owned())) }
}
// ANCHOR_END: redis_url

// ANCHOR: sentence
/// Makes sure that the variables are text. Only the name of a directory may be something else.
fn check_text(command: &clap::Command) -> Result<(), String> {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    let mut texts = variables.filter(|name| *name != "DATA_DIR");
    let broken = texts.find(|name| matches!(env::var(name), Err(VarError::NotUnicode(_))));
    broken.map_or(Ok(()), |name| Err(format!("{} is not text, but must be", name.display())))
}

/// Says in one sentence what is wrong.
fn sentence(error: &clap::Error) -> String {
    let about = |kind| error.get(kind).map(ToString::to_string);
    let expected = match error.kind() {
        ErrorKind::ValueValidation => error.source().map(ToString::to_string),
        ErrorKind::InvalidValue => {
            about(ContextKind::ValidValue).map(|it| it.replace(", ", " or "))
        }
        _ => None,
    };
    let expected = expected.filter(|expected| !expected.is_empty());
    let (arg, value) = (about(ContextKind::InvalidArg), about(ContextKind::InvalidValue));
    if let (Some(arg), Some(value), Some(expected)) = (arg, value, expected) {
        // An option is shown as `--port <PORT>`, and its variable has the name in the brackets.
        let variable = arg.split(['<', '>']).nth(1).unwrap_or(&arg);
        return format!("{variable} is \"{value}\", but must be {expected}");
    }
    let text = error.to_string();
    let first = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    format!("{}; --help shows what there is", words.join(" "))
}
// ANCHOR_END: sentence

// ANCHOR: values
fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a number from 0 to 65535".to_owned())
}

fn large_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number from 0 to 4294967295".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text).map(|seconds| Duration::from_secs(seconds.into()))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration(text).filter(|lifetime| !lifetime.is_zero());
    lifetime.ok_or_else(|| "a time such as 30d, 12h, 90m or 15s".to_owned())
}

fn retention(text: &str) -> Result<Duration, String> {
    // For a day clients may send a message again, and its id has to be known.
    let retention = duration(text).filter(|time| time.is_zero() || *time >= DAY);
    retention.ok_or_else(|| "0s, or a time of a day or more such as 90d".to_owned())
}

/// Reads a time such as 30d, 12h, 90m or 15s.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY.as_secs(),
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

/// Takes a list with commas apart.
fn list<T>(list: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(item).collect()
}

fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_prefix = !text.is_empty() && text.chars().all(is_plain);
    let expected = || "letters, digits, - and _".to_owned();
    is_prefix.then(|| text.to_owned()).ok_or_else(expected)
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let expected =
        "origins such as https://chat.example or http://127.0.0.1:3000, with commas between them";
    list(text, origin).ok_or_else(|| expected.to_owned())
}

/// Takes an origin as browsers send it. A slash at its end, say, would never match one.
fn origin(origin: &str) -> Option<String> {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    let is_authority_char =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    let is_origin = !authority.is_empty() && authority.chars().all(is_authority_char);
    is_origin.then(|| origin.to_owned())
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let expected = "addresses or networks such as 10.0.0.0/8 or ::1, with commas between them";
    list(text, network).ok_or_else(|| expected.to_owned())
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}
// ANCHOR_END: values

// ANCHOR: shown
/// All settings as variables. The only secret is the address of Redis, which may have a password in it.
impl Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxies: Vec<String> = self.trusted_proxies.iter().map(ToString::to_string).collect();
        writeln!(f, "HOST={}", self.host)?;
        writeln!(f, "PORT={}", self.port)?;
        writeln!(f, "ADMIN_HOST={}", self.admin_host)?;
        writeln!(f, "ADMIN_PORT={}", self.admin_port)?;
        writeln!(f, "ALLOWED_ORIGINS={}", self.allowed_origins.join(","))?;
        writeln!(f, "TRUSTED_PROXIES={}", proxies.join(","))?;
        writeln!(f, "SESSION_MAX={}", shown(self.session_max))?;
        writeln!(f, "SESSION_IDLE={}", shown(self.session_idle))?;
        writeln!(f, "MAX_CONNECTIONS={}", self.max_connections)?;
        writeln!(f, "MAX_CONNECTIONS_PER_ADDRESS={}", self.max_connections_per_address)?;
        writeln!(f, "MAX_CONNECTIONS_PER_USER={}", self.max_connections_per_user)?;
        writeln!(f, "MAX_ROOMS={}", self.max_rooms)?;
        writeln!(f, "RATE_LIMIT={}", name(&self.rate_limit))?;
        writeln!(f, "DATA_DIR={}", self.data_dir.display())?;
        writeln!(f, "RETENTION={}", shown(self.retention))?;
        if self.redis_url.is_some() {
            writeln!(f, "REDIS_URL=(set)")?;
        }
        writeln!(f, "REDIS_PREFIX={}", self.redis_prefix)?;
        writeln!(f, "DRAIN_SECONDS={}", self.drain.as_secs())?;
        writeln!(f, "LOG_FORMAT={}", name(&self.log_format))
    }
}

/// A time in the largest unit that it is whole in.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(DAY.as_secs(), "d"), (60 * 60, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, letter) = unit.unwrap_or((1, "s"));
    format!("{}{letter}", seconds / unit)
}

/// The name of a choice.
fn name(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
// ANCHOR_END: shown

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Result<Order, String> {
        Order::read(["chat"].iter().chain(options).map(OsString::from))
    }

    fn settings(options: &[&str]) -> Settings {
        match read(options) {
            Ok(Order::Serve(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_is_not_chosen_has_a_default() {
        let Settings { port, admin_port, max_connections, session_max, retention, .. } =
            settings(&[]);
        assert_eq!((port, admin_port, max_connections), (3005, 9005, 10_000));
        assert_eq!((session_max, retention), (30 * DAY, Duration::ZERO));
    }

    #[test]
    fn a_bad_value_is_one_sentence_that_names_it() {
        for (option, value, sentence) in [
            ("--port", "eighty", "PORT is \"eighty\", but must be a number from 0 to 65535"),
            ("--max-rooms", "x", "MAX_ROOMS is \"x\", but must be a number from 0 to 4294967295"),
            ("--rate-limit", "no", "RATE_LIMIT is \"no\", but must be on or off"),
            ("--log-format", "xml", "LOG_FORMAT is \"xml\", but must be human or json"),
            (
                "--session-max",
                "0s",
                "SESSION_MAX is \"0s\", but must be a time such as 30d, 12h, 90m or 15s",
            ),
            (
                "--retention",
                "23h",
                "RETENTION is \"23h\", but must be 0s, or a time of a day or more such as 90d",
            ),
            (
                "--trusted-proxies",
                "10.0.0.0/33",
                "TRUSTED_PROXIES is \"10.0.0.0/33\", but must be addresses or networks such as 10.0.0.0/8 or ::1, with commas between them",
            ),
            (
                "--drain-seconds",
                "soon",
                "DRAIN_SECONDS is \"soon\", but must be a number from 0 to 65535",
            ),
        ] {
            assert_eq!(read(&[option, value]).unwrap_err(), sentence);
        }
    }

    #[test]
    fn an_unknown_option_is_one_sentence() {
        for line in [&["--nonsense"][..], &["backup"], &["nonsense"], &["--port"]] {
            let sentence = read(line).unwrap_err();
            assert!(
                !sentence.contains('\n') && sentence.ends_with("shows what there is"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn origins_are_split_and_trimmed() {
        let list = origins("https://chat.example, http://127.0.0.1:3000,").unwrap();
        assert_eq!(list, ["https://chat.example", "http://127.0.0.1:3000"]);
        assert_eq!(origins(""), Ok(vec![]));
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for wrong in [
            "chat.example",
            "https://chat.example/",
            "https://",
            "http://a;b",
            "https://Chat.example",
        ] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn proxies_are_addresses_or_networks() {
        let list = networks("10.0.0.0/8, ::1").unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "::1/128"]
        );
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("90m", 5400), ("15s", 15)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(duration(&shown(Duration::from_secs(seconds))), duration(text));
        }
        for text in ["", "s", "30", "1.5h", "-1d", "1w", "1 d", "1ä", "99999999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(shown(Duration::ZERO), "0s");
    }

    #[test]
    fn a_check_shows_the_settings_without_the_password_of_redis() {
        let Ok(Order::Say(text)) = read(&["--check", "--port", "7", "--retention", "48h"]) else {
            panic!()
        };
        assert!(text.contains("PORT=7\n") && text.contains("RETENTION=2d\n"), "{text}");
        let redis = ["--check", "--redis-url", "redis://:hunter2@localhost"];
        let Ok(Order::Say(text)) = read(&redis) else { panic!() };
        assert!(text.contains("REDIS_URL=(set)\n") && !text.contains("hunter2"), "{text}");
        let sentence = read(&["--redis-url", "redis://:hunter2@h", "backup", "x"]).unwrap_err();
        assert!(sentence.contains("REDIS_URL") && !sentence.contains("hunter2"), "{sentence}");
    }

    #[test]
    fn the_url_of_redis_may_be_in_a_file() {
        let file = env::temp_dir().join(format!("chat-redis-url-{}", std::process::id()));
        fs::write(&file, "redis://localhost\n").unwrap();
        let found = redis_url(None, Some(&file)).unwrap();
        assert_eq!(found.as_deref(), Some("redis://localhost"));
        let both = redis_url(Some("redis://other".to_owned()), Some(&file)).unwrap_err();
        assert_eq!(both, "REDIS_URL and REDIS_URL_FILE are both set, but only one can hold");
        fs::write(&file, " \n").unwrap();
        assert!(redis_url(None, Some(&file)).unwrap_err().ends_with("but holds nothing"));
        fs::remove_file(&file).unwrap();
        let sentence = redis_url(None, Some(&file)).unwrap_err();
        assert!(sentence.starts_with("REDIS_URL_FILE is \"") && sentence.contains("can't be read"));
        assert_eq!(redis_url(None, None), Ok(None));
    }

    #[test]
    fn there_are_other_tasks() {
        let Ok(Order::Backup { dir, file }) = read(&["--data-dir", "d", "backup", "f"]) else {
            panic!()
        };
        assert_eq!((dir, file), ("d".into(), "f".into()));
        assert!(matches!(read(&["restore", "f"]), Ok(Order::Restore { .. })));
        assert!(matches!(
            read(&["--admin-port", "7", "--redis-url", "redis://localhost", "health"]),
            Ok(Order::Health { port: 7, .. })
        ));
        assert!(matches!(read(&["--help"]), Ok(Order::Say(_))));
        assert!(matches!(read(&["--version"]), Ok(Order::Say(_))));
    }
}
// ANCHOR_END: all
