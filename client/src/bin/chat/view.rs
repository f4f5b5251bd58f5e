// ANCHOR: all
//! What this client knows: who it is, where it is, who else is there.
//!
//! A command passes here on its way out and becomes an event; an event passes here on its way in
//! and becomes lines. Nothing here waits or touches the network, so all of it is tested by calls.

use std::collections::{BTreeMap, BTreeSet};

use client::{ClientEvent, RoomInfo, ServerEvent};

use crate::command::{Command, HELP};
use crate::display::Line;

// ANCHOR: view
/// The chat, as this client sees it.
#[derive(Debug)]
pub struct View {
    /// Our name, as the server wrote it.
    name: String,
    /// Everyone who is here, where the server has no rooms.
    users: Option<BTreeSet<String>>,
    /// The rooms we are in, and who else is.
    rooms: BTreeMap<String, BTreeSet<String>>,
    /// Where plain text goes. It is set as soon as we ask to join, so that a line typed before the
    /// answer does not go to the room before.
    current: Option<String>,
}

/// What follows from a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(ClientEvent),
    /// Show this.
    Show(Vec<Line>),
    /// Leave.
    Quit,
}

const NO_ROOMS: &str =
    "This server has one room for everyone; rooms and direct messages come with milestone 3.";
const NO_CURRENT: &str =
    "You have no room to talk in: /join ROOM first, and /rooms shows which there are.";
// ANCHOR_END: view

impl View {
    /// What a welcome tells.
    pub fn new(name: String, users: Option<Vec<String>>) -> Self {
        let users = users.map(BTreeSet::from_iter);
        Self { name, users, rooms: BTreeMap::new(), current: None }
    }

    /// Our name, as the server wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where plain text goes.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The first lines of a conversation.
    pub fn greeting(&self) -> Vec<Line> {
        let mut lines =
            vec![Line::notice(format!("You are {}. /help lists the commands.", self.name))];
        if let Some(users) = &self.users {
            lines.push(Line::notice(format!("Here: {}", list(users))));
        }
        lines
    }
}

// ANCHOR: ask
impl View {
    /// What a command comes to.
    pub fn ask(&mut self, command: Command) -> Step {
        match command {
            Command::Say(text) => self.say(text),
            Command::Quit => Step::Quit,
            Command::Help => Step::Show(HELP.map(Line::notice).into()),
            Command::Who => Step::Show(vec![self.who()]),
            Command::Join(_) | Command::Leave(_) | Command::Direct { .. } | Command::Rooms
                if self.users.is_some() =>
            {
                mistake(NO_ROOMS)
            }
            Command::Join(room) => self.join(room),
            Command::Leave(room) => match room.or_else(|| self.current.clone()) {
                Some(room) => Step::Send(ClientEvent::Leave { room }),
                None => mistake(NO_CURRENT),
            },
            Command::Direct { to, text } => Step::Send(ClientEvent::direct(to, text)),
            Command::Rooms => Step::Send(ClientEvent::Rooms),
        }
    }

    fn say(&self, text: String) -> Step {
        let room = self.current.clone();
        if room.is_none() && self.users.is_none() {
            return mistake(NO_CURRENT);
        }
        Step::Send(ClientEvent::message(room, text))
    }

    fn join(&mut self, room: String) -> Step {
        let here = self.rooms.contains_key(&room);
        self.current = Some(room.clone());
        if here {
            return Step::Show(vec![Line::notice(format!("You talk in {room} now."))]);
        }
        Step::Send(ClientEvent::join(room))
    }

    fn who(&self) -> Line {
        match (&self.users, &self.current) {
            (Some(users), _) => Line::notice(format!("Here: {}", list(users))),
            (None, None) => Line::mistake(NO_CURRENT),
            (None, Some(room)) => match self.rooms.get(room) {
                Some(members) => Line::notice(format!("[{room}] {}", list(members))),
                None => Line::mistake(format!("The server has not let you into {room} yet.")),
            },
        }
    }
}
// ANCHOR_END: ask

