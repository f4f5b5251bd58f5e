//! What the live panels ask for and send: the state of each milestone, its two clients, their wires.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ::tests::program::workspace;
use serde::Serialize;

use super::people::{Accounts, PEOPLE};
use super::runner::{Handle, Report};
use super::wires::{Action, Wire};
use crate::milestone::Milestone;

/// All panels.
#[derive(Debug, Default)]
pub struct Panels {
    panels: Vec<Panel>,
}

/// One milestone, seen by two clients.
#[derive(Debug)]
pub struct Panel {
    milestone: Milestone,
    /// Where the milestone is.
    address: SocketAddr,
    book: SocketAddr,
    runner: Handle,
    wires: [Wire; 2],
    /// From milestone 5 on, where a name belongs to an account.
    accounts: Option<Accounts>,
}

/// What a request for something that is not there gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown;

/// Why somebody is not signed in.
#[derive(Debug)]
pub enum NotSignedIn {
    /// There is no such milestone or client, or nobody signs in there.
    Unknown,
    /// The milestone did not let them in, for this reason.
    Refused(String),
}

/// What `/learn/panels.json` says.
#[derive(Debug, Serialize)]
pub struct Overview {
    steps: Vec<Step>,
}

/// One milestone in it.
#[derive(Debug, Serialize)]
struct Step {
    step: u8,
    #[serde(flatten)]
    report: Report,
    clients: Vec<Client>,
}

/// One client in it.
#[derive(Debug, Serialize)]
struct Client {
    client: &'static str,
    title: &'static str,
    url: String,
    wire: &'static str,
    /// Whether the page is to ask the book for a cookie before it opens the URL.
    signs_in: bool,
}

impl Panels {
    /// These panels.
    pub fn new(panels: Vec<Panel>) -> Self {
        Self { panels }
    }

    /// The state of everything, for a page that knows this machine as `host`.
    pub fn overview(&self, host: &str) -> Overview {
        Overview { steps: self.panels.iter().map(|panel| panel.step(host)).collect() }
    }

    /// Signs the person of a client in, and gives the cookie for their wire.
    ///
    /// # Errors
    /// See [`NotSignedIn`].
    pub async fn sign_in(&self, step: u8, client: &str, host: &str) -> Result<String, NotSignedIn> {
        let panel = self.panel(step).map_err(|Unknown| NotSignedIn::Unknown)?;
        let accounts = panel.accounts.as_ref().ok_or(NotSignedIn::Unknown)?;
        let (name, wire) = panel.client(client).ok_or(NotSignedIn::Unknown)?;
        let server = format!("{host}:{}", wire.addr().port());
        let cookie = accounts.sign_in(name, &server).await;
        cookie.map_err(|error| NotSignedIn::Refused(format!("{error:#}")))
    }

    /// Registers everyone who needs an account, once their milestone runs.
    pub async fn register(&self) {
        for panel in &self.panels {
            let Some(accounts) = &panel.accounts else { continue };
            panel.runner.running().await;
            for (_, name) in PEOPLE {
                if let Err(error) = accounts.sign_in(name, &panel.address.to_string()).await {
                    eprintln!("Milestone {}: {error:#}", panel.milestone.number);
                }
            }
        }
    }

    /// Breaks or mends the wire of one client.
    ///
    /// # Errors
    /// There is no such milestone, client or action.
    pub fn apply(&self, step: u8, client: &str, action: &str) -> Result<(), Unknown> {
        let action: Action = action.parse().map_err(|()| Unknown)?;
        let (_, wire) = self.panel(step)?.client(client).ok_or(Unknown)?;
        wire.apply(action);
        Ok(())
    }

    /// Starts a milestone again.
    ///
    /// # Errors
    /// There is no such milestone.
    pub fn restart(&self, step: u8) -> Result<(), Unknown> {
        self.panel(step)?.runner.restart();
        Ok(())
    }

    fn panel(&self, step: u8) -> Result<&Panel, Unknown> {
        self.panels.iter().find(|panel| panel.milestone.number == step).ok_or(Unknown)
    }
}

impl Panel {
    /// A panel for a milestone that listens at `address`, in a book that is served at `book`.
    ///
    /// # Errors
    /// There are no free ports for the wires.
    pub async fn new(
        milestone: Milestone,
        address: SocketAddr,
        book: SocketAddr,
        runner: Handle,
    ) -> io::Result<Self> {
        let wires = [Wire::to(address).await?, Wire::to(address).await?];
        let accounts = (milestone.number >= 5).then(|| Accounts::new(address, &password_file()));
        Ok(Self { milestone, address, book, runner, wires, accounts })
    }

    /// Its runner.
    pub fn runner(&self) -> &Handle {
        &self.runner
    }

    fn step(&self, host: &str) -> Step {
        let clients = PEOPLE.iter().zip(&self.wires).map(|(&(client, name), wire)| Client {
            client,
            title: name,
            url: self.url(name, host, wire),
            wire: wire.word(),
            signs_in: self.accounts.is_some(),
        });
        let clients = clients.collect();
        Step { step: self.milestone.number, report: self.runner.report(), clients }
    }

    /// The person of a client, and their wire.
    fn client(&self, client: &str) -> Option<(&'static str, &Wire)> {
        let mut clients = PEOPLE.iter().zip(&self.wires);
        clients.find(|((id, _), _)| *id == client).map(|(&(_, name), wire)| (name, wire))
    }

    /// The page of a client, by way of its wire. Milestone 1 has no page of its own, so the book
    /// serves it, and only the WebSocket takes the wire. From milestone 5 on the cookie says who it is,
    /// and the name stands there in case it does not.
    ///
    /// The host is that of the book's own page: a browser keeps the cookies of `localhost` and of
    /// `127.0.0.1` apart.
    fn url(&self, name: &str, host: &str, wire: &Wire) -> String {
        let (book, wire) = (self.book.port(), wire.addr().port());
        match self.milestone.number {
            1 => format!("http://{host}:{book}/clients/step01/?url=ws://{host}:{wire}"),
            2 => format!("http://{host}:{wire}/?name={name}&join=1"),
            3 | 4 => format!("http://{host}:{wire}/?name={name}&join=1&room=rust"),
            _ => format!("http://{host}:{wire}/?name={name}&room=rust"),
        }
    }
}

/// Where the password of the accounts is kept.
fn password_file() -> PathBuf {
    workspace().join(".learn").join("panel-password")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::super::runner::{Place, Runner};
    use super::*;

    async fn panels() -> Panels {
        let milestone = Milestone::of(3).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let place = Place { milestone, address, origins: String::new() };
        let (_runner, handle) = Runner::new(place, None, CancellationToken::new());
        Panels::new(vec![Panel::new(milestone, address, address, handle).await.unwrap()])
    }

    #[tokio::test]
    async fn the_clients_are_at_the_host_of_the_book_s_page() {
        let panels = panels().await;
        for host in ["127.0.0.1", "localhost"] {
            let overview = serde_json::to_value(panels.overview(host)).unwrap();
            let client: &Value = &overview["steps"][0]["clients"][1];
            assert!(client["url"].as_str().unwrap().starts_with(&format!("http://{host}:")));
            assert_eq!(client["signs_in"], json!(false));
        }
    }

    #[tokio::test]
    async fn nobody_signs_in_where_there_are_no_accounts() {
        let panels = panels().await;
        for (step, client) in [(3, "a"), (3, "c"), (9, "a")] {
            let refused = panels.sign_in(step, client, "localhost").await;
            assert!(matches!(refused, Err(NotSignedIn::Unknown)), "{step} {client}");
        }
    }
}
