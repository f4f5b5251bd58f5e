//! The pages of the book: built, built again after each change, and handed to the browsers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ::tests::program::own_target_dir;
use anyhow::{Context, Result, anyhow};
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use crate::book::{self, Built};

/// The pages as they are now.
#[derive(Debug)]
pub struct Pages {
    workspace: PathBuf,
    /// The folder that is served. Builds take turns between two, so that no reader meets half a book.
    html: RwLock<PathBuf>,
    reload: broadcast::Sender<()>,
}

impl Pages {
    /// Builds the book for the first time.
    ///
    /// # Errors
    /// It can't be built.
    pub async fn build(workspace: &Path) -> Result<Arc<Self>> {
        let (reload, _) = broadcast::channel(1);
        let pages = Self { workspace: workspace.to_owned(), html: RwLock::default(), reload };
        let pages = Arc::new(pages);
        pages.refresh().await?;
        Ok(pages)
    }

    /// The folder with the pages.
    pub fn html(&self) -> PathBuf {
        self.html.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells each time that the pages have been built again.
    pub fn reloads(&self) -> broadcast::Receiver<()> {
        self.reload.subscribe()
    }

    /// Builds the book again. If that fails, the last pages stay.
    async fn refresh(&self) -> Result<()> {
        let (workspace, html) = (self.workspace.clone(), self.next_folder());
        let built = spawn_blocking(move || book::build(&workspace, &html, true)).await;
        let built =
            built.map_err(|_| anyhow!("mdBook panicked"))?.context("the book can't be built")?;
        report(&built);
        *self.html.write().unwrap_or_else(PoisonError::into_inner) = built.html;
        let _nobody_looks = self.reload.send(());
        Ok(())
    }

    fn next_folder(&self) -> PathBuf {
        let folder = own_target_dir().unwrap_or_else(std::env::temp_dir).join("learn");
        // With the process in the name: two books can be served at once, on different ports.
        let [one, other] =
            ["a", "b"].map(|turn| folder.join(format!("html-{}-{turn}", std::process::id())));
        if self.html() == one { other } else { one }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for folder in [self.html(), self.next_folder()] {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Builds the book again after each change, until the program stops. Only trouble is told, and its end:
/// that all is well shows in the browser.
pub async fn rebuild(pages: Arc<Pages>, stop: CancellationToken) {
    let Ok(paths) = book::watched(&pages.workspace) else { return };
    let mut watch = Watch::new(paths);
    let mut in_trouble = false;
    while stop.run_until_cancelled(watch.changed()).await.is_some() {
        let result = pages.refresh().await;
        match &result {
            Ok(()) if in_trouble => println!("The book builds again."),
            Ok(()) => {}
            Err(error) => eprintln!("{error:#}\nThe pages stay as they were."),
        }
        in_trouble = result.is_err();
    }
}

/// What mdBook complained about is for who writes the book; the pages are served all the same.
fn report(built: &Built) {
    for complaint in &built.complaints {
        eprintln!("book: {complaint}");
    }
}
