//! What a user may be called.

use unicode_normalization::UnicodeNormalization;

use crate::protocol::ErrorCode;

/// The longest name, in characters.
const MAX_NAME: usize = 32;

/// Brings a name into the form in which everyone sees it.
///
/// Unicode has several ways to write the same letters, and NFKC makes one of them:
/// [Unicode Standard Annex 15](https://www.unicode.org/reports/tr15/).
///
/// # Errors
/// `bad_name`, unless it has 1 to 32 letters of any script, digits, `_` or `-`.
pub fn normalize(name: &str) -> Result<String, ErrorCode> {
    let name: String = name.nfkc().collect();
    let allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let length = name.chars().count();
    if (1..=MAX_NAME).contains(&length) && name.chars().all(allowed) {
        Ok(name)
    } else {
        Err(ErrorCode::BadName)
    }
}

/// Two names with the same key are the same name: `Ada` and `ada`.
pub fn key(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_any_script_digits_and_two_signs_make_a_name() {
        for name in ["a", "ada_1", "Jean-Luc", "Ядвига", "小林", "x".repeat(32).as_str()] {
            assert_eq!(normalize(name).as_deref(), Ok(name));
        }
    }

    #[test]
    fn anything_else_is_a_bad_name() {
        let bad = [
            "",
            " ",
            "ada lovelace",
            "ada!",
            "<b>",
            "a\u{202e}b",
            "a\u{200b}b",
            "🦀",
            "x".repeat(33).as_str(),
        ]
        .map(normalize);
        assert!(bad.iter().all(|name| *name == Err(ErrorCode::BadName)), "{bad:?}");
    }

    #[test]
    fn wide_letters_become_the_usual_ones() {
        assert_eq!(normalize("ａｄａ").as_deref(), Ok("ada"));
    }

    #[test]
    fn names_that_differ_only_in_case_have_one_key() {
        assert_eq!(key("ADA"), key("ada"));
    }
}
