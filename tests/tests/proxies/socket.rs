//! `chat.service` and `chat.socket`: the units as systemd reads them, and sockets that outlive a server.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use tests::load::door::{Door, PATIENCE};
use tests::load::process::wait_until;
use tests::program::{Ended, Program, Scratch, Stop};
use tests::raw::{self, connect_from};
use tokio::process::Child;
use tokio::time::timeout;

use crate::front::{HEALTH, NODE, Street, changed, succeeds};
use crate::stage::{ROOM, node};
use crate::{block_on, trial};

const SERVER: &str = "step05-production";

/// How much of what systemd can lock away may be left open, in tenths of its own number.
const EXPOSURE: &str = "--threshold=20";

/// The trials.
pub fn trials() -> Vec<Trial> {
    let analyze = &["systemd-analyze"];
    vec![
        trial("systemd::the_units_are_valid", analyze, || block_on(units(&[]))),
        trial("systemd::broken::the_units_are_valid", analyze, || {
            let typo = ("TimeoutStopSec=45", "TimeoutStopSeconds=45");
            refused(block_on(units(&[typo])), "TimeoutStopSeconds")
        }),
        trial("systemd::the_service_is_locked_in", analyze, || locked_in(&[])),
        trial("systemd::broken::the_service_is_locked_in", analyze, || {
            let open = [("ProtectSystem=strict\n", ""), ("CapabilityBoundingSet=\n", "")];
            refused(locked_in(&open), "--threshold")
        }),
        trial("systemd::both_sockets_are_passed_on", &["systemd-socket-activate"], || {
            block_on(both_sockets())
        }),
        trial("systemd::who_comes_between_two_servers_is_answered", &[], || block_on(between())),
        trial("systemd::a_socket_that_is_none_is_one_sentence", &[], || block_on(no_socket())),
        trial("systemd::a_socket_for_another_process_is_left_alone", &[], || {
            block_on(for_another())
        }),
        trial("health::says_whether_the_server_is_alive", &[], || block_on(health())),
    ]
}

/// It must have failed, with this word.
pub fn refused<T>(ended: Result<T>, word: &str) -> Result<()> {
    match ended {
        Ok(_) => bail!("nothing was wrong"),
        Err(error) => {
            let why = format!("{error:#}");
            ensure!(why.contains(word), "wrong, but not about {word:?}: {why}");
            Ok(())
        }
    }
}

/// Puts the units into a folder. The program is where it was built just now.
async fn units(changes: &[(&str, &str)]) -> Result<()> {
    let program = Program::cargo_package(SERVER).path().await?.display().to_string();
    let own = [("ExecStart=/opt/chat/target/release/step05-production", "ExecStart=PROGRAM")];
    let service = changed("chat.service", &[changes, &own].concat())?.replace("PROGRAM", &program);
    let folder = Scratch::new();
    fs::create_dir_all(folder.path())?;
    let (service_file, socket_file) =
        (folder.path().join("chat.service"), folder.path().join("chat.socket"));
    fs::write(&service_file, service)?;
    fs::write(&socket_file, changed("chat.socket", &[])?)?;
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).arg(service_file).arg(socket_file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // A line that it does not know is only a warning to it.
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(())
}

fn locked_in(changes: &[(&str, &str)]) -> Result<()> {
    let folder = Scratch::new();
    fs::create_dir_all(folder.path())?;
    let file = folder.path().join("chat.service");
    fs::write(&file, changed("chat.service", changes)?)?;
    let mut security = Command::new("systemd-analyze");
    succeeds(security.args(["security", "--offline=true", "--no-pager", EXPOSURE]).arg(file))
}

/// As systemd does it: two sockets, and the program started by the first who comes.
async fn both_sockets() -> Result<()> {
    let (street, data) = (Street::new(), Scratch::new());
    let host = street.node(0);
    let program = Program::cargo_package(SERVER).path().await?;
    let mut command = tokio::process::Command::new("systemd-socket-activate");
    command.args(["-l", &format!("{host}:{NODE}"), "-l", &format!("{host}:{HEALTH}")]);
    // It hands on nothing of its own environment but this.
    command.arg("-E").arg(format!("DATA_DIR={}", data.path().display()));
    // Addresses where nobody can listen here: with sockets there is no need to.
    command.args(["-E", "HOST=192.0.2.1", "-E", "ADMIN_HOST=192.0.2.1"]).arg(program);
    let mut server = quietly(command)?;
    is_ready(&format!("{host}:{HEALTH}")).await?;
    let door = Door::at(&format!("{host}:{NODE}"), 5);
    let ada = door.register(street.client(0), "ada").await?;
    drop(door.enter(street.client(0), &ada, ROOM).await?);
    ends(&mut server).await
}

