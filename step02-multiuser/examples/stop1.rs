//! Stop 1 of milestone 2: warp serves the page, and each client has a task of its own.
//!
//! Run it with `cargo run -p step02-multiuser --example stop1`. Everyone gets a welcome, and hears
//! nobody but themselves.

use futures_util::{SinkExt, StreamExt};
use step02_multiuser::protocol::{self, ClientEvent, ErrorCode, ServerEvent};
use step02_multiuser::settings::Settings;
use step02_multiuser::{names, page, process};
use uuid::Uuid;
use warp::Filter;
use warp::ws::{WebSocket, Ws};

#[tokio::main]
async fn main() -> Result<(), String> {
    let settings = Settings::from_env(3002)?;
    let (listener, address) = process::listen(&settings.host, settings.port).await?;
    println!("listening on http://{address}");

    let chat = warp::path!("ws").and(warp::ws()).map(|ws: Ws| ws.on_upgrade(converse));
    let routes = chat.or(page::files("step02"));
    warp::serve(routes).incoming(listener).run().await;
    Ok(())
}

/// Speaks with one client. Each client has its own `converse`, in a task of its own.
async fn converse(mut socket: WebSocket) {
    let mut name = None;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_ping() || message.is_pong() || message.is_close() {
            continue;
        }
        let answer = protocol::decode(&message).and_then(|event| answer(event, &mut name));
        let answer = answer.unwrap_or_else(ServerEvent::from);
        if socket.send(protocol::encode(&answer)).await.is_err() {
            return;
        }
    }
}

/// What one event is answered with.
fn answer(event: ClientEvent, me: &mut Option<String>) -> Result<ServerEvent, ErrorCode> {
    match (event, me.as_ref()) {
        (ClientEvent::Hello { name }, None) => {
            let name = names::normalize(&name)?;
            *me = Some(name.clone());
            let users = vec![name.clone()];
            Ok(ServerEvent::Welcome { id: Uuid::new_v4(), name, users })
        }
        (ClientEvent::Hello { .. }, Some(_)) => Err(ErrorCode::Forbidden),
        (ClientEvent::Message { text }, Some(from)) => {
            let text = protocol::trim(&text)?;
            let (id, from, at) = (Uuid::new_v4(), from.clone(), protocol::now());
            Ok(ServerEvent::Message { id, from, text, at })
        }
        (ClientEvent::Message { .. }, None) => Err(ErrorCode::HelloFirst),
        (ClientEvent::Unknown, _) => Err(ErrorCode::UnknownType),
    }
}
