// ANCHOR: all
//! Sockets that somebody else has opened for us, as systemd does for a unit with a `.socket`.
//!
//! Such a socket outlives the program: whoever connects while one server has ended and the next one
//! is about to start waits in the queue, where a closed port would turn them away.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::TcpListener;

use crate::process;

// ANCHOR: passed
/// The sockets that came with the program: `LISTEN_FDS` of them, from file 3 on, for the process
/// `LISTEN_PID`.
pub struct Passed(ListenFd);

/// Their order, which is that of the `ListenStream=` lines in the `.socket`. The admin port may be
/// missing.
const PUBLIC: usize = 0;
const ADMIN: usize = 1;

impl Passed {
    /// Finds them; mostly there are none.
    pub fn find() -> Self {
        Self(ListenFd::from_env())
    }

    /// The public port: the one that came, or else one of our own.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the socket, or why we can't listen ourselves.
    pub async fn public(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<(TcpListener, SocketAddr), String> {
        match self.take(PUBLIC)? {
            Some(socket) => Ok(socket),
            None => process::listen(host, port, "PORT").await,
        }
    }

    /// The admin port: the one that came, or else one of our own.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the socket, or why we can't listen ourselves.
    pub async fn admin(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<(TcpListener, SocketAddr), String> {
        match self.take(ADMIN)? {
            Some(socket) => Ok(socket),
            None => process::listen(host, port, "ADMIN_PORT").await,
        }
    }

    fn take(&mut self, place: usize) -> Result<Option<(TcpListener, SocketAddr)>, String> {
        let socket = self.0.take_tcp_listener(place).and_then(|it| it.map(adopt).transpose());
        socket.map_err(|error| {
            let number = place + 1;
            format!("can't use socket {number} of those that came with LISTEN_FDS: {error}")
        })
    }
}

/// Makes it one of Tokio's, which never waits in `accept`.
fn adopt(socket: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((TcpListener::from_std(socket)?, address))
}
// ANCHOR_END: passed
// ANCHOR_END: all
