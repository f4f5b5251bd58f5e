//! What a scenario is: one promise of a milestone, and a way to see whether a server keeps it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::program::Program;
use crate::scene::Scene;
use crate::{step1, step2, step3, step4, step5};

/// How long most scenarios may take. They take milliseconds; the rest is for a busy machine.
pub const QUICK: Duration = Duration::from_secs(20);

/// For scenarios that wait for one of the server's own deadlines, or move much data.
pub const SLOW: Duration = Duration::from_secs(40);

/// One promise of a milestone.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// A sentence in snake case, as in `a_late_joiner_gets_the_last_fifty_messages`.
    pub name: &'static str,
    /// Which milestone makes the promise.
    pub milestone: u8,
    /// The same sentence for people.
    pub sentence: &'static str,
    /// What a right server does, in the words of the protocol.
    pub expected: &'static str,
    /// A nudge for a learner whose server does something else.
    pub hint: &'static str,
    /// Where the book teaches it: a page, and a fragment where there is one.
    pub section: &'static str,
    /// What it takes to run it.
    pub needs: Needs,
    /// Whether it would disturb others at the same server, by flooding it for instance.
    pub alone: bool,
    /// How long it may take over all. More than [`QUICK`] where it waits for a deadline.
    pub limit: Duration,
    /// Plays it.
    pub run: Run,
}

/// What a scenario needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any running server, by its URL.
    Url,
    /// The same, but a server without rate limits: it sends more at once than they let pass. From
    /// milestone 5 on a server has them, unless whoever starts it switches them off.
    NoRateLimits,
    /// The program: the scenario starts it by itself, with settings of its own or to see it end.
    Program,
    /// The same, and its data in files: it looks at them, or breaks them. A server that keeps
    /// everything in Redis has none.
    File,
}

impl Needs {
    /// Whether the scenario starts its servers by itself.
    pub fn own_server(self) -> bool {
        matches!(self, Self::Program | Self::File)
    }
}

/// The code of a scenario.
pub type Run = for<'a> fn(&'a mut Scene) -> Playing<'a>;

/// A scenario under way.
pub type Playing<'a> = Pin<Box<dyn Future<Output = Check> + Send + 'a>>;

/// The result of one step: on with the next, or the scenario stops here.
pub type Check<T = ()> = Result<T, Stop>;

/// Why a scenario stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// The server did something else than it should.
    Mismatch {
        /// What a right server does here.
        expected: String,
        /// What came.
        came: String,
    },
    /// The scenario can't be played here, for this reason.
    Skipped(String),
}

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server keeps its promise.
    Passed,
    /// It does not.
    Failed(Mismatch),
    /// The scenario could not be played, for this reason.
    Skipped(String),
}

/// The difference between what should be and what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What a right server does.
    pub expected: String,
    /// What this one did, with what was sent and received before.
    pub came: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected: {}\ncame: {}", self.expected, self.came)
    }
}

/// The server under test.
#[derive(Debug, Clone, Default)]
pub struct Target {
    url: Option<String>,
    program: Option<Program>,
}

impl Target {
    /// A server that runs already. Its URL may begin with `ws://` or `http://`; a path is ignored.
    pub fn url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), program: None }
    }

    /// A program: each scenario starts a server of its own.
    pub fn program(program: Program) -> Self {
        Self { url: None, program: Some(program) }
    }

    /// A server that runs already, and the program it runs: scenarios that need no server of their
    /// own share the one that runs.
    pub fn running(url: impl Into<String>, program: Program) -> Self {
        Self { url: Some(url.into()), program: Some(program) }
    }

    /// The URL of the shared server, if there is one.
    pub fn shared_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The program, if it is known.
    pub fn get_program(&self) -> Option<&Program> {
        self.program.as_ref()
    }
}

impl Scenario {
    /// What most scenarios of a section have in common; the rest is filled in by each.
    pub(crate) const fn of(milestone: u8, section: &'static str) -> Self {
        Self {
            name: "",
            milestone,
            sentence: "",
            expected: "",
            hint: "",
            section,
            needs: Needs::Url,
            alone: false,
            limit: QUICK,
            run: |_| Box::pin(async { Ok(()) }),
        }
    }

    /// Plays the scenario. It never panics, and takes no longer than its limit.
    pub async fn run(&self, target: &Target) -> Outcome {
        let mut scene = match Scene::set(self, target).await {
            Ok(scene) => scene,
            Err(stop) => return self.outcome(stop),
        };
        match timeout(self.limit, (self.run)(&mut scene)).await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(stop)) => self.outcome(stop),
            Err(_elapsed) => {
                let waited = scene.journal.came(&format!("no end after {:?}", self.limit));
                Outcome::Failed(Mismatch { expected: self.expected.to_owned(), came: waited })
            }
        }
    }

    /// Whether it waits for one of the server's own deadlines.
    pub fn is_slow(&self) -> bool {
        self.limit > QUICK
    }

    /// The same promise, kept by a later milestone. It is taught where it was made first.
    #[must_use]
    pub const fn again(self, milestone: u8) -> Self {
        Self { milestone, ..self }
    }

    fn outcome(&self, stop: Stop) -> Outcome {
        match stop {
            Stop::Mismatch { expected, came } => Outcome::Failed(Mismatch { expected, came }),
            Stop::Skipped(reason) => Outcome::Skipped(reason),
        }
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} {}", self.milestone, self.name)
    }
}

/// The scenarios of a milestone, in the order in which a learner meets them. None, if it has none yet.
pub fn of_milestone(milestone: u8) -> Vec<Scenario> {
    match milestone {
        1 => step1::scenarios(),
        2 => step2::scenarios(),
        3 => step3::scenarios(),
        4 => step4::scenarios(),
        5 => step5::scenarios(),
        _ => Vec::new(),
    }
}
