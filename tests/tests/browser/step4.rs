//! Milestone 4 in real browsers: what was typed arrives, whatever happens to the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::program::{Program, Running};
use tests::proxy::{Fault, FaultProxy};

use crate::driver::{Driver, Page, Screen};
use crate::{check_tidy, picture, say};

/// A browser without WebSockets, as behind a proxy that blocks them.
pub const NO_WEBSOCKET: &str = "
    window.WebSocket = class extends EventTarget {
        static CONNECTING = 0; static OPEN = 1; static CLOSING = 2; static CLOSED = 3;
        readyState = 0;
        constructor() { super(); setTimeout(() => this.fail(), 20); }
        fail() {
            this.readyState = 3;
            this.dispatchEvent(new Event('error'));
            this.dispatchEvent(new CloseEvent('close', { code: 1006 }));
        }
        send() {}
        close() {}
    };";

/// A server, and a wire to it that can be cut.
async fn server_with_wire() -> Result<(Running, FaultProxy)> {
    let server = Program::cargo_package("step04-resilience").start().await?;
    let address: SocketAddr = server.address().parse().context("the server has an address")?;
    let wire = FaultProxy::start("127.0.0.1:0".parse()?, address).await?;
    Ok((server, wire))
}

/// Where `name` joins the room `rust` by itself, at a host and port.
fn door(address: impl std::fmt::Display, name: &str) -> String {
    format!("http://{address}/?name={name}&join=1&room=rust")
}

async fn connected(page: &Page) -> Result<()> {
    page.wait_for(
        "to be connected",
        "document.querySelector('#status').dataset.status === 'connected'",
    )
    .await
}

/// The texts of all messages in the log, in their order.
async fn texts(page: &Page) -> Result<Vec<String>> {
    let texts = "[...document.querySelectorAll('#entries .message')].map((entry) =>
        entry.textContent.match(/(one|two|three|four|five|six)[.]/)?.[0] ?? '?')";
    Ok(serde_json::from_value(page.evaluate(texts).await?)?)
}

/// Nobody has a pending message, and both have all six, each once, in one order.
async fn have_everything(ada: &Page, grace: &Page) -> Result<()> {
    for page in [ada, grace] {
        for text in ["one.", "two.", "three.", "four.", "five.", "six."] {
            page.wait_for_text("#log", text).await?;
        }
        page.wait_for("nothing pending", "!document.querySelector('#entries .pending')").await?;
    }
    let (seen_by_ada, seen_by_grace) = (texts(ada).await?, texts(grace).await?);
    ensure!(seen_by_ada == seen_by_grace, "ada sees {seen_by_ada:?}, grace {seen_by_grace:?}");
    ensure!(seen_by_ada.len() == 6, "each message once, but there are {seen_by_ada:?}");
    Ok(())
}

/// Types a message that can't go out yet.
async fn type_in_vain(page: &Page, text: &str) -> Result<()> {
    page.type_into("#text", text).await?;
    page.click("#send").await?;
    page.wait_for_text("#entries .pending:last-child, #entries li:last-child", text).await
}

/// A wire that is cut in the middle of a conversation and comes back costs no message.
pub async fn a_cut_wire_costs_nothing(driver: Arc<Driver>) -> Result<()> {
    let (server, wire) = server_with_wire().await?;
    let ada = driver.open(&door(wire.addr(), "ada"), Screen::WIDE).await?;
    let grace = driver.open(&door(server.address(), "grace"), Screen::WIDE).await?;
    connected(&ada).await?;
    connected(&grace).await?;
    say(&ada, "one.").await?;
    grace.wait_for_text("#log", "one.").await?;

    wire.set(Fault::Refuse);
    wire.cut();
    say(&grace, "two.").await?;
    type_in_vain(&ada, "three.").await?;
    type_in_vain(&ada, "four.").await?;
    ada.wait_for(
        "the countdown",
        "document.querySelector('#status').dataset.status !== 'connected'",
    )
    .await?;
    ada.picture(&picture("step04-waiting.png")).await?;
    say(&grace, "five.").await?;
    wire.set(Fault::None);
    connected(&ada).await?;
    grace.wait_for_text("#log", "four.").await?;
    say(&ada, "six.").await?;
    have_everything(&ada, &grace).await?;
    ada.picture(&picture("step04-wide.png")).await?;
    check_width(&ada).await?;
    ada.show_on(Screen::PHONE).await?;
    check_width(&ada).await?;
    ada.picture(&picture("step04-phone.png")).await?;
    grace.close().await?;
    ada.close().await
}

/// Refused connections are in the console, and have to be: only the width is looked at.
async fn check_width(page: &Page) -> Result<()> {
    let wide = page.evaluate("document.documentElement.scrollWidth > innerWidth").await?;
    ensure!(wide == json!(false), "the page is wider than its window");
    Ok(())
}

/// What was typed while the server was away survives a reload of the page.
pub async fn a_reload_keeps_what_was_typed(driver: Arc<Driver>) -> Result<()> {
    let (server, wire) = server_with_wire().await?;
    let ada = driver.open(&door(wire.addr(), "ada"), Screen::WIDE).await?;
    connected(&ada).await?;
    let grace = driver.open(&door(server.address(), "grace"), Screen::WIDE).await?;
    connected(&grace).await?;

    // The server is there, and hears nothing: a half-open wire. A page can still be loaded later.
    wire.set(Fault::Refuse);
    wire.cut();
    type_in_vain(&ada, "one.").await?;
    type_in_vain(&ada, "two.").await?;
    wire.set(Fault::None);
    ada.reload().await?;
    connected(&ada).await?;
    grace.wait_for_text("#log", "two.").await?;
    for text in ["three.", "four.", "five.", "six."] {
        say(&grace, text).await?;
    }
    have_everything(&ada, &grace).await?;
    grace.close().await?;
    ada.close().await
}

/// Where WebSockets are blocked, the chat goes on over HTTP, by itself.
pub async fn without_websockets_it_goes_on_over_http(driver: Arc<Driver>) -> Result<()> {
    let (server, wire) = server_with_wire().await?;
    let ada = driver.open_after(NO_WEBSOCKET, &door(wire.addr(), "ada"), Screen::WIDE).await?;
    connected(&ada).await?;
    let way = ada.evaluate("document.querySelector('#status').dataset.way").await?;
    ensure!(way == json!("fallback"), "it is connected by {way}");
    let grace = driver.open(&door(server.address(), "grace"), Screen::WIDE).await?;
    connected(&grace).await?;
    say(&ada, "one.").await?;
    say(&grace, "two.").await?;
    ada.wait_for_text("#log", "two.").await?;

    wire.set(Fault::Refuse);
    wire.cut();
    say(&grace, "three.").await?;
    type_in_vain(&ada, "four.").await?;
    wire.set(Fault::None);
    grace.wait_for_text("#log", "four.").await?;
    say(&grace, "five.").await?;
    say(&ada, "six.").await?;
    have_everything(&ada, &grace).await?;
    check_tidy(&grace).await?;
    grace.close().await?;
    ada.close().await
}
