// ANCHOR: all
//! Search without an index: the messages of a room are read, newest first, until enough have the words.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::log::{Answer, RoomId};
use crate::protocol::Said;
use crate::search::{FOUND, MAX_WORDS, MIN_BEGINNING, Search};
use crate::shared::rooms::{Entry, messages};
use crate::shared::{Shared, room_key};

/// How many messages one read gives.
const PAGE: usize = 1000;

/// The newest messages that match, newest first. It reads as many as a room keeps at most.
///
/// # Errors
/// [`Unavailable`](crate::log::Unavailable).
pub async fn search(shared: &Shared, search: Search) -> Answer<Vec<Said>> {
    let Search { namespace, room, words, before, since } = search;
    let (room, phrases) = (RoomId { namespace, room }, phrases(&words));
    let (mut found, mut end) = (Vec::new(), before.map(|before| format!("({before}-0")));
    while !phrases.is_empty() {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(room_key(&shared.link, &room, "log"));
        range.arg(end.as_deref().unwrap_or("+")).arg("-").arg("COUNT").arg(PAGE);
        let page: Vec<Entry> = shared.link.ask(&range).await?;
        let Some((oldest, _)) = page.last() else { break };
        end = Some(format!("({oldest}"));
        let page = messages(&room, page)?.into_iter().filter(|said| said.at >= since);
        found.extend(page.filter(|said| has(&said.text, &phrases)));
        if found.len() >= FOUND {
            break;
        }
    }
    found.truncate(FOUND);
    Ok(found)
}

/// Words that have to stand side by side, in this order; the last one may be the beginning of one.
struct Phrase {
    words: Vec<String>,
    goes_on: bool,
}

/// What to look for. As in the embedded log, `re-use` is two words side by side, and only the last of
/// all words may go on.
fn phrases(text: &str) -> Vec<Phrase> {
    let typed = text.split(|c: char| c.is_whitespace() || c.is_control());
    let typed: Vec<&str> = typed.filter(|word| !words(word).is_empty()).take(MAX_WORDS).collect();
    let last = typed.len();
    let phrase = |(n, typed): (usize, &&str)| Phrase {
        words: words(typed),
        goes_on: n + 1 == last && typed.len() >= MIN_BEGINNING,
    };
    typed.iter().enumerate().map(phrase).collect()
}

/// The words of a text, in lower case and without accents.
fn words(text: &str) -> Vec<String> {
    let plain = text.nfd().filter(|c| !is_combining_mark(*c));
    let plain: String = plain.flat_map(char::to_lowercase).collect();
    plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|it| !it.is_empty())
        .map(Into::into)
        .collect()
}

fn has(text: &str, phrases: &[Phrase]) -> bool {
    let text = words(text);
    phrases
        .iter()
        .all(|phrase| text.windows(phrase.words.len()).any(|window| phrase.is_like(window)))
}

impl Phrase {
    fn is_like(&self, window: &[String]) -> bool {
        let last = window.len() - 1;
        self.words.iter().zip(window).enumerate().all(|(n, (wanted, word))| {
            if n == last && self.goes_on { word.starts_with(wanted) } else { word == wanted }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(words: &str, text: &str) -> bool {
        let phrases = phrases(words);
        !phrases.is_empty() && has(text, &phrases)
    }

    #[test]
    fn all_words_have_to_be_there_and_the_last_one_may_go_on() {
        assert!(finds("fox laz", "the lazy fox"));
        assert!(!finds("laz fox", "the lazy fox"));
        assert!(!finds("lazy fo", "the lazy fox"), "too short to be a beginning");
        assert!(finds("FOX the", "the quick fox"));
        assert!(!finds("fox dog", "the quick fox"));
        assert!(!finds("  ! ", "the quick fox"));
    }

    #[test]
    fn accents_and_what_stands_between_words_make_no_difference() {
        assert!(finds("schoner cafe", "ein schöner Tag im Café"));
        assert!(finds("re-use", "we re-use it"));
        assert!(!finds("re-use", "use it, re: that"));
        assert!(finds("小林", "小林さんはいますか"));
    }
}
// ANCHOR_END: all
