//! What `cargo learn` remembers between two calls: which milestones have passed. A plain text file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::milestone;

/// The milestones that have passed their checks.
#[derive(Debug)]
pub struct Progress {
    file: PathBuf,
    passed: BTreeSet<u8>,
}

impl Progress {
    /// Reads `.learn/progress.txt`; without that file, nothing has passed yet.
    pub fn read(workspace: &Path) -> Self {
        let file = workspace.join(".learn").join("progress.txt");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let passed = text.lines().filter_map(passed).collect();
        Self { file, passed }
    }

    /// The first milestone that has not passed yet, if there is one.
    pub fn next(&self) -> Option<u8> {
        let mut numbers = milestone::ALL.iter().map(|milestone| milestone.number);
        numbers.find(|number| !self.passed.contains(number))
    }

    /// Begins again with a milestone: the ones before it count as passed, the others as not.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn begin_with(&mut self, milestone: u8) -> Result<()> {
        self.passed = (1..milestone).collect();
        self.write().with_context(|| format!("can't write {}", self.file.display()))
    }

    /// Remembers that a milestone has passed.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn pass(&mut self, milestone: u8) -> Result<()> {
        self.passed.insert(milestone);
        self.write().with_context(|| format!("can't write {}", self.file.display()))
    }

    fn write(&self) -> std::io::Result<()> {
        let lines = self.passed.iter().map(|number| format!("milestone {number} passed\n"));
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.file, lines.collect::<String>())
    }
}

fn passed(line: &str) -> Option<u8> {
    line.strip_prefix("milestone ")?.strip_suffix(" passed")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_last_milestone_nothing_is_next() {
        let workspace = std::env::temp_dir().join(format!("learn-last-{}", std::process::id()));
        let mut progress = Progress::read(&workspace);
        progress.begin_with(5).unwrap();
        assert_eq!(progress.next(), Some(5));
        progress.pass(5).unwrap();
        assert_eq!(Progress::read(&workspace).next(), None);
        fs::remove_dir_all(&workspace).unwrap();
    }

    #[test]
    fn remembers_what_has_passed() {
        let workspace = std::env::temp_dir().join(format!("learn-progress-{}", std::process::id()));
        assert_eq!(Progress::read(&workspace).next(), Some(1));
        Progress::read(&workspace).begin_with(3).unwrap();
        assert_eq!(Progress::read(&workspace).next(), Some(3));
        Progress::read(&workspace).begin_with(1).unwrap();
        assert_eq!(Progress::read(&workspace).next(), Some(1));

        let mut progress = Progress::read(&workspace);
        progress.pass(1).unwrap();
        progress.pass(3).unwrap();

        assert_eq!(Progress::read(&workspace).next(), Some(2));
        let text = fs::read_to_string(workspace.join(".learn/progress.txt")).unwrap();
        assert_eq!(text, "milestone 1 passed\nmilestone 3 passed\n");
        fs::remove_dir_all(&workspace).unwrap();
    }
}
