//! Stop 3 of milestone 2: everyone hears everyone.
//!
//! Run it with `cargo run -p step02-multiuser --example stop3`. No limits yet, and no proper end.

use std::sync::Arc;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use step02_multiuser::hub::Hub;
use step02_multiuser::outbox::{Outbox, Waiting};
use step02_multiuser::protocol::{self, ClientEvent, ErrorCode};
use step02_multiuser::settings::Settings;
use step02_multiuser::{names, page, process};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;
use warp::Filter;
use warp::ws::{Message, WebSocket, Ws};

#[tokio::main]
async fn main() -> Result<(), String> {
    let settings = Settings::from_env(3002)?;
    let (listener, address) = process::listen(&settings.host, settings.port).await?;
    println!("listening on http://{address}");

    let hub = Arc::new(Hub::default());
    let chat = warp::path!("ws").and(warp::ws()).map(move |ws: Ws| {
        let hub = Arc::clone(&hub);
        ws.on_upgrade(|socket| converse(socket, hub))
    });
    let routes = chat.or(page::files("step02"));
    warp::serve(routes).incoming(listener).run().await;
    Ok(())
}

/// Reads what one client sends. What it shall hear goes by its outbox.
async fn converse(socket: WebSocket, hub: Arc<Hub>) {
    let (sink, mut incoming) = socket.split();
    let (outbox, waiting) = Outbox::new();
    tokio::spawn(write(sink, waiting));

    let mut name = None;
    while let Some(Ok(message)) = incoming.next().await {
        if message.is_ping() || message.is_pong() || message.is_close() {
            continue;
        }
        let done =
            protocol::decode(&message).and_then(|event| handle(event, &mut name, &hub, &outbox));
        if let Err(error) = done {
            outbox.tell(error);
        }
    }
    if let Some(name) = name {
        hub.leave(&name);
    }
}

/// Writes what waits in the queue to the socket.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut waiting: UnboundedReceiver<Waiting>) {
    while let Some((message, _share)) = waiting.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// Does what one event asks for.
fn handle(
    event: ClientEvent,
    me: &mut Option<String>,
    hub: &Hub,
    outbox: &Outbox,
) -> Result<(), ErrorCode> {
    match (event, me.as_ref()) {
        (ClientEvent::Hello { name }, None) => {
            let name = names::normalize(&name)?;
            hub.enter(Uuid::new_v4(), name.clone(), outbox.clone())?;
            *me = Some(name);
            Ok(())
        }
        (ClientEvent::Hello { .. }, Some(_)) => Err(ErrorCode::Forbidden),
        (ClientEvent::Message { text }, Some(from)) => {
            hub.say(from, protocol::trim(&text)?);
            Ok(())
        }
        (ClientEvent::Message { .. }, None) => Err(ErrorCode::HelloFirst),
        (ClientEvent::Unknown, _) => Err(ErrorCode::UnknownType),
    }
}
