// ANCHOR: all
//! How far we have seen one room, and so what is new, what has come before, and what is missing.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::protocol::{ClientEvent, ServerEvent};

/// How many messages of a room we remember by their ids. Their numbers say the same; this is for a
/// server that gives one message two numbers.
const REMEMBERED: usize = 128;

/// How often we ask for what is missing before we give it up.
const PATIENCE: u8 = 3;

// ANCHOR: place
/// A room that we are in or want to be in.
#[derive(Debug, Default)]
pub struct Place {
    cursor: Option<Cursor>,
    remembered: VecDeque<(Uuid, String)>,
    /// The server has let us in, on this connection.
    pub is_here: bool,
    /// How often something was missing, since nothing was.
    holes: u8,
    /// We have given up what was missing.
    is_torn: bool,
}

/// The last message that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    epoch: Uuid,
    seq: u64,
}

/// What a message is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The next one.
    New,
    /// We have had it.
    Old,
    /// There is one before it that we have not had.
    Hole,
}

/// What `joined` says about the room's messages.
#[derive(Debug, Clone, Copy)]
pub struct Seam {
    /// Which count the numbers belong to.
    pub epoch: Uuid,
    /// The last one.
    pub seq: u64,
    /// Some are missing for good.
    pub gap: bool,
}
// ANCHOR_END: place

impl Place {
    /// The `join` that brings us up to date.
    pub fn join(&self, room: &str) -> ClientEvent {
        let (epoch, after) = self.cursor.map(|cursor| (cursor.epoch, cursor.seq)).unzip();
        ClientEvent::Join { room: room.to_owned(), epoch, after }
    }

    /// Whether we have everything up to here.
    pub fn has(&self, seq: u64) -> bool {
        self.cursor.is_some_and(|cursor| cursor.seq >= seq)
    }

