//! Milestone 5 in real browsers: who has signed in, and what that means for what they typed.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::program::{Program, Running};

use crate::driver::{Driver, Page, Screen};
use crate::{SCRIPTS, axe, picture, say};

/// Long enough for any server.
const PASSWORD: &str = "correct horse battery staple";

async fn server() -> Result<Running> {
    Program::cargo_package("step05-production").start().await
}

/// Where the name and the room are filled in. There is no password in an address.
fn door(server: &Running, name: &str) -> String {
    format!("{}/?name={name}&room=rust", server.url())
}

async fn connected(page: &Page) -> Result<()> {
    page.wait_for(
        "to be connected",
        "document.querySelector('#status').dataset.status === 'connected'",
    )
    .await
}

async fn form(page: &Page) -> Result<()> {
    page.wait_for("the form", "!document.querySelector('#entry').hidden").await
}

/// Types into a field that may hold something already.
async fn fill(page: &Page, selector: &str, text: &str) -> Result<()> {
    page.evaluate(&format!("(document.querySelector('{selector}').value = '')")).await?;
    page.type_into(selector, text).await
}

/// Sends the form as it is, with a password.
async fn submit(page: &Page, password: &str) -> Result<()> {
    fill(page, "#password", password).await?;
    page.click("#join").await
}

/// Makes an account and waits until its owner is in the room.
async fn sign_up(page: &Page, name: &str) -> Result<()> {
    form(page).await?;
    page.click("#mode").await?;
    fill(page, "#name", name).await?;
    submit(page, PASSWORD).await?;
    connected(page).await?;
    page.wait_for_text("#people", name).await
}

/// A browser in which somebody has signed up.
async fn newcomer(driver: &Driver, server: &Running, name: &str) -> Result<Page> {
    let page = driver.open(&door(server, name), Screen::WIDE).await?;
    sign_up(&page, name).await?;
    Ok(page)
}

/// Ends the session as another tab of the same browser does.
async fn end_session(page: &Page) -> Result<()> {
    let status =
        page.evaluate("fetch('/api/logout', { method: 'POST' }).then((answer) => answer.status)");
    ensure!(status.await? == json!(204), "the server ends the session");
    form(page).await
}

/// Types a message that can't go out yet.
async fn type_in_vain(page: &Page, text: &str) -> Result<()> {
    page.type_into("#text", text).await?;
    page.click("#send").await?;
    page.wait_for_text("#entries .pending:last-child", text).await
}

async fn nothing_pending(page: &Page) -> Result<()> {
    page.wait_for("nothing pending", "!document.querySelector('#entries .pending')").await
}

/// The console says nothing but that somebody was not signed in, and all fits into the width.
async fn check_tidy(page: &Page) -> Result<()> {
    let mut complaints = page.complaints().await?;
    complaints.retain(|complaint| !complaint.contains("401"));
    ensure!(complaints.is_empty(), "the console says: {complaints:?}");
    let wide = page.evaluate("document.documentElement.scrollWidth > innerWidth").await?;
    ensure!(wide == json!(false), "the page is wider than its window");
    Ok(())
}

/// Whether a script can read who is signed in, or finds a secret in the address.
async fn check_secret(page: &Page) -> Result<()> {
    let seen = page
        .evaluate("document.cookie + location.href + JSON.stringify({ ...sessionStorage })")
        .await?;
    let seen = seen.as_str().context("it is text")?;
    ensure!(!seen.contains("session-") && !seen.contains(PASSWORD), "a script can read {seen:?}");
    Ok(())
}

/// Two people sign up and talk; a reload needs no password; nothing of what they say comes to life.
pub async fn two_people_chat(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let ada = driver.open(&door(&server, "ada"), Screen::WIDE).await?;
    form(&ada).await?;
    ada.picture(&picture("step05-sign-in.png")).await?;
    sign_up(&ada, "ada").await?;
    let grace = newcomer(&driver, &server, "grace").await?;
    ada.wait_for_text("#people", "grace").await?;

    say(&ada, "Who lets us in now? Nobody asked me for a token.").await?;
    grace.wait_for_text("#log", "for a token").await?;
    say(&grace, "A cookie that no script can read.").await?;
    say(&grace, "And the server keeps no more than its hash.").await?;
    ada.wait_for_text("#log", "than its hash").await?;
    say(&ada, "So whoever copies the database can't come in with it.").await?;
    grace.wait_for_text("#log", "come in with it").await?;
    ada.picture(&picture("step05-wide.png")).await?;
    ada.show_on(Screen::WIDE.dark()).await?;
    ada.picture(&picture("step05-dark.png")).await?;
    check_tidy(&ada).await?;
    ada.show_on(Screen::PHONE).await?;
    ada.picture(&picture("step05-phone.png")).await?;
    check_tidy(&ada).await?;
    ada.show_on(Screen::WIDE).await?;
    check_secret(&ada).await?;

    for script in SCRIPTS {
        say(&grace, script).await?;
        ada.wait_for_text("#log", script).await?;
    }
    nothing_came_to_life(&ada, "#log").await?;
    ada.reload().await?;
    connected(&ada).await?;
    ada.wait_for_text("#log", "than its hash").await?;
    nothing_came_to_life(&ada, "#log").await?;
    grace.close().await?;
    ada.close().await
}

