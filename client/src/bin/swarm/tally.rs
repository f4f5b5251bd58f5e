// ANCHOR: all
//! What all clients have seen, compared: who misses something, saw it twice, or in another order.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::Error;
use tokio::time::Instant;
use uuid::Uuid;

use crate::histogram::Histogram;
use crate::seconds;

// ANCHOR: tally
/// The common book of all clients.
pub struct Tally {
    begun: Instant,
    room_size: usize,
    book: Mutex<Book>,
}

/// What is in it.
#[derive(Default)]
struct Book {
    members: Vec<Seen>,
    /// For each room the ids of its messages, in the order in which whoever saw them first did.
    rooms: Vec<Vec<Uuid>>,
    said: u64,
    unsaid: u64,
    stored: u64,
    failed: BTreeMap<String, u64>,
    seen: u64,
    twice: u64,
    holes: u64,
    disorder: u64,
    /// Acked under a number under which its own sender has not seen it.
    lost: u64,
    to_stored: Histogram,
    to_seen: Histogram,
    cuts: usize,
    cut_at: Option<Instant>,
    back: Histogram,
    stored_in_time: Option<u64>,
    last_problem: Option<String>,
    end_of_one: Option<String>,
}

/// What one client has seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The number of its last message.
    last: u64,
    is_here: bool,
    is_back: bool,
}
// ANCHOR_END: tally