// ANCHOR: take
impl View {
    /// Whether an event answers something that this client has sent. Each event that it sends gets
    /// exactly one answer.
    pub fn is_answer(&self, event: &ServerEvent) -> bool {
        match event {
            ServerEvent::Message { from, .. } | ServerEvent::Direct { from, .. } => {
                *from == self.name
            }
            ServerEvent::Welcome { .. }
            | ServerEvent::Joined { .. }
            | ServerEvent::Left { .. }
            | ServerEvent::Rooms { .. }
            | ServerEvent::Error { .. } => true,
            ServerEvent::UserJoined { .. }
            | ServerEvent::UserLeft { .. }
            | ServerEvent::MemberJoined { .. }
            | ServerEvent::MemberLeft { .. }
            | ServerEvent::Ack { .. }
            | ServerEvent::Typing { .. }
            | ServerEvent::Status { .. }
            | ServerEvent::Reconnect { .. }
            | ServerEvent::Unknown => false,
        }
    }

    /// Takes in what an event tells, and gives the lines that show it.
    pub fn take(&mut self, event: ServerEvent) -> Vec<Line> {
        match event {
            ServerEvent::UserJoined { name } => self.user_joined(name),
            ServerEvent::UserLeft { name } => self.user_left(&name),
            ServerEvent::Joined { room, members, history, gap, .. } => {
                self.joined(room, members, &history, gap)
            }
            ServerEvent::Left { room } => self.left(&room),
            ServerEvent::MemberJoined { room, name } => self.member_joined(&room, name),
            ServerEvent::MemberLeft { room, name } => self.member_left(&room, &name),
            ServerEvent::Message { .. } | ServerEvent::Direct { .. } => self.said(&event),
            ServerEvent::Rooms { rooms } => vec![list_rooms(&rooms)],
            ServerEvent::Error { code, message, .. } => self.refused(&code, message),
            ServerEvent::Reconnect { .. } => vec![Line::notice("The server is about to restart.")],
            // A line for every "is typing" would push away what was said.
            ServerEvent::Typing { .. } => vec![],
            // The session has taken these in already.
            ServerEvent::Ack { .. } | ServerEvent::Status { .. } => vec![],
            ServerEvent::Welcome { .. } | ServerEvent::Unknown => vec![],
        }
    }

    /// The line for something that was said, and none for any other event.
    fn said(&self, event: &ServerEvent) -> Vec<Line> {
        match event {
            ServerEvent::Message { room: Some(room), from, text, at, .. } if is_direct(room) => {
                let (from, to) = self.ends(room, from);
                vec![Line::direct(*at, from, to, text)]
            }
            ServerEvent::Message { room, from, text, at, .. } => {
                vec![Line::message(*at, room.as_deref(), from, *from == self.name, text)]
            }
            ServerEvent::Direct { from, to, text, at, .. } => {
                vec![Line::direct(*at, self.or_you(from), self.or_you(to), text)]
            }
            _ => vec![],
        }
    }

    /// From whom to whom a message in a conversation is.
    fn ends<'a>(&self, room: &'a str, from: &'a str) -> (&'a str, &'a str) {
        if from != self.name {
            return (from, "you");
        }
        let me = self.name.to_lowercase();
        let other = room.split(':').skip(1).find(|name| *name != me);
        ("you", other.unwrap_or("you"))
    }

    fn or_you<'a>(&self, name: &'a str) -> &'a str {
        if name == self.name { "you" } else { name }
    }
}
// ANCHOR_END: take

// ANCHOR: presence
impl View {
    fn user_joined(&mut self, name: String) -> Vec<Line> {
        let line = Line::notice(format!("{name} has come"));
        if let Some(users) = &mut self.users {
            users.insert(name);
        }
        vec![line]
    }

