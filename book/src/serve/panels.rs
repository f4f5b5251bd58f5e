//! What the live panels ask for and send: the state of each milestone, its two clients, their wires.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;

use super::runner::{Handle, Report};
use super::wires::{Action, Wire};
use crate::milestone::Milestone;

/// The two people in a panel.
const PEOPLE: [(&str, &str); 2] = [("a", "ada"), ("b", "grace")];

/// All panels.
#[derive(Debug, Default)]
pub struct Panels {
    panels: Vec<Panel>,
}

/// One milestone, seen by two clients.
#[derive(Debug)]
pub struct Panel {
    milestone: Milestone,
    book: SocketAddr,
    runner: Handle,
    wires: [Wire; 2],
}

/// What a request for something that is not there gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown;

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
}

impl Panels {
    /// These panels.
    pub fn new(panels: Vec<Panel>) -> Self {
        Self { panels }
    }

    /// The state of everything.
    pub fn overview(&self) -> Overview {
        Overview { steps: self.panels.iter().map(Panel::step).collect() }
    }

    /// Breaks or mends the wire of one client.
    ///
    /// # Errors
    /// There is no such milestone, client or action.
    pub fn apply(&self, step: u8, client: &str, action: &str) -> Result<(), Unknown> {
        let action: Action = action.parse().map_err(|()| Unknown)?;
        self.panel(step)?.wire(client).ok_or(Unknown)?.apply(action);
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
        Ok(Self { milestone, book, runner, wires })
    }

    /// Its runner.
    pub fn runner(&self) -> &Handle {
        &self.runner
    }

    fn step(&self) -> Step {
        let clients = PEOPLE.iter().zip(&self.wires).map(|(&(client, name), wire)| Client {
            client,
            title: name,
            url: self.url(name, wire),
            wire: wire.word(),
        });
        let clients = clients.collect();
        Step { step: self.milestone.number, report: self.runner.report(), clients }
    }

    fn wire(&self, client: &str) -> Option<&Wire> {
        let index = PEOPLE.iter().position(|(name, _)| *name == client)?;
        self.wires.get(index)
    }

    /// The page of a client, by way of its wire. Milestone 1 has no page of its own, so the book
    /// serves it, and only the WebSocket takes the wire.
    fn url(&self, name: &str, wire: &Wire) -> String {
        let (book, wire) = (self.book, wire.addr());
        match self.milestone.number {
            1 => format!("http://{book}/clients/step01/?url=ws://{wire}"),
            2 => format!("http://{wire}/?name={name}&join=1"),
            _ => format!("http://{wire}/?name={name}&join=1&room=rust"),
        }
    }
}
