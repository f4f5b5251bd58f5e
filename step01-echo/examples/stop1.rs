//! Stop 1 of milestone 1: the echo alone, with no limits and no goodbye.
//!
//! Run it with `cargo run -p step01-echo --example stop1`.

use std::{env, io};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Error;

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = env::var("PORT").unwrap_or("3001".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on ws://{}", listener.local_addr()?);

    loop {
        let (stream, _peer) = listener.accept().await?;
        tokio::spawn(converse(stream));
    }
}

/// Speaks with one client. Each client has its own `converse`, in a task of its own.
async fn converse(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
