//! Builds the book with mdBook, and keeps what it complained about.
//!
//! mdBook fails open: a missing include is an error on stderr, a raw `{{#include …}}` in the page, and
//! success. So whoever builds the book here gets the complaints as well, and decides.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use mdbook_driver::MDBook;
use mdbook_driver::config::Config;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// What came of a build.
#[derive(Debug, Clone)]
pub struct Built {
    /// Where the pages are.
    pub html: PathBuf,
    /// mdBook's warnings and errors, a line each.
    pub complaints: Vec<String>,
}

/// How the pages find out that they are stale: the path of a WebSocket, without a slash before it.
pub const LIVE_RELOAD: &str = "__livereload";

/// Builds the book of a workspace into `html`, which is emptied first.
///
/// It takes a second or so and blocks: on a thread of its own, please.
///
/// # Errors
/// mdBook gives up, as it does without a `SUMMARY.md`.
pub fn build(workspace: &Path, html: &Path, live: bool) -> Result<Built> {
    let folder = workspace.join("book");
    let file = folder.join("book.toml");
    let mut config =
        Config::from_disk(&file).with_context(|| format!("can't read {}", file.display()))?;
    config.build.build_dir = html.to_owned();
    if live {
        config.set("output.html.live-reload-endpoint", LIVE_RELOAD)?;
        config.set("output.html.site-url", "/")?;
    }
    // Nothing but HTML, even where a learner has more: that is what is served.
    let complaints = listen(|| MDBook::load_with_config(&folder, config)?.build())?;
    Ok(Built { html: html.to_owned(), complaints })
}

/// The paths that mdBook watches besides its own, as `book.toml` lists them.
///
/// # Errors
/// There is no readable `book.toml`.
pub fn watched(workspace: &Path) -> Result<Vec<PathBuf>> {
    let folder = workspace.join("book");
    let config = Config::from_disk(folder.join("book.toml"))?;
    let mut paths = vec![folder.join("chapters"), folder.join("theme"), folder.join("book.toml")];
    paths.extend(config.build.extra_watch_dirs.iter().map(|path| folder.join(path)));
    Ok(paths)
}

/// Runs something on this thread, and returns what was logged as a warning or an error meanwhile.
fn listen(run: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let listening = subscriber.set_default();
    let result = run();
    drop(listening);
    let complaints = log.lines();
    match result {
        Ok(()) => Ok(complaints),
        Err(error) if complaints.is_empty() => Err(error),
        Err(error) => Err(error.context(complaints.join("\n"))),
    }
}

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
