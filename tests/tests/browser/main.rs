//! Real browsers on the milestones' pages, by clicking and typing as people do.
//!
//! The tests take the pictures of the book as well: with `UPDATE_PICTURES=1` into the book, and
//! otherwise into `target/pictures`.

mod driver;
mod step4;
mod step5;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use driver::{Driver, Page, Programs, Screen};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::json;
use tests::program::{Program, workspace};
use tokio::runtime::Runtime;

/// A test of some pages.
type Test = fn(Arc<Driver>) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two browsers a test, and two cores on a small machine.
    arguments.test_threads.get_or_insert(2);
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let started = Programs::find().and_then(|programs| {
        runtime
            .block_on(Driver::start(&programs))
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    });

    let tests: [(&str, Test); 16] = [
        ("the_page_of_step_1_echoes_and_shows_frames", |driver| Box::pin(echo(driver))),
        ("two_people_chat_in_step_2", |driver| Box::pin(two_chat_in_step_2(driver))),
        ("two_people_chat_in_a_room_of_step_3", |driver| Box::pin(two_chat_in_step_3(driver))),
        ("typing_unread_and_direct_messages_show_in_step_3", |driver| Box::pin(attention(driver))),
        ("a_cut_wire_costs_nothing_in_step_4", |driver| {
            Box::pin(step4::a_cut_wire_costs_nothing(driver))
        }),
        ("a_reload_keeps_what_was_typed_in_step_4", |driver| {
            Box::pin(step4::a_reload_keeps_what_was_typed(driver))
        }),
        ("without_websockets_step_4_goes_on_over_http", |driver| {
            Box::pin(step4::without_websockets_it_goes_on_over_http(driver))
        }),
        ("two_people_sign_up_and_chat_in_step_5", |driver| {
            Box::pin(step5::two_people_chat(driver))
        }),
        ("a_refused_form_says_why_in_step_5", |driver| {
            Box::pin(step5::a_refused_form_says_why(driver))
        }),
        ("an_ended_session_costs_nothing_in_step_5", |driver| {
            Box::pin(step5::an_ended_session_costs_nothing(driver))
        }),
        ("the_next_person_sees_nothing_in_step_5", |driver| {
            Box::pin(step5::the_next_person_sees_nothing(driver))
        }),
        ("a_search_finds_a_word_in_step_5", |driver| {
            Box::pin(step5::a_search_finds_a_word(driver))
        }),
        ("without_websockets_step_5_goes_on_over_http", |driver| {
            Box::pin(step5::without_websockets_it_goes_on_over_http(driver))
        }),
        ("step_5_passes_the_accessibility_rules", |driver| Box::pin(step5::accessible(driver))),
        ("what_people_write_stays_text", |driver| Box::pin(text_stays_text(driver))),
        ("every_page_passes_the_accessibility_rules", |driver| Box::pin(accessible(driver))),
    ];
    let trials = tests.map(|(name, test)| {
        let (started, handle) = (started.clone(), runtime.handle().clone());
        Trial::ignorable_test(name, move || match started {
            Ok(driver) => play(handle.block_on(test(driver))),
            Err(reason) => left_out(&reason),
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    if let Ok(Ok(driver)) = started.map(Arc::try_unwrap) {
        let _ = runtime.block_on(driver.stop());
    }
    conclusion.exit_code()
}

fn play(result: Result<()>) -> Result<Completion, Failed> {
    result.map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into())
}

/// What can't run here is left out, and said so; where everything has to be there, that is a failure.
fn left_out(reason: &str) -> Result<Completion, Failed> {
    if env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}

/// Where a picture goes.
fn picture(name: &str) -> PathBuf {
    let folder = if env::var_os("UPDATE_PICTURES").is_some() {
        "book/chapters/images"
    } else {
        "target/pictures"
    };
    workspace().join(folder).join(name)
}

/// A page must not have complained in the console, and everything must fit into its width.
async fn check_tidy(page: &Page) -> Result<()> {
    let complaints = page.complaints().await?;
    ensure!(complaints.is_empty(), "the console says: {complaints:?}");
    let wide = page.evaluate("document.documentElement.scrollWidth > innerWidth").await?;
    ensure!(wide == json!(false), "the page is wider than its window");
    Ok(())
}

/// Milestone 1: the page comes from disk, as a learner opens it.
async fn echo(driver: Arc<Driver>) -> Result<()> {
    let server = Program::cargo_package("step01-echo").start().await?;
    let file = workspace().join("client/web/step01/index.html");
    let page = driver
        .open(&format!("file://{}?url={}", file.display(), server.url()), Screen::WIDE)
        .await?;
    page.wait_for_text("#state", "OPEN").await?;
    page.type_into("#text", "Grüße, Ada").await?;
    page.click("#send-text").await?;
    page.wait_for_text("[data-direction=received][data-kind=text]", "Grüße, Ada").await?;
    page.click("#send-binary").await?;
    page.wait_for_text("[data-direction=received][data-kind=binary]", "47 72").await?;
    page.picture(&picture("step01-wide.png")).await?;
    check_tidy(&page).await?;
    page.click("#disconnect").await?;
    page.wait_for_text("#code", "1000").await?;
    page.close().await
}

/// Opens a page and joins the chat of step 2 by typing.
async fn join_step_2(driver: &Driver, url: &str, name: &str) -> Result<Page> {
    let page = driver.open(url, Screen::WIDE).await?;
    page.type_into("#name", name).await?;
    page.click("#join").await?;
    page.wait_for_text("#people", name).await?;
    Ok(page)
}

/// Says something and waits until it has come back.
async fn say(page: &Page, text: &str) -> Result<()> {
    page.type_into("#text", text).await?;
    page.click("#send").await?;
    page.wait_for_text("#log", text).await
}

/// Milestone 2: two people see each other, talk, and see each other leave.
async fn two_chat_in_step_2(driver: Arc<Driver>) -> Result<()> {
    let server = Program::cargo_package("step02-multiuser").start().await?;
    let ada = join_step_2(&driver, server.url(), "ada").await?;
    let grace = join_step_2(&driver, server.url(), "grace").await?;
    ada.wait_for_text("#people", "grace").await?;

    say(&ada, "Hello Grace! Is this thing on?").await?;
    grace.wait_for_text("#log", "Is this thing on?").await?;
    say(&grace, "It is. One task per client, and a queue in front of each.").await?;
    say(&grace, "Nobody waits for anybody.").await?;
    ada.wait_for_text("#log", "Nobody waits for anybody.").await?;
    say(&ada, "And if somebody never reads?").await?;
    grace.wait_for_text("#log", "never reads?").await?;
    ada.picture(&picture("step02-wide.png")).await?;
    ada.show_on(Screen::WIDE.dark()).await?;
    ada.picture(&picture("step02-dark.png")).await?;
    check_tidy(&ada).await?;
    ada.show_on(Screen::PHONE).await?;
    ada.picture(&picture("step02-phone.png")).await?;
    check_tidy(&ada).await?;

    // A name that is taken is said at the name.
    let second = driver.open(server.url(), Screen::WIDE).await?;
    second.type_into("#name", "ADA").await?;
    second.click("#join").await?;
    second.wait_for_text("#name-error", "name").await?;
    second.close().await?;

    grace.close().await?;
    ada.wait_for_text("#log", "grace left").await?;
    ada.close().await
}

/// What would run as a script if a page put it into its HTML.
const SCRIPTS: [&str; 2] =
    ["<img src=x onerror=\"document.title='owned'\">", "<script>document.title='owned'</script>"];

/// Text from others is text: no element of it comes to life.
async fn text_stays_text(driver: Arc<Driver>) -> Result<()> {
    let server = Program::cargo_package("step02-multiuser").start().await?;
    let ada = join_step_2(&driver, server.url(), "ada").await?;
    let eve = join_step_2(&driver, server.url(), "eve").await?;
    for script in SCRIPTS {
        say(&eve, script).await?;
        ada.wait_for_text("#log", script).await?;
    }
    let alive = ada.evaluate("document.querySelectorAll('#log img, #log script').length").await?;
    ensure!(alive == json!(0), "{alive} elements came to life");
    ensure!(ada.evaluate("document.title").await? != json!("owned"), "a script ran");
    eve.close().await?;
    ada.close().await
}

/// Opens a page and joins a room of step 3 by typing.
async fn join_step_3(driver: &Driver, url: &str, name: &str) -> Result<Page> {
    let page = driver.open(url, Screen::WIDE).await?;
    page.type_into("#name", name).await?;
    page.evaluate("(document.querySelector('#room').value = '')").await?;
    page.type_into("#room", "rust").await?;
    page.click("#join").await?;
    page.wait_for_text("#people", name).await?;
    Ok(page)
}

/// Milestone 3: what was said before is there, what is said now comes to both, and who leaves is seen.
async fn two_chat_in_step_3(driver: Arc<Driver>) -> Result<()> {
    let server = Program::cargo_package("step03-rooms").start().await?;
    let ada = join_step_3(&driver, server.url(), "ada").await?;
    say(&ada, "Anyone here who has tried WeakSender?").await?;

    let grace = join_step_3(&driver, server.url(), "grace").await?;
    grace.wait_for_text("#log", "WeakSender").await?;
    ada.wait_for_text("#people", "grace").await?;
    say(&grace, "Yes. The hub reaches the room with it, and does not keep it alive.").await?;
    say(&grace, "When the last member leaves, the room is gone.").await?;
    ada.wait_for_text("#log", "the room is gone").await?;
    say(&ada, "And nobody has to remember to delete it. Nice.").await?;

    ada.type_into("#new-room-name", "lobby").await?;
    ada.click("#join-room").await?;
    ada.wait_for_text("#title", "lobby").await?;
    ada.click("#rooms [data-room=rust]").await?;
    ada.wait_for_text("#title", "rust").await?;
    ada.picture(&picture("step03-wide.png")).await?;
    ada.show_on(Screen::WIDE.dark()).await?;
    ada.picture(&picture("step03-dark.png")).await?;
    check_tidy(&ada).await?;
    ada.show_on(Screen::PHONE).await?;
    ada.picture(&picture("step03-phone.png")).await?;
    check_tidy(&ada).await?;

    grace.close().await?;
    ada.wait_for_text("#log", "grace left").await?;
    ada.close().await
}

/// Milestone 3: who types, what is unread, and a conversation of two.
async fn attention(driver: Arc<Driver>) -> Result<()> {
    let server = Program::cargo_package("step03-rooms").start().await?;
    let ada = join_step_3(&driver, server.url(), "ada").await?;
    let grace = join_step_3(&driver, server.url(), "grace").await?;
    ada.wait_for_text("#people", "grace").await?;

    grace.type_into("#text", "I am typ").await?;
    ada.wait_for_text("#typing", "grace").await?;

    ada.type_into("#new-room-name", "lobby").await?;
    ada.click("#join-room").await?;
    ada.wait_for_text("#title", "lobby").await?;
    grace.type_into("#text", "ing").await?;
    grace.click("#send").await?;
    ada.wait_for_text("#rooms li:has([data-room=rust]), #rooms [data-room=rust]", "1").await?;
    ada.click("#rooms [data-room=rust]").await?;
    ada.wait_for_text("#log", "I am typing").await?;

    ada.click("#people [data-name=grace]").await?;
    ada.wait_for_text("#title", "grace").await?;
    say(&ada, "psst").await?;
    grace
        .wait_for("a direct conversation", "document.querySelector('#directs [data-direct]')")
        .await?;
    grace.click("#directs [data-direct]").await?;
    grace.wait_for_text("#log", "psst").await?;
    check_tidy(&ada).await?;
    check_tidy(&grace).await?;
    grace.close().await?;
    ada.close().await
}

/// The rules themselves, as a script.
fn axe() -> Result<String> {
    let rules = workspace().join("tests/peers/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&rules).context("needs axe-core: run `npm ci` in tests/peers")
}

/// The rules of axe-core, on each page in light and dark, wide and narrow.
async fn accessible(driver: Arc<Driver>) -> Result<()> {
    let axe = axe()?;
    let step2 = Program::cargo_package("step02-multiuser").start().await?;
    let step3 = Program::cargo_package("step03-rooms").start().await?;
    let file = workspace().join("client/web/step01/index.html");
    let pages = [
        format!("file://{}", file.display()),
        step2.url().to_owned(),
        format!("{}/?name=ada&join=1", step2.url()),
        step3.url().to_owned(),
        format!("{}/?name=ada&join=1&room=rust", step3.url()),
    ];
    for url in pages {
        let page = driver.open(&url, Screen::WIDE).await?;
        if url.contains("join=1") {
            page.wait_for_text("#people", "ada").await?;
        }
        for screen in [Screen::WIDE, Screen::WIDE.dark(), Screen::PHONE] {
            page.show_on(screen).await?;
            let broken = page.broken_rules(&axe).await?;
            ensure!(broken.is_empty(), "{url} on {screen:?}: {broken:#?}");
        }
        page.close().await?;
    }
    Ok(())
}