impl Tally {
    /// An empty book.
    pub fn new(clients: usize, room_size: usize) -> Self {
        let book = Book {
            members: vec![Seen::default(); clients],
            rooms: vec![Vec::new(); clients.div_ceil(room_size)],
            ..Book::default()
        };
        Self { begun: Instant::now(), room_size, book: Mutex::new(book) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which room a client is.
    pub fn room_of(&self, index: usize) -> usize {
        index / self.room_size
    }

    /// A text that says when it was written.
    pub fn stamp(&self) -> String {
        self.begun.elapsed().as_micros().to_string()
    }

    /// How long ago a text was written.
    fn age(&self, text: &str) -> Option<Duration> {
        let written = Duration::from_micros(text.parse().ok()?);
        Some(self.begun.elapsed().saturating_sub(written))
    }
}

// ANCHOR: write
impl Tally {
    /// A client is in its room and has what it missed.
    pub fn joined(&self, index: usize, gap: bool) {
        let mut book = self.book();
        book.holes += u64::from(gap);
        let since_cut = book.cut_at.map(|time| time.elapsed());
        let Some(member) = book.members.get_mut(index) else { return };
        member.is_here = true;
        if let Some(time) = since_cut.filter(|_| !member.is_back) {
            member.is_back = true;
            book.back.add(time);
        }
    }

    /// A client has said something, or could not.
    pub fn said(&self, is_said: bool) {
        let mut book = self.book();
        book.said += u64::from(is_said);
        book.unsaid += u64::from(!is_said);
    }

    /// A client has seen a message.
    pub fn seen(&self, index: usize, seq: u64, id: Uuid, text: &str) {
        let (room, age) = (self.room_of(index), self.age(text));
        let mut book = self.book();
        book.seen += 1;
        if let Some(age) = age {
            book.to_seen.add(age);
        }
        let Some(member) = book.members.get_mut(index) else { return };
        let last = member.last;
        member.last = last.max(seq);
        book.twice += u64::from(seq <= last);
        book.holes += u64::from(seq > last + 1);
        let Some(ids) = book.rooms.get_mut(room) else { return };
        match place(ids, seq) {
            Some(first) => book.disorder += u64::from(first != id),
            None => ids.push(id),
        }
    }

    /// A message of a client is stored. Its sender has seen it before.
    pub fn stored(&self, index: usize, seq: u64, id: Uuid, took: Option<Duration>) {
        let room = self.room_of(index);
        let mut book = self.book();
        book.stored += 1;
        if let Some(took) = took {
            book.to_stored.add(took);
        }
        let is_there = book.rooms.get(room).and_then(|ids| place(ids, seq)) == Some(id);
        book.lost += u64::from(!is_there);
    }

    /// A message will not be stored.
    pub fn failed(&self, code: &str) {
        *self.book().failed.entry(code.to_owned()).or_default() += 1;
    }

    /// Something went wrong that will be tried again.
    pub fn problem(&self, why: &Error) {
        self.book().last_problem = Some(why.to_string());
    }

    /// A client has given up.
    pub fn ended(&self, why: &Error) {
        self.book().end_of_one = Some(why.to_string());
    }

    /// All are cut now.
    pub fn note_cut(&self) {
        let mut book = self.book();
        book.cuts += 1;
        book.cut_at = Some(Instant::now());
        book.members.iter_mut().for_each(|member| member.is_back = false);
    }

    /// Nobody says anything more.
    pub fn note_end(&self) {
        let mut book = self.book();
        book.stored_in_time = Some(book.stored);
    }
}

/// The id of the message with this number.
fn place(ids: &[Uuid], seq: u64) -> Option<Uuid> {
    let index = usize::try_from(seq.checked_sub(1)?).ok()?;
    ids.get(index).copied()
}
// ANCHOR_END: write

// ANCHOR: read
impl Tally {
    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.book().members.len()
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        self.book().rooms.len()
    }

    /// How many clients have got in.
    pub fn here(&self) -> usize {
        self.book().members.iter().filter(|member| member.is_here).count()
    }

    /// How many are back since the cut.
    pub fn back(&self) -> usize {
        self.book().members.iter().filter(|member| member.is_back).count()
    }

    /// How often all were cut.
    pub fn cuts(&self) -> usize {
        self.book().cuts
    }

    /// How many have every message of their room, once nothing is pending.
    pub fn complete(&self) -> usize {
        let book = self.book();
        if book.stored + book.failed.values().sum::<u64>() < book.said {
            return 0;
        }
        let is_complete = |(index, member): &(usize, &Seen)| {
            let top = book.rooms.get(self.room_of(*index)).map_or(0, Vec::len);
            member.last >= top as u64
        };
        book.members.iter().enumerate().filter(is_complete).count()
    }

    /// What went wrong last.
    pub fn last_problem(&self) -> String {
        let problem = self.book().last_problem.clone();
        problem.map_or_else(
            || "nothing went wrong otherwise".to_owned(),
            |problem| format!("the last trouble was: {problem}"),
        )
    }

    /// Why a client has given up, if one has.
    pub fn end_of_one(&self) -> Option<String> {
        self.book().end_of_one.clone()
    }

    /// How the return after the cut went.
    pub fn storm(&self) -> String {
        let book = self.book();
        let [half, all] = [0.5, 1.0].map(|part| seconds(book.back.quantile(part)));
        format!("cut at once: half are back and complete after {half}, all after {all}")
    }

    /// Prints the figures. Gives whether the server has kept its promises.
    pub fn report(&self, talked: Duration) -> bool {
        let book = self.book();
        let in_time = book.stored_in_time.unwrap_or(book.stored);
        let per_second = |count: u64| count as f64 / talked.as_secs_f64();
        println!(
            "said {}, stored {} ({:.0} a second), seen {} ({:.0} a second)",
            book.said,
            book.stored,
            per_second(in_time),
            book.seen,
            per_second(book.seen)
        );
        println!("from said to stored: {}", book.to_stored.describe());
        println!("from said to seen:   {}", book.to_seen.describe());
        for (code, count) in &book.failed {
            println!("refused with {code}: {count}");
        }
        if book.unsaid > 0 {
            println!("not said, because too much was waiting: {}", book.unsaid);
        }
        let Book { lost, holes, twice, disorder, .. } = *book;
        println!("lost {lost}, missing {holes}, seen twice {twice}, out of order {disorder}");
        lost + holes + twice + disorder == 0
    }
}
// ANCHOR_END: read

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients in one room, who have seen these numbers; the id of a message is its number.
    fn saw(first: &[u64], second: &[u64]) -> Tally {
        let tally = Tally::new(2, 2);
        for (index, numbers) in [first, second].into_iter().enumerate() {
            for &seq in numbers {
                tally.seen(index, seq, Uuid::from_u128(seq.into()), "0");
            }
        }
        tally
    }

    #[test]
    fn all_is_well_if_all_saw_the_same() {
        let tally = saw(&[1, 2, 3], &[1, 2, 3]);
        assert_eq!(tally.complete(), 2);
        assert!(tally.report(Duration::from_secs(1)));
    }

    #[test]
    fn each_fault_is_noticed() {
        assert!(!saw(&[1, 2], &[1, 1, 2]).report(Duration::from_secs(1)), "twice");
        assert!(!saw(&[1, 2, 3], &[1, 3]).report(Duration::from_secs(1)), "missing");
        assert_eq!(saw(&[1, 2, 3], &[1, 2]).complete(), 1, "the end is missing");
        let tally = saw(&[1, 2], &[1]);
        tally.seen(1, 2, Uuid::from_u128(7), "0");
        assert!(!tally.report(Duration::from_secs(1)), "another order");
        let tally = saw(&[1], &[1]);
        tally.stored(0, 2, Uuid::from_u128(2), None);
        assert!(!tally.report(Duration::from_secs(1)), "acked and not there");
    }
}
// ANCHOR_END: all
