//! Search: the messages of one room that have all of some words.

use rusqlite::params;

use crate::protocol::Said;
use crate::store::{Store, said};

/// How many messages a search gives.
pub const FOUND: usize = 50;

/// How many words count. More would only cost time.
pub const MAX_WORDS: usize = 16;

/// How long the last word has to be, in bytes, to count as the beginning of longer ones. So many
/// words begin with one letter that to go through them all would take a second.
pub const MIN_BEGINNING: usize = 3;

/// Newest first: the numbers of a room's messages grow in the order of their `seq`.
const SEARCH: &str = "
    SELECT room, seq, id, name, messages.text, at
    FROM words JOIN messages ON number = words.rowid
    WHERE words MATCH ?1 AND at >= ?2 AND words.rowid < ifnull((
        SELECT number FROM messages WHERE namespace = ?3 AND room = ?4 AND seq >= ?5
        ORDER BY seq LIMIT 1), 9223372036854775807)
    ORDER BY words.rowid DESC LIMIT ?6";

/// What to look for, and where.
#[derive(Debug, Clone)]
pub struct Search {
    /// The namespace of the room.
    pub namespace: &'static str,
    /// The room.
    pub room: String,
    /// The words, as they were typed. The last one may be the beginning of one.
    pub words: String,
    /// Only messages with a smaller number than this.
    pub before: Option<u64>,
    /// Only messages that are not older than this, in milliseconds since 1970.
    pub since: u64,
}

impl Store {
    /// The newest messages that match, newest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn search(&self, search: &Search) -> rusqlite::Result<Vec<Said>> {
        let Search { namespace, room, words, before, since } = search;
        let Some(words) = query(words) else { return Ok(Vec::new()) };
        let query = format!("place:{} AND text:({words})", place(namespace, room));
        // SQLite has no larger number than this.
        let before = before.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
        let mut select = self.db.prepare_cached(SEARCH)?;
        let rows = select.query_map(params![query, since, namespace, room, before, FOUND], said)?;
        rows.collect()
    }
}

/// The words for the index, or `None` if there are none. In quotes nothing in them is taken for an
/// operator: `OR` is a word, and so is `a*`.
fn query(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let has_letters = |word: &&str| word.chars().any(char::is_alphanumeric);
    let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
    let words: Vec<&str> = words.filter(has_letters).take(MAX_WORDS).collect();
    let goes_on = if words.last()?.len() < MIN_BEGINNING { "" } else { "*" };
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    Some(format!("{}{goes_on}", words.join(" ")))
}

/// The word that stands for a room in the index: letters and digits only.
fn place(namespace: &str, room: &str) -> String {
    let hex = |byte: u8| format!("{byte:02x}");
    let bytes = namespace.bytes().chain(*b"/").chain(room.bytes());
    format!("p{}", bytes.map(hex).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::log::Draft;

    const NONE: [u64; 0] = [];

    /// A store in which these were said, one after the other, in the room `rust`.
    fn store(texts: &[&str]) -> Store {
        let mut store = Store::open(Path::new(":memory:")).unwrap();
        for text in texts {
            say(&mut store, "", "rust", text);
        }
        store
    }

    fn say(store: &mut Store, namespace: &'static str, room: &str, text: &str) {
        let (room, from, text) = (room.to_owned(), "ada".to_owned(), text.to_owned());
        store.append(&[Draft { namespace, room, id: Uuid::new_v4(), from, text }]).unwrap();
    }

    fn search(words: &str) -> Search {
        let (room, words) = ("rust".to_owned(), words.to_owned());
        Search { namespace: "", room, words, before: None, since: 0 }
    }

    fn find(store: &Store, words: &str) -> Vec<u64> {
        let found = store.search(&search(words)).unwrap();
        found.iter().map(|said| said.seq).collect()
    }

    #[test]
    fn all_words_have_to_be_there_and_the_last_one_may_go_on() {
        let store = store(&["the quick fox", "a lazy dog", "the lazy fox"]);
        assert_eq!(find(&store, "fox"), [3, 1]);
        assert_eq!(find(&store, "fox laz"), [3]);
        assert_eq!(find(&store, "laz fox"), NONE);
        assert_eq!(find(&store, "lazy fo"), NONE, "too short to be a beginning");
        assert_eq!(find(&store, "FOX the"), [3, 1]);
    }

    #[test]
    fn a_script_without_spaces_is_found_by_its_beginning() {
        assert_eq!(find(&store(&["小林さんはいますか"]), "小林"), [1]);
    }

    #[test]
    fn accents_make_no_difference() {
        let store = store(&["ein schöner Tag im Café"]);
        assert_eq!(find(&store, "schoner cafe"), [1]);
    }

    #[test]
    fn what_looks_like_syntax_is_text() {
        let store =
            store(&["apples OR pears", "a NEAR miss: text", "say \"hello\" (twice) ^ here"]);
        assert_eq!(find(&store, "apples OR oranges"), NONE);
        assert_eq!(find(&store, "OR"), [1]);
        assert_eq!(find(&store, "NEAR"), [2]);
        assert_eq!(find(&store, "text:"), [2]);
        assert_eq!(find(&store, "\"hello"), [3]);
        assert_eq!(find(&store, "(twice) ^here"), [3]);
        let syntax =
            ["\"", "\"\"\"", "*", "a*b*", "(", ")", "{x}:y", "NOT", "a AND", "x\0y", "-", "'"];
        for words in syntax {
            assert!(store.search(&search(words)).is_ok(), "{words}");
        }
        assert_eq!(find(&store, "\" * ( )"), NONE);
    }

    #[test]
    fn other_rooms_stay_out_whatever_the_words() {
        let mut store = store(&["here"]);
        say(&mut store, "staff", "rust", "here secret");
        say(&mut store, "", "dm:ada:grace", "here secret");
        assert_eq!(find(&store, "here"), [1]);
        for words in ["secret", "here\") OR (\"secret", "x OR place:p", "2f72757374", "p2f72757374"]
        {
            assert_eq!(find(&store, words), NONE, "{words}");
        }
        let dm = Search { room: "dm:ada:grace".to_owned(), ..search("secret") };
        assert_eq!(store.search(&dm).unwrap().len(), 1);
    }

    #[test]
    fn the_newest_fifty_come_first_and_the_ones_before_with_before() {
        let texts: Vec<String> = (1..=120).map(|n| format!("word {n}")).collect();
        let store = store(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(find(&store, "word"), Vec::from_iter((71..=120).rev()));
        for (before, newest) in [(71, Some(70)), (1, None), (0, None), (500, Some(120))] {
            let search = Search { before: Some(before), ..search("word") };
            let found = store.search(&search).unwrap();
            assert_eq!(found.first().map(|said| said.seq), newest, "before {before}");
        }
        let search = Search { before: Some(u64::MAX), ..search("word") };
        assert_eq!(store.search(&search).unwrap().len(), 50);
    }

    #[test]
    fn what_was_deleted_or_is_too_old_is_not_found() {
        let mut store = store(&["old words", "new words"]);
        store.db.execute("UPDATE messages SET at = 7 WHERE seq = 1", []).unwrap();
        let young = Search { since: 8, ..search("words") };
        assert_eq!(store.search(&young).unwrap().len(), 1);
        assert_eq!(find(&store, "words"), [2, 1]);
        store.expire(8, 9).unwrap();
        assert_eq!(find(&store, "words"), [2]);
        let check = "INSERT INTO words (words, rank) VALUES ('integrity-check', 1)";
        store.db.execute(check, []).unwrap();
    }
}