/// A socket that we keep, as systemd does, while one server ends and the next one starts.
async fn between() -> Result<()> {
    let (street, data) = (Street::new(), Scratch::new());
    let host = street.node(0);
    let address = format!("{host}:{NODE}");
    let socket = TcpListener::bind(&address)?;
    let mut first = with_socket(&socket, street, &data).await?;
    let account = Door::at(&address, 5).register(street.client(0), "ada").await?;
    ends(&mut first).await?;

    // Nobody is there, and yet nobody is turned away.
    let early = connect_from(street.client(1), &address).await.context("turned away")?;
    let early = tokio::spawn({
        let address = address.clone();
        async move { raw::request_on(early, &address, "GET", "/", &[], "").await }
    });
    ensure!(!early.is_finished(), "answered by nobody");
    let mut second = with_socket(&socket, street, &data).await?;
    let answer = timeout(PATIENCE, early).await.context("no answer from the next one")???;
    ensure!(answer.status == 200, "status {}", answer.status);
    drop(Door::at(&address, 5).enter(street.client(0), &account, ROOM).await?);
    ends(&mut second).await
}

/// Starts a server with a socket as its file 3. Its own address is one where it can't listen.
async fn with_socket(socket: &TcpListener, street: Street, data: &Scratch) -> Result<Child> {
    let program = Program::cargo_package(SERVER).path().await?;
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0""#);
    command.arg(program).stdin(OwnedFd::from(socket.try_clone()?));
    command.env("HOST", "192.0.2.1").env("DATA_DIR", data.path()).env("DRAIN_SECONDS", "0");
    command.env("ADMIN_HOST", street.node(0).to_string()).env("ADMIN_PORT", HEALTH.to_string());
    let server = quietly(command)?;
    is_ready(&format!("{}:{HEALTH}", street.node(0))).await?;
    Ok(server)
}

fn quietly(mut command: tokio::process::Command) -> Result<Child> {
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    Ok(command.spawn()?)
}

async fn is_ready(admin: &str) -> Result<()> {
    let ready = async || {
        let answer = timeout(Duration::from_secs(2), raw::request(admin, "GET", "/readyz", &[]));
        answer.await.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
    };
    ensure!(wait_until(PATIENCE, ready).await, "nobody at {admin}");
    Ok(())
}

/// Asks a server to end, and waits until it has.
async fn ends(server: &mut Child) -> Result<()> {
    let pid = server.id().context("it has ended already")?.to_string();
    succeeds(Command::new("kill").args(["-TERM", &pid]))?;
    let status = timeout(PATIENCE, server.wait()).await.context("still there")??;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

async fn no_socket() -> Result<()> {
    let line = r#"exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0""#;
    let program = Program::cargo_package(SERVER).by_shell(line).await?;
    let ended = program.run_to_end(PATIENCE).await?;
    let is_sentence = ended.stderr.lines().count() == 1 && ended.stderr.contains("LISTEN_FDS");
    ensure!(ended.code == Some(1) && is_sentence, "{ended:?}");
    Ok(())
}

async fn for_another() -> Result<()> {
    let line = r#"LISTEN_PID=1 LISTEN_FDS=1 exec "$0""#;
    let mut server = Program::cargo_package(SERVER).by_shell(line).await?.start().await?;
    let answer = raw::request(server.address(), "GET", "/", &[]).await?;
    ensure!(answer.status == 200, "status {}", answer.status);
    server.kill().await?;
    Ok(())
}

/// `step05-production health`, for a server that lives, stands still, and is gone.
async fn health() -> Result<()> {
    let street = Street::new();
    let program = node(street, 0, &[]);
    let mut server = program.start().await?;
    let ask = async || program.clone().arg("health").run_to_end(PATIENCE).await;
    let alive = ask().await?;
    ensure!(alive.code == Some(0) && alive.stdout.starts_with("alive"), "{alive:?}");
    server.signal(Stop::Freeze).await?;
    is_sick(&ask().await?, "has not answered for 3 s")?;
    server.signal(Stop::Thaw).await?;
    server.kill().await?;
    is_sick(&ask().await?, "does not answer")
}

fn is_sick(ended: &Ended, word: &str) -> Result<()> {
    let is_sentence = ended.stderr.lines().count() == 1 && ended.stderr.contains(word);
    ensure!(ended.code == Some(1) && is_sentence, "{ended:?}");
    Ok(())
}