    fn user_left(&mut self, name: &str) -> Vec<Line> {
        if let Some(users) = &mut self.users {
            users.remove(name);
        }
        vec![Line::notice(format!("{name} has gone"))]
    }

    /// What was said before, and who is there: the newest line is the one that says where we are.
    /// After a cut we were there already, and see what we have missed.
    fn joined(
        &mut self,
        room: String,
        members: Vec<String>,
        history: &[ServerEvent],
        gap: bool,
    ) -> Vec<Line> {
        let members = BTreeSet::from_iter(members);
        let mut lines: Vec<Line> = history.iter().flat_map(|event| self.said(event)).collect();
        if gap {
            let text = format!("[{room}] Some messages are no longer there. It goes on here:");
            lines.insert(0, Line::notice(text));
        }
        if is_direct(&room) {
            // It is not a place to talk in, but somebody to talk to: /msg does that.
            return lines;
        }
        if !self.rooms.contains_key(&room) {
            lines.push(Line::notice(format!("[{room}] You are in, with: {}", list(&members))));
        }
        self.current.get_or_insert_with(|| room.clone());
        self.rooms.insert(room, members);
        lines
    }

    fn left(&mut self, room: &str) -> Vec<Line> {
        self.rooms.remove(room);
        self.current.take_if(|current| current == room);
        vec![Line::notice(format!("[{room}] You have left"))]
    }

    fn member_joined(&mut self, room: &str, name: String) -> Vec<Line> {
        let line = Line::notice(format!("[{room}] {name} has come"));
        if is_direct(room) {
            return vec![];
        }
        if let Some(members) = self.rooms.get_mut(room) {
            members.insert(name);
        }
        vec![line]
    }

    fn member_left(&mut self, room: &str, name: &str) -> Vec<Line> {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(name);
        }
        if is_direct(room) {
            return vec![];
        }
        vec![Line::notice(format!("[{room}] {name} has gone"))]
    }

    /// A room that did not let us in is not the one to talk in, and which one is instead, the
    /// person must say: a text must not end up where it was not meant for.
    fn refused(&mut self, code: &str, message: String) -> Vec<Line> {
        if matches!(code, "bad_room" | "too_many_rooms" | "forbidden") {
            self.current.take_if(|current| !self.rooms.contains_key(current));
        }
        vec![Line::mistake(message)]
    }
}
// ANCHOR_END: presence

/// Whether a room is a conversation of two.
fn is_direct(room: &str) -> bool {
    room.starts_with("dm:")
}

fn mistake(text: &str) -> Step {
    Step::Show(vec![Line::mistake(text)])
}

/// Names in the order of the alphabet, whatever their case.
fn list(names: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_by_key(|name| name.to_lowercase());
    names.join(", ")
}

