// ANCHOR: all
//! What a user is told, and what is counted of them, whichever servers they are connected to. Where
//! there is one server only, it knows all that by itself: that is what the functions here do. With
//! several, [`shared::users`](crate::shared::users) has others in their place.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accounts::Accounts;
use crate::directory::SessionKey;
use crate::hub::Hub;
use crate::log::Answer;

// ANCHOR: call
/// What connections of a user are told that are on other servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Somebody writes in a conversation with them.
    Invited {
        /// Where.
        namespace: String,
        /// The conversation.
        room: String,
    },
    /// One of their clients is back on another connection.
    Replaced {
        /// Where.
        namespace: String,
        /// Names the client.
        session: Uuid,
        /// When it came back: a connection that came later is not meant.
        arrived: u64,
    },
    /// They are signed out.
    SignedOut(SessionKey),
}

/// Whoever has the connections of this server.
pub trait Callee: Send + Sync {
    /// A user is called. This must not wait for anything.
    fn hear(&self, user: &str, call: Call);

    /// Calls may have been lost.
    fn lose(&self);
}
// ANCHOR_END: call

// ANCHOR: users
/// A connection that has come.
pub struct Arrival {
    /// When, in microseconds since 1970 by a clock that all servers share. 0 if there is one server:
    /// what counts there is who enters last.
    pub at: u64,
    /// The connection counts until this is dropped.
    pub seat: Option<Box<dyn Send>>,
}

/// What servers tell each other about users, each of them by the key of the name.
pub trait Users: Send + Sync {
    /// A user comes on one more connection. `None` if they have `most` of them already, all servers
    /// counted; this server counts its own before it asks.
    fn arrive<'a>(&'a self, _user: &'a str, _most: usize) -> BoxFuture<'a, Option<Arrival>> {
        ready(Some(Arrival { at: 0, seat: None })).boxed()
    }

    /// A connection that arrived then is ready to be told what its user is called for. It is told all
    /// of it from its arrival on.
    fn attend(&self, _user: &str, _arrived: u64) {}

    /// Calls the connections of a user on all other servers. On this one, they are told already.
    fn call(&self, _user: &str, _call: Call) {}

    /// Says who has the connections of this server.
    fn connect(&self, _callee: Weak<dyn Callee>) {}

    /// How long nobody may try to sign in to an account, after failures on all servers: `None` if
    /// each server counts its own. `failed` counts one more before that.
    fn blocked<'a>(
        &'a self,
        _account: &'a str,
        _failed: bool,
    ) -> BoxFuture<'a, Answer<Option<Duration>>> {
        ready(Ok(None)).boxed()
    }
}
// ANCHOR_END: users

// ANCHOR: switchboard
/// Passes calls on to the namespaces and the accounts of this server.
pub struct Switchboard {
    /// The namespaces.
    pub hubs: Vec<Arc<Hub>>,
    /// The accounts.
    pub accounts: Accounts,
}

impl Callee for Switchboard {
    fn hear(&self, user: &str, call: Call) {
        match call {
            Call::Invited { namespace, room } => {
                self.hub(&namespace).for_each(|hub| hub.invite_here(user, &room, None));
            }
            Call::Replaced { namespace, session, arrived } => {
                self.hub(&namespace).for_each(|hub| hub.replace(user, session, arrived));
            }
            Call::SignedOut(session) => self.accounts.signed_out(session),
        }
    }

    fn lose(&self) {
        self.accounts.doubt();
    }
}

impl Switchboard {
    fn hub(&self, namespace: &str) -> impl Iterator<Item = &Arc<Hub>> {
        self.hubs.iter().filter(move |hub| hub.namespace() == namespace)
    }
}
// ANCHOR_END: switchboard

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_can_be_written_and_read() {
        let (namespace, room) = ("staff".to_owned(), "dm:ada:grace".to_owned());
        let replaced =
            Call::Replaced { namespace: String::new(), session: Uuid::nil(), arrived: 7 };
        for call in [Call::Invited { namespace, room }, replaced, Call::SignedOut([255; 32])] {
            let json = serde_json::to_string(&call).unwrap();
            assert_eq!(serde_json::from_str::<Call>(&json).unwrap(), call);
        }
    }
}
// ANCHOR_END: all
