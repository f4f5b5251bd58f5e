// ANCHOR: all
//! Copies of the database: how one is made while the server runs, and how it is put back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::embedded;
use crate::store::Store;

// ANCHOR: backup
/// Writes the database in a directory into a new file. The server may run: the copy has everything
/// that was acked when it began, and nothing by halves.
///
/// # Errors
/// A sentence that says what to do.
pub fn backup(dir: &Path, file: &Path) -> Result<(), String> {
    let database = dir.join(embedded::FILE);
    let failed = |error: &dyn std::error::Error| {
        format!("can't copy {} to {}: {error}", database.display(), file.display())
    };
    // It must be there already, so that a mistake in DATA_DIR does not make an empty copy.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(&database, flags).map_err(|error| failed(&error))?;
    let copy = create(file).map_err(|error| failed(&error))?;
    let written = write(&source, file).and_then(|()| Ok(copy.sync_all()?));
    if written.is_err() {
        let _ = fs::remove_file(file);
    }
    written.map_err(|error| failed(&*error))
}

type AnyError = Box<dyn std::error::Error>;

/// Writes all that is in a database into a file that is empty or missing.
fn write(source: &Connection, file: &Path) -> Result<(), AnyError> {
    let name = file.to_str().ok_or("the name has to be UTF-8")?;
    source.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

/// Makes an empty file that is nobody else's business: the copy has hashes of passwords in it.
fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}
// ANCHOR_END: backup

// ANCHOR: restore
/// Puts a copy in the place of the database in a directory, which no server may use meanwhile. What
/// was there is kept aside.
///
/// # Errors
/// A sentence that says what to do.
pub fn restore(dir: &Path, file: &Path) -> Result<(), String> {
    let _lock = embedded::lock(dir).map_err(|error| error.to_string())?;
    let database = dir.join(embedded::FILE);
    let (aside, next) = (with_end(&database, ".before-restore"), with_end(&database, ".restoring"));
    if aside.exists() {
        return Err(format!("{} is in the way: move it elsewhere first", aside.display()));
    }
    let failed = |error: &dyn std::error::Error| {
        format!("can't restore {} to {}: {error}", file.display(), database.display())
    };
    remove(&next);
    take(file, &next).map_err(|error| failed(&*error))?;
    begin_new_life(&next).map_err(|error| failed(&*error))?;
    replace(&database, &aside, &next).map_err(|error| failed(&error))
}

/// Makes sure that a file is a sound copy, and copies it, with what of it is in a write-ahead log.
fn take(file: &Path, next: &Path) -> Result<(), AnyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(file, flags)?;
    let _epoch: Uuid = source.query_row("SELECT epoch FROM log", [], |row| row.get(0))?;
    let verdict: String = source.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(verdict.into());
    }
    create(next)?;
    write(&source, next)
}

/// Gives a copy an epoch of its own, and signs everyone out. Its numbers will be given again to
/// other messages than those that came after the copy was made: in the old epoch a client that has
/// seen these would wait for numbers it believes to have, and miss the new ones.
fn begin_new_life(file: &Path) -> Result<(), AnyError> {
    let store = Store::open(file)?;
    store.db.execute("UPDATE log SET epoch = ?1", [Uuid::new_v4()])?;
    store.db.execute("DELETE FROM sessions", [])?;
    store.tidy();
    drop(store);
    Ok(File::open(file)?.sync_all()?)
}

/// Moves the database aside, with what of it is still in its write-ahead log, and another one to
/// its place.
fn replace(database: &Path, aside: &Path, next: &Path) -> io::Result<()> {
    for end in ["-wal", ""] {
        match fs::rename(with_end(database, end), with_end(aside, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let _ = fs::remove_file(with_end(database, "-shm"));
    fs::rename(next, database)
}

/// Removes what an earlier try may have left.
fn remove(file: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(with_end(file, end));
    }
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}
// ANCHOR_END: restore

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Embedded;
    use crate::log::{Draft, Log, RoomId};

    fn directory() -> PathBuf {
        std::env::temp_dir().join(Uuid::new_v4().to_string())
    }

    async fn say(log: &Embedded, text: &str) {
        let (room, from, text) = ("rust".to_owned(), "ada".to_owned(), text.to_owned());
        let draft = Draft { namespace: "", room, id: Uuid::new_v4(), from, text };
        log.append(draft).await.await.unwrap().unwrap();
    }

    fn rust() -> RoomId {
        RoomId { namespace: "", room: "rust".to_owned() }
    }

    async fn epoch(log: &Embedded) -> Uuid {
        log.look(&rust()).await.unwrap().0.epoch
    }

    async fn texts(log: &Embedded) -> Vec<String> {
        log.look(&rust()).await.unwrap().1.into_iter().map(|said| said.text).collect()
    }

    #[tokio::test]
    async fn a_copy_made_while_the_server_runs_comes_back_in_another_epoch() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        let before = epoch(&log).await;
        say(&log, "one").await;
        let copy = dir.join("copy");
        backup(&dir, &copy).unwrap();
        say(&log, "two").await;
        assert!(restore(&dir, &copy).unwrap_err().contains("stop it"), "the server runs");
        log.close().await;
        drop(log);

        restore(&dir, &copy).unwrap();
        let log = Embedded::open(&dir).unwrap();
        assert_eq!(texts(&log).await, ["one"]);
        assert_ne!(epoch(&log).await, before);
        assert!(backup(&dir, &copy).unwrap_err().contains("exists"), "nothing is overwritten");
        log.close().await;
        drop(log);

        assert!(restore(&dir, &copy).unwrap_err().contains("before-restore"));
        fs::rename(dir.join("chat.db.before-restore"), dir.join("other")).unwrap();
        restore(&dir, &dir.join("other")).unwrap();
        let log = Embedded::open(&dir).unwrap();
        assert_eq!(texts(&log).await, ["one", "two"]);
        let check = "INSERT INTO words (words, rank) VALUES ('integrity-check', 1)";
        assert!(log.write(|store| store.db.execute(check, [])).await.is_ok());
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn nobody_is_signed_in_after_a_restore() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        let insert = "INSERT INTO accounts VALUES ('ada', 'Ada', 'hash', 1);
            INSERT INTO sessions VALUES (x'00', 'ada', 1, 1)";
        log.write(|store| store.db.execute_batch(insert)).await.unwrap();
        backup(&dir, &dir.join("copy")).unwrap();
        log.close().await;
        drop(log);
        restore(&dir, &dir.join("copy")).unwrap();
        let log = Embedded::open(&dir).unwrap();
        let count = "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM sessions)";
        let counts =
            log.ask(|store| store.db.query_row(count, [], |row| <(u64, u64)>::try_from(row)));
        assert_eq!(counts.await, Ok((1, 0)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_copy_changes_nothing() {
        let dir = directory();
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("chat.db"), "precious").unwrap();
        fs::write(dir.join("copy"), "no database").unwrap();
        assert!(restore(&dir, &dir.join("copy")).is_err());
        assert!(restore(&dir, &dir.join("missing")).is_err());
        assert_eq!(fs::read_to_string(dir.join("chat.db")).unwrap(), "precious");
        assert!(backup(&dir.join("nowhere"), &dir.join("new")).is_err());
        assert!(!dir.join("new").exists() && !dir.join("nowhere").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_its_owner_can_read_a_copy() {
        use std::os::unix::fs::PermissionsExt;
        let dir = directory();
        let _log = Embedded::open(&dir).unwrap();
        backup(&dir, &dir.join("copy")).unwrap();
        let mode = fs::metadata(dir.join("copy")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