fn list_rooms(rooms: &[RoomInfo]) -> Line {
    if rooms.is_empty() {
        return Line::notice("There are no rooms yet: /join ROOM opens one.");
    }
    let rooms: Vec<String> =
        rooms.iter().map(|room| format!("{} ({})", room.name, room.members)).collect();
    Line::notice(format!("Rooms: {}", rooms.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::protocol::decode;

    /// A view of a server without rooms.
    fn of_step_2() -> View {
        View::new("ada".into(), Some(vec!["ada".into(), "grace".into()]))
    }

    /// A view of a server with rooms, from inside `rust`.
    fn in_rust() -> View {
        let mut view = View::new("ada".into(), None);
        view.ask(Command::Join("rust".into()));
        take(&mut view, r#"{"type":"joined","room":"rust","members":["ada","Bob"],"history":[]}"#);
        view
    }

    fn take(view: &mut View, json: &str) -> String {
        text(&view.take(decode(json).unwrap()))
    }

    fn ask(view: &mut View, command: Command) -> String {
        match view.ask(command) {
            Step::Show(lines) => text(&lines),
            other => panic!("{other:?}"),
        }
    }

    fn text(lines: &[Line]) -> String {
        let lines: Vec<String> = lines.iter().map(|line| line.render(false)).collect();
        lines.join("\n")
    }

    fn say(room: Option<&str>) -> Step {
        Step::Send(ClientEvent::message(room.map(str::to_owned), "hi"))
    }

    fn said(kind: &str) -> String {
        format!(
            r#"{{"type":{kind},"id":"00000000-0000-0000-0000-000000000000","text":"hi","at":1}}"#
        )
    }

    #[test]
    fn without_rooms_text_goes_to_everyone() {
        assert_eq!(of_step_2().ask(Command::Say("hi".into())), say(None));
    }

    #[test]
    fn without_rooms_the_commands_for_rooms_say_when_they_come() {
        let direct = Command::Direct { to: "grace".into(), text: "psst".into() };
        for command in [Command::Join("rust".into()), Command::Leave(None), Command::Rooms, direct]
        {
            assert!(ask(&mut of_step_2(), command).contains("come with milestone 3"));
        }
        assert_eq!(of_step_2().current(), None);
    }

    #[test]
    fn without_rooms_who_follows_those_who_come_and_go() {
        let mut view = of_step_2();
        assert_eq!(take(&mut view, r#"{"type":"user_joined","name":"Bob"}"#), "* Bob has come");
        assert_eq!(take(&mut view, r#"{"type":"user_left","name":"grace"}"#), "* grace has gone");
        assert_eq!(ask(&mut view, Command::Who), "* Here: ada, Bob");
    }

    #[test]
    fn text_goes_to_the_room_that_was_joined_last() {
        let mut view = in_rust();
        assert_eq!(view.ask(Command::Say("hi".into())), say(Some("rust")));
        view.ask(Command::Join("lobby".into()));
        assert_eq!(view.ask(Command::Say("hi".into())), say(Some("lobby")), "before the answer");
    }

    #[test]
    fn a_room_one_is_in_is_turned_to_without_asking_the_server() {
        let mut view = in_rust();
        view.ask(Command::Join("lobby".into()));
        assert_eq!(ask(&mut view, Command::Join("rust".into())), "* You talk in rust now.");
        assert_eq!(view.current(), Some("rust"));
    }

    #[test]
    fn after_a_refused_join_text_goes_nowhere() {
        let mut view = in_rust();
        view.ask(Command::Join("No!".into()));
        let shown = take(&mut view, r#"{"type":"error","code":"bad_room","message":"Not so."}"#);
        assert_eq!(shown, "! Not so.");
        assert!(ask(&mut view, Command::Say("hi".into())).starts_with("! You have no room"));
    }

    #[test]
    fn an_error_about_something_else_leaves_the_room_alone() {
        let mut view = in_rust();
        take(&mut view, r#"{"type":"error","code":"bad_room","message":"Not so."}"#);
        take(&mut view, r#"{"type":"error","code":"no_such_user","message":"Nobody."}"#);
        assert_eq!(view.current(), Some("rust"));
    }

    #[test]
    fn who_has_left_a_room_talks_there_no_more() {
        let mut view = in_rust();
        let leave = ClientEvent::Leave { room: "rust".into() };
        assert_eq!(view.ask(Command::Leave(None)), Step::Send(leave));
        assert_eq!(take(&mut view, r#"{"type":"left","room":"rust"}"#), "* [rust] You have left");
        assert!(ask(&mut view, Command::Who).starts_with("! You have no room"));
    }

    #[test]
    fn who_follows_the_members_of_the_current_room() {
        let mut view = in_rust();
        let json = r#"{"type":"member_joined","room":"rust","name":"cy"}"#;
        assert_eq!(take(&mut view, json), "* [rust] cy has come");
        let json = r#"{"type":"member_left","room":"rust","name":"Bob"}"#;
        assert_eq!(take(&mut view, json), "* [rust] Bob has gone");
        assert_eq!(ask(&mut view, Command::Who), "* [rust] ada, cy");
    }

    #[test]
    fn history_comes_before_the_line_that_says_we_are_in() {
        let message = said(r#""message","room":"rust","from":"Bob""#);
        let mut view = View::new("ada".into(), None);
        let json = format!(
            r#"{{"type":"joined","room":"rust","members":["Bob","ada"],"history":[{message},{{"type":"new"}}]}}"#
        );
        let shown = take(&mut view, &json);
        let (first, last) = shown.split_once('\n').unwrap();
        assert!(first.ends_with(" [rust] Bob: hi"), "{shown}");
        assert_eq!(last, "* [rust] You are in, with: ada, Bob");
    }

    #[test]
    fn a_direct_message_calls_us_you() {
        let shown = take(&mut in_rust(), &said(r#""direct","from":"Bob","to":"ada""#));
        assert!(shown.ends_with(" Bob -> you: hi"), "{shown}");
    }

    #[test]
    fn a_message_in_a_conversation_is_a_direct_one() {
        let mut view = in_rust();
        let json = r#"{"type":"joined","room":"dm:ada:bob","members":["ada","Bob"],"history":[]}"#;
        assert_eq!(take(&mut view, json), "");
        assert_eq!(view.current(), Some("rust"));
        let shown = take(&mut view, &said(r#""message","room":"dm:ada:bob","from":"Bob""#));
        assert!(shown.ends_with(" Bob -> you: hi"), "{shown}");
        let shown = take(&mut view, &said(r#""message","room":"dm:ada:bob","from":"ada""#));
        assert!(shown.ends_with(" you -> bob: hi"), "{shown}");
        let json = r#"{"type":"member_left","room":"dm:ada:bob","name":"Bob"}"#;
        assert_eq!(take(&mut view, json), "");
    }

    #[test]
    fn who_comes_back_sees_what_was_missed_and_whether_that_is_all() {
        let missed = said(r#""message","room":"rust","from":"Bob""#);
        let back = |gap| {
            let json = format!(
                r#"{{"type":"joined","room":"rust","members":["ada","cy"],"history":[{missed}],"gap":{gap}}}"#
            );
            let mut view = in_rust();
            let shown = take(&mut view, &json);
            assert_eq!(ask(&mut view, Command::Who), "* [rust] ada, cy");
            shown
        };
        let shown = back(false);
        assert!(shown.ends_with(" [rust] Bob: hi") && shown.lines().count() == 1, "{shown}");
        let shown = back(true);
        assert!(shown.starts_with("* [rust] Some messages are no longer there."), "{shown}");
    }

    #[test]
    fn rooms_are_listed_with_how_many_are_in_them() {
        let mut view = in_rust();
        let json =
            r#"{"type":"rooms","rooms":[{"name":"a","members":1},{"name":"b","members":20}]}"#;
        assert_eq!(take(&mut view, json), "* Rooms: a (1), b (20)");
        let none = take(&mut view, r#"{"type":"rooms","rooms":[]}"#);
        assert!(none.starts_with("* There are no rooms yet"));
    }

    #[test]
    fn typing_and_the_unknown_show_nothing() {
        let mut view = in_rust();
        assert_eq!(take(&mut view, r#"{"type":"typing","room":"rust","name":"Bob"}"#), "");
        assert_eq!(take(&mut view, r#"{"type":"weather"}"#), "");
    }

    #[test]
    fn only_our_own_words_are_an_answer() {
        let view = in_rust();
        let answers = |kind: &str| view.is_answer(&decode(&said(kind)).unwrap());
        assert!(answers(r#""message","room":"rust","from":"ada""#));
        assert!(answers(r#""direct","from":"ada","to":"Bob""#));
        assert!(!answers(r#""message","room":"rust","from":"Bob""#));
        assert!(!answers(r#""direct","from":"Bob","to":"ada""#));
    }
}
// ANCHOR_END: all
