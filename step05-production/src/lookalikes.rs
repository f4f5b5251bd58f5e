//! Names that look like other names: `аdmin` with a Cyrillic а, `rn` for `m`, `1` for `l`.
//!
//! Unicode has a table of such characters. Its [skeleton](https://www.unicode.org/reports/tr39/#Confusable_Detection)
//! of a text puts one and the same character for all that look alike.

use std::collections::HashSet;
use std::sync::LazyLock;

use unicode_security::skeleton;

/// Names that nobody gets, because people would believe that the server speaks.
const RESERVED: [&str; 20] = [
    "admin",
    "administrator",
    "anonymous",
    "everyone",
    "mod",
    "moderator",
    "nobody",
    "official",
    "operator",
    "owner",
    "postmaster",
    "root",
    "security",
    "server",
    "staff",
    "superuser",
    "support",
    "sysadmin",
    "system",
    "webmaster",
];

static RESERVED_LOOKS: LazyLock<HashSet<String>> =
    LazyLock::new(|| RESERVED.iter().flat_map(|name| looks(name)).collect());

/// What a name looks like, in small and in capital letters: Cyrillic `в` looks like no Latin letter,
/// but `В` does. Two names of which one look is the same are too much alike.
pub fn looks(name: &str) -> [String; 2] {
    [look(&name.to_lowercase()), look(&name.to_uppercase())]
}

/// Whether a name is, or looks like, one that nobody gets.
pub fn is_reserved(name: &str) -> bool {
    looks(name).iter().any(|look| RESERVED_LOOKS.contains(look))
}

/// The name with each letter as the one that it looks like. Capital letters look like small ones
/// here. The table has `I` as `l`, so `i` has to become `l` as well.
fn look(name: &str) -> String {
    let letters: String = skeleton(name).collect();
    let small = letters.to_lowercase().replace('i', "l");
    skeleton(&small).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn alike(one: &str, other: &str) -> bool {
        let (one, other) = (looks(one), looks(other));
        one.iter().any(|look| other.contains(look))
    }

    #[test]
    fn letters_of_other_scripts_look_like_ours() {
        for (one, other) in [
            ("аdа", "ada"),     // Cyrillic а
            ("ВОВ", "bob"),     // Cyrillic capitals
            ("вов", "BOB"),     // their small ones
            ("том", "TOM"),     // small ones that look like capitals only
            ("сора", "copa"),   // Cyrillic throughout
            ("iνan", "ivan"),   // Greek nu
            ("Ρaul", "paul"),   // Greek capital rho
            ("ɡrace", "grace"), // the phonetic g
            ("adа", "ADA"),
        ] {
            assert!(alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn so_do_some_of_our_own() {
        for (one, other) in [
            ("aIice", "alice"),
            ("a1ice", "alice"),
            ("Ivan", "lvan"),
            ("ivan", "1VAN"),
            ("b0b", "BOB"),
            ("rnax", "max"),
            ("MAX", "rnax"),
            ("Ada", "ADA"),
        ] {
            assert!(alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn names_that_differ_are_different() {
        for (one, other) in [
            ("ada", "adа1"),
            ("ada", "eda"),
            ("grace", "grace2"),
            ("jose", "josé"),
            ("a-b", "a_b"),
            ("van", "nan"),
            ("小林", "小森"),
            ("Ядвига", "Ядвика"),
        ] {
            assert!(!alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn nobody_is_called_admin_however_it_is_written() {
        let written = [
            "admin",
            "ADMIN",
            "Admin",
            "ａｄｍｉｎ",
            "аdmin",
            "аdmіn",
            "adm1n",
            "adrnin",
            "r00t",
            "SYSTЕM",
        ];
        for name in written {
            assert!(is_reserved(&names::normalize(name).unwrap()), "{name}");
        }
        for name in ["ad\u{200b}min", "\u{202e}nimda"] {
            assert!(names::normalize(name).is_err(), "{name:?}");
        }
        for name in ["ada", "grace", "adminton", "rooted", "модератор"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
