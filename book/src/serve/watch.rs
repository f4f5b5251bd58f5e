//! Notices that files have changed, by looking again and again: that works on every system and every
//! file system, mounted ones included, where notifications often do not.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// How often to look.
const AGAIN: Duration = Duration::from_millis(400);

/// Files and folders that are watched.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    seen: u64,
}

impl Watch {
    /// Watches these files and folders, whether they exist or not.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let seen = look(&paths);
        Self { paths, seen }
    }

    /// Waits until something has changed and then stayed as it is for a moment, because an editor may
    /// write a file in several steps.
    pub async fn changed(&mut self) {
        let mut last = self.seen;
        loop {
            sleep(AGAIN).await;
            let now = look(&self.paths);
            if now != self.seen && now == last {
                self.seen = now;
                return;
            }
            last = now;
        }
    }
}

/// A number that is another one after each change.
fn look(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        look_at(path, &mut hasher);
    }
    hasher.finish()
}

fn look_at(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(found) = fs::metadata(path) else { return };
    path.hash(hasher);
    if found.is_dir() {
        let mut inside: Vec<PathBuf> =
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        inside.retain(|path| !path.ends_with("node_modules") && !path.ends_with("target"));
        inside.sort();
        inside.iter().for_each(|path| look_at(path, hasher));
    } else {
        found.len().hash(hasher);
        found.modified().ok().hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notices_a_new_file_and_a_longer_one() {
        let folder = std::env::temp_dir().join(format!("learn-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut watch = Watch::new(vec![folder.clone()]);

        fs::write(folder.join("page.md"), "one").unwrap();
        watch.changed().await;
        fs::write(folder.join("page.md"), "one, two").unwrap();
        watch.changed().await;

        fs::remove_dir_all(&folder).unwrap();
    }
}
