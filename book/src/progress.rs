//! What `cargo learn` remembers between two calls: which milestones have passed. A plain text file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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
        let passed = text.lines().filter_map(milestone).collect();
        Self { file, passed }
    }

    /// The first milestone that has not passed yet.
    pub fn next(&self) -> u8 {
        (1..=u8::MAX).find(|number| !self.passed.contains(number)).unwrap_or(u8::MAX)
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

fn milestone(line: &str) -> Option<u8> {
    line.strip_prefix("milestone ")?.strip_suffix(" passed")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_has_passed() {
        let workspace = std::env::temp_dir().join(format!("learn-progress-{}", std::process::id()));
        assert_eq!(Progress::read(&workspace).next(), 1);
        Progress::read(&workspace).begin_with(3).unwrap();
        assert_eq!(Progress::read(&workspace).next(), 3);
        Progress::read(&workspace).begin_with(1).unwrap();
        assert_eq!(Progress::read(&workspace).next(), 1);

        let mut progress = Progress::read(&workspace);
        progress.pass(1).unwrap();
        progress.pass(3).unwrap();

        assert_eq!(Progress::read(&workspace).next(), 2);
        let text = fs::read_to_string(workspace.join(".learn/progress.txt")).unwrap();
        assert_eq!(text, "milestone 1 passed\nmilestone 3 passed\n");
        fs::remove_dir_all(&workspace).unwrap();
    }
}
