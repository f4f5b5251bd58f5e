// ANCHOR: all
//! How an event becomes a line on the screen: the last thing that happens to a message.
//!
//! [`Line::render`] is the one way from here to the screen, and it cleans what it shows: nobody
//! can move the cursor, ring the bell or forge a second line in somebody else's terminal.

use chrono::{DateTime, Local, TimeZone};

// ANCHOR: line
/// A line to show, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

/// What a part of a line is; its color follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Text,
    Aside,
    Name,
    OwnName,
    Direct,
    Mistake,
}

impl Line {
    /// Something that was said: when, in which room, by whom.
    pub fn message(at: u64, room: Option<&str>, from: &str, own: bool, text: &str) -> Self {
        let place = room.map_or(String::new(), |room| format!("[{room}] "));
        Self(vec![
            (Style::Aside, format!("{} {place}", when(at, &Local::now()))),
            (if own { Style::OwnName } else { Style::Name }, from.to_owned()),
            (Style::Text, format!(": {text}")),
        ])
    }

    /// Something that was said to one user only.
    pub fn direct(at: u64, from: &str, to: &str, text: &str) -> Self {
        Self(vec![
            (Style::Aside, format!("{} ", when(at, &Local::now()))),
            (Style::Direct, format!("{from} -> {to}")),
            (Style::Text, format!(": {text}")),
        ])
    }

    /// Something of ours that could not be sent yet.
    pub fn waiting(text: &str) -> Self {
        Self(vec![(Style::Text, format!("… {text}")), (Style::Aside, " (waiting)".to_owned())])
    }

    /// Something to know.
    pub fn notice(text: impl Into<String>) -> Self {
        Self(vec![(Style::Aside, format!("* {}", text.into()))])
    }

    /// Something that did not work.
    pub fn mistake(text: impl Into<String>) -> Self {
        Self(vec![(Style::Mistake, format!("! {}", text.into()))])
    }

    /// The line as the screen gets it, without the line end.
    pub fn render(&self, colors: bool) -> String {
        self.0.iter().map(|(style, text)| style.paint(&clean(text), colors)).collect()
    }
}
// ANCHOR_END: line

impl Style {
    /// Wraps a text in the escape sequences for its color.
    fn paint(self, text: &str, colors: bool) -> String {
        let color = match self {
            Self::Text => return text.to_owned(),
            Self::Aside => 2,    // faint
            Self::Name => 36,    // cyan
            Self::OwnName => 32, // green
            Self::Direct => 35,  // magenta
            Self::Mistake => 31, // red
        };
        if colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

// ANCHOR: clean
/// Makes a text safe to show: one line, without anything a terminal or a reader could be fooled by.
pub fn clean(text: &str) -> String {
    text.chars().filter(|&c| c != '\r').map(harmless).collect()
}

/// What to show for a character.
fn harmless(c: char) -> char {
    match c {
        '\n' | '\u{2028}' | '\u{2029}' => '⏎',
        '\t' => ' ',
        // An escape sequence is harmless text without the character it begins with.
        c if c.is_control() => '\u{FFFD}',
        // These turn the direction of writing, so that "evil" can look like something else.
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => '\u{FFFD}',
        c => c,
    }
}
// ANCHOR_END: clean

/// A server's time as a clock here shows it, with the date if it was not today.
fn when<Tz: TimeZone>(at: u64, now: &DateTime<Tz>) -> String
where
    Tz::Offset: std::fmt::Display,
{
    let time = i64::try_from(at).ok().and_then(DateTime::from_timestamp_millis);
    let Some(time) = time.map(|time| time.with_timezone(&now.timezone())) else {
        return "??:??".to_owned();
    };
    let today = time.date_naive() == now.date_naive();
    time.format(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    /// 2023-11-14 22:13:20 UTC.
    const AT: u64 = 1_700_000_000_000;

    fn plain(line: &Line) -> String {
        line.render(false)
    }

    #[test]
    fn a_message_says_when_where_and_who() {
        let line = plain(&Line::message(AT, Some("rust"), "ada", false, "hi"));
        assert!(line.starts_with("2023-11-1") && line.ends_with(" [rust] ada: hi"), "{line}");
        let line = plain(&Line::message(AT, None, "ada", false, "hi"));
        assert!(line.ends_with(" ada: hi") && !line.contains('['), "{line}");
    }

    #[test]
    fn a_direct_message_says_from_whom_to_whom() {
        let line = plain(&Line::direct(AT, "ada", "you", "psst"));
        assert!(line.ends_with(" ada -> you: psst"), "{line}");
    }

    #[test]
    fn colors_come_only_when_asked_for() {
        let line = Line::message(AT, Some("rust"), "ada", true, "hi");
        assert!(!line.render(false).contains('\x1b'));
        assert!(line.render(true).ends_with("\x1b[32mada\x1b[0m: hi"));
        assert_eq!(Line::mistake("no").render(true), "\x1b[31m! no\x1b[0m");
    }

    #[test]
    fn what_others_send_cannot_drive_the_terminal() {
        let line =
            Line::message(AT, None, "e\x1b[2Jve", false, "\x1b]0;title\x07\u{9b}31m\x08\x7f");
        let shown = line.render(true);
        assert!(shown.ends_with(
            "e\u{FFFD}[2Jve\x1b[0m: \u{FFFD}]0;title\u{FFFD}\u{FFFD}31m\u{FFFD}\u{FFFD}"
        ));
    }

    #[test]
    fn what_others_send_stays_on_one_line_and_in_one_direction() {
        assert_eq!(clean("hi\r\n12:00 bob: forged\tline"), "hi⏎12:00 bob: forged line");
        assert_eq!(clean("a\u{202E}b\u{2066}c\u{2028}d"), "a\u{FFFD}b\u{FFFD}c⏎d");
    }

    #[test]
    fn letters_of_every_script_and_emoji_stay() {
        for text in ["Žofie", "日本語", "שלום", "👩‍👩‍👧", "e\u{301}"] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn the_time_is_the_readers_and_has_a_date_if_not_of_today() {
        let here = FixedOffset::east_opt(2 * 3600).unwrap();
        let now = here.with_ymd_and_hms(2023, 11, 15, 9, 0, 0).unwrap();
        assert_eq!(when(AT, &now), "00:13");
        let later = here.with_ymd_and_hms(2023, 11, 16, 9, 0, 0).unwrap();
        assert_eq!(when(AT, &later), "2023-11-15 00:13");
    }

    #[test]
    fn an_impossible_time_does_no_harm() {
        assert_eq!(when(u64::MAX, &Local::now()), "??:??");
        assert_eq!(when(i64::MAX as u64, &Local::now()), "??:??");
    }
}
// ANCHOR_END: all
