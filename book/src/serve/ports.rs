//! Who has a port that is taken, and what to do about it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use tokio::net::TcpListener;

/// Sees that a milestone can have its port.
///
/// # Errors
/// It is taken: by whom, if that is known, and what to do.
pub async fn expect_free(port: u16) -> Result<()> {
    const INSTEAD: &str = "give the milestones other ports: cargo learn --first-port 4001";
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map(drop).map_err(|error| cannot_listen(port, &error, INSTEAD))
}

/// A sentence about a port that can't be had, with two ways out if somebody else has it.
pub fn cannot_listen(port: u16, error: &io::Error, instead: &str) -> Error {
    if error.kind() != io::ErrorKind::AddrInUse {
        return anyhow!("can't listen on port {port}: {error}");
    }
    let by = owner(port).map(|owner| format!(" by {owner}")).unwrap_or_default();
    anyhow!("port {port} is taken{by}; stop that program, or {instead}")
}

/// The program that listens on a port, where the system tells (Linux, and programs of one's own).
fn owner(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", listener(&table, port)?);
    let process = fs::read_dir("/proc").ok()?.flatten().find(|process| {
        // `self` and the like are the processes once more, under another name.
        let is_number = process.file_name().to_string_lossy().parse::<u32>().is_ok();
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        is_number && links.any(|to| to == Path::new(&socket))
    })?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()))
}

/// The number of the socket that listens on a port, from Linux's table of them.
fn listener(table: &str, port: u16) -> Option<&str> {
    const LISTENING: &str = "0A";
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.split_once(':')?;
        let is_it =
            u16::from_str_radix(local, 16) == Ok(port) && columns.get(3) == Some(&LISTENING);
        if is_it { columns.get(9).copied() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_owner_and_a_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();

        let sentence = expect_free(port).await.unwrap_err().to_string();

        assert!(sentence.contains(&format!("port {port} is taken")), "{sentence}");
        assert!(sentence.contains("cargo learn --first-port"), "{sentence}");
        if cfg!(target_os = "linux") {
            assert!(sentence.contains(&format!("(process {})", std::process::id())), "{sentence}");
        }
    }

    #[tokio::test]
    async fn a_free_port_is_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        drop(taken);
        expect_free(port).await.unwrap();
    }
}
