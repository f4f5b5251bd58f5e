//! Stop 2 of milestone 2: all tasks share the names of those who are here.
//!
//! Run it with `cargo run -p step02-multiuser --example stop2`. A welcome lists everyone, a name
//! can be had only once, and still nobody hears the others.

// ANCHOR: new
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
// ANCHOR_END: new

use futures_util::{SinkExt, StreamExt};
use step02_multiuser::protocol::{self, ClientEvent, ErrorCode, ServerEvent};
use step02_multiuser::settings::Settings;
use step02_multiuser::{names, page, process};
use uuid::Uuid;
use warp::Filter;
use warp::ws::{WebSocket, Ws};

// ANCHOR: state
/// The names of those who are here, by their key.
#[derive(Default)]
struct Users {
    names: Mutex<BTreeMap<String, String>>,
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name, and gives the names of everyone.
    fn enter(&self, name: &str) -> Result<Vec<String>, ErrorCode> {
        let mut names = self.lock();
        let key = names::key(name);
        if names.contains_key(&key) {
            return Err(ErrorCode::NameTaken);
        }
        names.insert(key, name.to_owned());
        Ok(names.values().cloned().collect())
    }

    fn leave(&self, name: &str) {
        self.lock().remove(&names::key(name));
    }
}
// ANCHOR_END: state

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), String> {
    let settings = Settings::from_env(3002)?;
    let (listener, address) = process::listen(&settings.host, settings.port).await?;
    println!("listening on http://{address}");

    let users = Arc::new(Users::default());
    let chat = warp::path!("ws").and(warp::ws()).map(move |ws: Ws| {
        let users = Arc::clone(&users);
        ws.on_upgrade(|socket| converse(socket, users))
    });
    let routes = chat.or(page::files("step02"));
    warp::serve(routes).incoming(listener).run().await;
    Ok(())
}

/// Speaks with one client, and gives its name back when it has left.
async fn converse(mut socket: WebSocket, users: Arc<Users>) {
    let mut name = None;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_ping() || message.is_pong() || message.is_close() {
            continue;
        }
        let answer = protocol::decode(&message).and_then(|event| answer(event, &mut name, &users));
        let answer = answer.unwrap_or_else(ServerEvent::from);
        if socket.send(protocol::encode(&answer)).await.is_err() {
            break;
        }
    }
    if let Some(name) = name {
        users.leave(&name);
    }
}
// ANCHOR_END: main

// ANCHOR: answer
/// What one event is answered with.
fn answer(
    event: ClientEvent,
    me: &mut Option<String>,
    users: &Users,
) -> Result<ServerEvent, ErrorCode> {
    match (event, me.as_ref()) {
        (ClientEvent::Hello { name }, None) => {
            let name = names::normalize(&name)?;
            let users = users.enter(&name)?;
            *me = Some(name.clone());
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
// ANCHOR_END: answer