    // ANCHOR: take
    /// Takes a message that came.
    pub fn take(&mut self, seq: u64, id: Uuid, from: &str) -> News {
        // What comes before `joined` will come once more in its history.
        let Some(cursor) = &mut self.cursor else { return News::Old };
        if seq <= cursor.seq {
            return News::Old;
        }
        if seq - cursor.seq > 1 {
            return News::Hole;
        }
        cursor.seq = seq;
        if self.remembered.iter().any(|(other, sender)| *other == id && sender == from) {
            return News::Old;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((id, from.to_owned()));
        News::New
    }

    /// Takes the history in a `joined`, and leaves in it what is new. Gives whether that begins
    /// afresh: what came before is of another count, or there is a gap before it.
    ///
    /// # Errors
    /// [`Hole`]: something is missing, and we have to join again.
    pub fn enter(&mut self, seam: Seam, history: &mut Vec<ServerEvent>) -> Result<bool, Hole> {
        let Seam { epoch, seq, gap } = seam;
        let is_other_count = self.cursor.is_some_and(|cursor| cursor.epoch != epoch);
        let is_afresh = gap || is_other_count || self.is_torn;
        if is_afresh || self.cursor.is_none() {
            // Where it begins is the server's to say.
            let first = history
                .iter()
                .find_map(numbered)
                .map_or(seq.saturating_add(1), |(first, ..)| first);
            self.cursor = Some(Cursor { epoch, seq: first.saturating_sub(1) });
            self.remembered.clear();
        }
        history.retain(|event| {
            numbered(event).is_some_and(|(seq, id, from)| self.take(seq, id, from) == News::New)
        });
        if !self.has(seq) {
            self.tear();
            return Err(Hole);
        }
        (self.is_here, self.holes, self.is_torn) = (true, 0, false);
        Ok(is_afresh)
    }
    // ANCHOR_END: take

    /// Notes that something is missing. After a few times in a row we give it up: then the next
    /// `joined` begins afresh.
    pub fn tear(&mut self) {
        self.holes = self.holes.saturating_add(1);
        if self.holes > PATIENCE {
            (self.cursor, self.is_torn) = (None, true);
        }
    }
}

/// Something is missing.
#[derive(Debug, PartialEq, Eq)]
pub struct Hole;

/// The number, the id and the sender of a message that has them.
fn numbered(event: &ServerEvent) -> Option<(u64, Uuid, &str)> {
    match event {
        ServerEvent::Message { seq: Some(seq), id, from, .. } => Some((*seq, *id, from)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> ServerEvent {
        let id = Uuid::from_u128(seq.into());
        let (from, text) = ("ada".to_owned(), seq.to_string());
        ServerEvent::Message { room: Some("rust".into()), seq: Some(seq), id, from, text, at: 7 }
    }

    fn messages(numbers: impl IntoIterator<Item = u64>) -> Vec<ServerEvent> {
        numbers.into_iter().map(message).collect()
    }

    const EPOCH: Uuid = Uuid::from_u128(1);

    fn seam(seq: u64) -> Seam {
        Seam { epoch: EPOCH, seq, gap: false }
    }

    /// A place with the messages up to 5.
    fn at_5() -> Place {
        let mut place = Place::default();
        assert_eq!(place.enter(seam(5), &mut messages(3..=5)), Ok(false));
        place
    }

    fn take(place: &mut Place, seq: u64) -> News {
        place.take(seq, Uuid::from_u128(seq.into()), "ada")
    }

    #[test]
    fn a_newcomer_takes_what_there_is() {
        let mut place = Place::default();
        assert_eq!(take(&mut place, 9), News::Old, "before joined nothing counts");
        let mut history = messages(8..=9);
        assert_eq!(place.enter(seam(9), &mut history), Ok(false));
        assert_eq!(history.len(), 2);
        assert!(place.is_here && place.has(9) && !place.has(10));
        let mut empty = Place::default();
        assert_eq!(empty.enter(seam(0), &mut vec![]), Ok(false));
        assert_eq!(take(&mut empty, 1), News::New);
    }

    #[test]
    fn each_message_is_new_once() {
        let mut place = at_5();
        assert_eq!(take(&mut place, 6), News::New);
        assert_eq!(take(&mut place, 6), News::Old);
        assert_eq!(take(&mut place, 2), News::Old);
    }

    #[test]
    fn a_message_with_two_numbers_is_one_message() {
        let mut place = at_5();
        assert_eq!(place.take(6, Uuid::from_u128(5), "ada"), News::Old);
        assert_eq!(place.take(7, Uuid::from_u128(5), "grace"), News::New, "hers is another one");
        assert!(place.has(7));
    }

    #[test]
    fn a_hole_is_noticed_and_filled_by_joining_again() {
        let mut place = at_5();
        assert_eq!(take(&mut place, 8), News::Hole);
        let after = Some(5);
        let join = ClientEvent::Join { room: "rust".into(), epoch: Some(EPOCH), after };
        assert_eq!(place.join("rust"), join);
        let mut history = messages(6..=8);
        assert_eq!(place.enter(seam(8), &mut history), Ok(false));
        assert_eq!(history, messages(6..=8));
    }

    #[test]
    fn a_history_that_overlaps_leaves_what_is_new() {
        let mut place = at_5();
        let mut history = messages(4..=7);
        assert_eq!(place.enter(seam(7), &mut history), Ok(false));
        assert_eq!(history, messages(6..=7));
    }

    #[test]
    fn a_history_in_pages_is_taken_page_by_page() {
        let mut place = at_5();
        for page in [6..=7, 8..=9] {
            let (last, mut history) = (*page.end(), messages(page));
            assert_eq!(place.enter(seam(last), &mut history), Ok(false));
            assert_eq!(history.len(), 2);
        }
    }

    #[test]
    fn a_gap_and_another_count_begin_afresh() {
        let mut place = at_5();
        let mut history = messages(98..=99);
        assert_eq!(place.enter(Seam { gap: true, ..seam(99) }, &mut history), Ok(true));
        assert_eq!(history.len(), 2);
        let other = Seam { epoch: Uuid::from_u128(2), seq: 1, gap: false };
        let mut history = messages([1]);
        assert_eq!(place.enter(other, &mut history), Ok(true));
        assert_eq!((history.len(), take(&mut place, 2)), (1, News::New));
    }

    #[test]
    fn a_hole_that_nobody_fills_is_given_up() {
        let mut place = at_5();
        for _ in 0..=PATIENCE {
            assert_eq!(place.enter(seam(8), &mut messages([8])), Err(Hole));
        }
        assert_eq!(place.join("rust"), ClientEvent::join("rust"));
        assert_eq!(place.enter(seam(8), &mut messages([8])), Ok(true));
    }
}
// ANCHOR_END: all