async fn nothing_came_to_life(page: &Page, place: &str) -> Result<()> {
    let alive = page
        .evaluate(&format!("document.querySelectorAll('{place} img, {place} script').length"))
        .await?;
    ensure!(alive == json!(0), "{alive} elements came to life in {place}");
    ensure!(page.evaluate("document.title").await? != json!("owned"), "a script ran");
    Ok(())
}

/// What is wrong with a form is said at the field, in words.
pub async fn a_refused_form_says_why(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let ada = newcomer(&driver, &server, "ada").await?;
    let eve = driver.open(&door(&server, "Ada"), Screen::WIDE).await?;
    form(&eve).await?;
    submit(&eve, "not her password").await?;
    eve.wait_for_text("#password-error", "no such name with this password").await?;
    eve.click("#show-password").await?;
    ensure!(eve.evaluate("document.querySelector('#password').type").await? == json!("text"));

    eve.click("#mode").await?;
    submit(&eve, "short").await?;
    eve.wait_for_text("#password-error", "5 characters").await?;
    submit(&eve, PASSWORD).await?;
    eve.wait_for("the name is taken", "document.querySelector('#name-error').textContent").await?;
    let focus = "document.activeElement.id + document.activeElement.ariaInvalid";
    ensure!(eve.evaluate(focus).await? == json!("nametrue"), "the focus is at the name");
    fill(&eve, "#name", "no spaces").await?;
    submit(&eve, PASSWORD).await?;
    eve.wait_for_text("#name-error", "32").await?;
    eve.close().await?;
    ada.close().await
}

/// A session that was ended from elsewhere costs nothing: not the view, and not what is typed meanwhile.
pub async fn an_ended_session_costs_nothing(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let ada = newcomer(&driver, &server, "ada").await?;
    let grace = newcomer(&driver, &server, "grace").await?;
    say(&ada, "One of us will be signed out.").await?;
    ada.type_into("#text", "I was in the middle").await?;
    end_session(&ada).await?;
    grace.wait_for_text("#log", "ada left").await?;

    type_in_vain(&ada, " of a sentence.").await?;
    ada.wait_for_text("#log", "One of us").await?;
    ada.wait_for_text("#status", "1 message waiting").await?;
    let name = ada.evaluate("document.querySelector('#name').value").await?;
    ensure!(name == json!("ada"), "the name is filled in, not {name}");
    ada.picture(&picture("step05-expired.png")).await?;
    submit(&ada, "not her password").await?;
    ada.wait_for_text("#password-error", "no such name").await?;
    submit(&ada, PASSWORD).await?;
    connected(&ada).await?;
    nothing_pending(&ada).await?;
    grace.wait_for_text("#log", "I was in the middle of a sentence.").await?;
    ensure!(ada.evaluate("document.querySelector('#entry').hidden").await? == json!(true));
    grace.close().await?;
    ada.close().await
}

/// Whoever signs in after another person in the same browser finds nothing of theirs.
pub async fn the_next_person_sees_nothing(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let page = newcomer(&driver, &server, "ada").await?;
    say(&page, "A word for the room.").await?;
    page.click("#people [data-name=ada]").await?;
    page.wait_for_text("#title", "ada").await?;
    say(&page, "A note to myself.").await?;
    end_session(&page).await?;
    type_in_vain(&page, "It waits for me.").await?;
    page.type_into("#text", "half a draft").await?;

    page.click("#leave").await?;
    page.wait_for("to be signed out", "document.querySelector('#chat').hidden").await?;
    ensure!(!left_behind(&page).await?, "something of ada is left on the page");
    sign_up(&page, "grace").await?;
    page.wait_for_text("#log", "A word for the room.").await?;
    let directs = page.evaluate("document.querySelectorAll('#directs li').length").await?;
    ensure!(directs == json!(0), "grace has no conversations of two");
    ensure!(!left_behind(&page).await?, "grace sees something of ada");

    page.click("#leave").await?;
    form(&page).await?;
    fill(&page, "#name", "ada").await?;
    submit(&page, PASSWORD).await?;
    connected(&page).await?;
    page.click("#directs [data-direct]").await?;
    page.wait_for_text("#log", "It waits for me.").await?;
    page.wait_for_text("#log", "A note to myself.").await?;
    nothing_pending(&page).await?;
    page.close().await
}

