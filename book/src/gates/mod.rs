//! What must hold for the book. mdBook itself lets nearly everything pass, so these look twice.
//!
//! - [`page`] reads the chapters: fences, labels, includes;
//! - on the chapters: [`includes`], [`listings`], [`json`], [`summary`], [`pace`], [`words`];
//! - on the chapters and the milestones: [`coverage`], [`unchanged`], [`threats`];
//! - on what mdBook makes of it: [`links`] and [`html`], by way of [`tags`].
//!
//! A gate is a function from what it looks at to the problems it finds. `tests/gates.rs` runs them all.

pub mod coverage;
pub mod html;
pub mod includes;
pub mod json;
pub mod links;
pub mod listings;
pub mod pace;
pub mod page;
pub mod summary;
pub mod tags;
pub mod threats;
pub mod unchanged;
pub mod words;

use std::fmt;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, and the line where there is one.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Problem {
    /// A problem at a place.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Small made-up workspaces for the tests of the gates.
#[cfg(test)]
pub mod made_up {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder that is gone at the end of the test.
    pub struct Workspace(pub PathBuf);

    impl Workspace {
        /// A workspace with these files.
        pub fn new(files: &[(&str, &str)]) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("learn-gates-{}-{number}", std::process::id());
            let workspace = Self(std::env::temp_dir().join(name));
            files.iter().for_each(|(path, text)| workspace.write(path, text));
            workspace
        }

        /// One more file.
        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Workspace {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
