//! What a connection costs that does nothing: it is signed in, has joined a room, and answers pings.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::load::door::{Home, address, listen, without_limits};
use crate::load::process::{Process, Size, thousands};
use crate::program::Program;

/// How many share a room.
const ROOM: usize = 100;

/// How many come in at once.
const AT_ONCE: usize = 64;

/// How long everyone is quiet before the memory is read.
const QUIET: Duration = Duration::from_secs(2);

/// What came of a run.
#[derive(Debug)]
pub struct Idle {
    /// The server.
    pub server: String,
    /// How many connections there were.
    pub connections: usize,
    /// The server as it has started, with its accounts.
    pub before: Size,
    /// The server with everybody.
    pub after: Size,
}

impl Idle {
    /// What the columns of a row are.
    pub const HEAD: &str = "\
| server | idle connections, each in a room of 100 | RSS before, MiB | RSS with all, MiB | KiB a connection | open files | threads |
|---|---|---|---|---|---|---|";

    /// What one connection costs, in KiB.
    pub fn kib_each(&self) -> f64 {
        let grown = self.after.rss_kib.saturating_sub(self.before.rss_kib);
        grown as f64 / self.connections.max(1) as f64
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |size: Size| size.rss_kib as f64 / 1024.0;
        write!(
            f,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {} | {} |",
            self.server,
            thousands(self.connections),
            mib(self.before),
            mib(self.after),
            self.kib_each(),
            thousands(self.after.files),
            self.after.threads
        )
    }
}

/// Lets so many clients in, and looks at the server before and after.
///
/// # Errors
/// It refuses somebody, or loses somebody.
pub async fn idle(program: &Program, milestone: u8, connections: usize) -> Result<Idle> {
    let home = Home::of(&without_limits(program), milestone, connections).await?;
    let process = Process::of(&home.server)?;
    let before = process.size()?;

    let enter = |number: usize| {
        let (door, account) = (home.door.clone(), home.account(number));
        let room = format!("room{}", number / ROOM);
        async move { door.enter(address(1, number), &account, &room).await }
    };
    let mut all = JoinSet::new();
    let mut entering = stream::iter(0..connections).map(enter).buffer_unordered(AT_ONCE);
    while let Some(socket) = entering.try_next().await? {
        all.spawn(listen(socket));
    }
    sleep(QUIET).await;
    let after = process.size()?;
    anyhow::ensure!(all.try_join_next().is_none(), "somebody was sent away");
    Ok(Idle { server: program.name().to_owned(), connections, before, after })
}