/// Whether the page holds any of ada's own texts, in sight or not.
async fn left_behind(page: &Page) -> Result<bool> {
    let all = "document.body.textContent
        + [...document.querySelectorAll('input, textarea')].map(({ value }) => value).join()";
    let all = page.evaluate(all).await?;
    let all = all.as_str().unwrap_or_default();
    Ok(["note to myself", "waits for me", "half a draft", PASSWORD]
        .iter()
        .any(|it| all.contains(it)))
}

/// The search finds a word, marks it, says that there is nothing, and closes by a key.
pub async fn a_search_finds_a_word(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let ada = newcomer(&driver, &server, "ada").await?;
    for text in ["Tea or coffee?", "<img src=x onerror=\"document.title='owned'\"> tea", "Coffee."]
    {
        say(&ada, text).await?;
    }
    nothing_pending(&ada).await?;
    search(&ada, "tea").await?;
    ada.wait_for_text("#search-status", "2 messages found").await?;
    let marked = ada
        .evaluate("[...document.querySelectorAll('#results mark')].map((mark) => mark.textContent)")
        .await?;
    ensure!(marked == json!(["tea", "Tea"]), "the newest first, the word marked, not {marked}");
    nothing_came_to_life(&ada, "#results").await?;
    ada.picture(&picture("step05-search.png")).await?;
    check_tidy(&ada).await?;
    ada.show_on(Screen::PHONE).await?;
    check_tidy(&ada).await?;

    search(&ada, "milk").await?;
    ada.wait_for_text("#search-status", "Nothing found").await?;
    ada.type_into("#search-text", "\u{e00c}").await?; // Escape
    ada.wait_for("to be closed", "document.querySelector('#search').hidden").await?;
    ada.close().await
}

/// Searches, by the keyboard.
async fn search(page: &Page, words: &str) -> Result<()> {
    if page.evaluate("document.querySelector('#search').hidden").await? == Value::Bool(true) {
        page.click("#find").await?;
    }
    fill(page, "#search-text", words).await?;
    page.type_into("#search-text", "\u{e007}").await // Enter
}

/// Where WebSockets are blocked, the same cookie lets in over HTTP, and its end is noticed as well.
pub async fn without_websockets_it_goes_on_over_http(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let page =
        driver.open_after(crate::step4::NO_WEBSOCKET, &door(&server, "ada"), Screen::WIDE).await?;
    sign_up(&page, "ada").await?;
    let way = page.evaluate("document.querySelector('#status').dataset.way").await?;
    ensure!(way == json!("fallback"), "it is connected by {way}");
    say(&page, "By requests.").await?;
    nothing_pending(&page).await?;
    end_session(&page).await?;
    type_in_vain(&page, "And again.").await?;
    submit(&page, PASSWORD).await?;
    connected(&page).await?;
    nothing_pending(&page).await?;
    page.wait_for_text("#log", "And again.").await?;
    page.close().await
}

/// The rules of axe-core, on the form in each of its modes, on the chat and on a search.
pub async fn accessible(driver: Arc<Driver>) -> Result<()> {
    let server = server().await?;
    let page = driver.open(&door(&server, "ada"), Screen::WIDE).await?;
    form(&page).await?;
    keeps_the_rules(&page, "the form to sign in").await?;
    page.click("#mode").await?;
    submit(&page, "short").await?;
    keeps_the_rules(&page, "the form to sign up").await?;
    page.click("#mode").await?;
    sign_up(&page, "ada").await?;
    say(&page, "Tea?").await?;
    keeps_the_rules(&page, "the chat").await?;
    search(&page, "tea").await?;
    page.wait_for_text("#results", "Tea?").await?;
    keeps_the_rules(&page, "the search").await?;
    end_session(&page).await?;
    type_in_vain(&page, "Anybody?").await?;
    keeps_the_rules(&page, "the form over the chat").await?;
    page.close().await
}

async fn keeps_the_rules(page: &Page, what: &str) -> Result<()> {
    let axe = axe()?;
    for screen in [Screen::WIDE, Screen::WIDE.dark(), Screen::PHONE, Screen::PHONE.dark()] {
        page.show_on(screen).await?;
        let broken = page.broken_rules(&axe).await?;
        ensure!(broken.is_empty(), "{what} on {screen:?}: {broken:#?}");
    }
    page.show_on(Screen::WIDE).await
}
