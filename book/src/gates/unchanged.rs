//! What a milestone does not change, it has byte for byte from the one before.
//!
//! A file that is in both and not listed here has changed on purpose; the coverage gate then asks for
//! each of its new lines in the milestone's own chapter.

use std::fs;
use std::path::Path;

use super::Problem;

/// From which milestone to which the files stay the same.
pub type Unchanged<'a> = (&'a str, &'a str, &'a [&'a str]);

/// What stays the same.
pub const UNCHANGED: &[Unchanged<'_>] = &[
    ("step01-echo", "step02-multiuser", &["src/process.rs"]),
    (
        "step02-multiuser",
        "step03-rooms",
        &[
            "src/names.rs",
            "src/origin.rs",
            "src/outbox.rs",
            "src/page.rs",
            "src/process.rs",
            "src/settings.rs",
        ],
    ),
    (
        "step03-rooms",
        "step04-resilience",
        &["src/names.rs", "src/origin.rs", "src/page.rs", "src/process.rs"],
    ),
    (
        "step04-resilience",
        "step05-production",
        &[
            "src/conversation.rs",
            "src/drain.rs",
            "src/heartbeat.rs",
            "src/names.rs",
            "src/page.rs",
            "src/places.rs",
            "src/spread.rs",
        ],
    ),
];

/// The gate.
pub fn check(workspace: &Path, unchanged: &[Unchanged<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (from, to, files) in unchanged {
        for file in *files {
            let read = |folder: &str| fs::read(workspace.join(folder).join(file)).ok();
            let (old, new) = (read(from), read(to));
            if old.is_none() || old != new {
                let what = format!("it should be the same, byte for byte, as {from}/{file}");
                problems.push(Problem::new(format!("{to}/{file}"), what));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Workspace;
    use super::*;

    #[test]
    fn one_byte_is_enough() {
        let workspace =
            Workspace::new(&[("one/a.rs", "a\n"), ("two/a.rs", "a\n"), ("two/b.rs", "b\n")]);
        assert_eq!(check(&workspace.0, &[("one", "two", &["a.rs"])]), []);
        assert_eq!(check(&workspace.0, &[("one", "two", &["b.rs"])]).len(), 1, "missing");
        workspace.write("two/a.rs", "a \n");
        assert_eq!(check(&workspace.0, &[("one", "two", &["a.rs"])]).len(), 1, "changed");
    }
}
