//! Which milestones there are, and where.

use std::path::{Path, PathBuf};

/// One milestone: a program that runs, and a chapter about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Milestone {
    /// 1 for the first.
    pub number: u8,
    /// The name of its package, which is also that of its folder.
    pub package: &'static str,
}

/// All milestones, in the order of the book. The last ones may not exist yet.
pub const ALL: [Milestone; 5] = [
    Milestone { number: 1, package: "step01-echo" },
    Milestone { number: 2, package: "step02-multiuser" },
    Milestone { number: 3, package: "step03-rooms" },
    Milestone { number: 4, package: "step04-resilience" },
    Milestone { number: 5, package: "step05-production" },
];

impl Milestone {
    /// The milestone of this number.
    pub fn of(number: u8) -> Option<Self> {
        ALL.into_iter().find(|milestone| milestone.number == number)
    }

    /// Its port, if milestone 1 has the port `first`.
    pub fn port(self, first: u16) -> u16 {
        first.saturating_add(u16::from(self.number)).saturating_sub(1)
    }

    /// The one before it.
    pub fn previous(self) -> Option<Self> {
        Self::of(self.number.checked_sub(1)?)
    }

    /// Its folder.
    pub fn folder(self, workspace: &Path) -> PathBuf {
        workspace.join(self.package)
    }

    /// The folder of its browser client, relative to the workspace.
    pub fn web(self) -> String {
        format!("client/web/step{:02}", self.number)
    }

    /// The name by which Rust code calls its library.
    pub fn crate_name(self) -> String {
        self.package.replace('-', "_")
    }

    /// Whether it exists as a program.
    pub fn exists(self, workspace: &Path) -> bool {
        self.folder(workspace).join("src/main.rs").exists()
    }
}

/// The milestones that exist as programs.
pub fn existing(workspace: &Path) -> Vec<Milestone> {
    ALL.into_iter().filter(|milestone| milestone.exists(workspace)).collect()
}
