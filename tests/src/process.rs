//! How a server program starts, stops and counts its connections: the same in every milestone.

use std::time::Duration;

use tokio::time::sleep;

use crate::program::Stop as Signal;
use crate::raw::{Frame, Opened, PONG};
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;
use crate::wire::Wire;

/// How long a program may take to end after a signal.
const END: Duration = Duration::from_secs(8);

/// How long a program may take to say that it can't start.
const REFUSAL: Duration = Duration::from_secs(10);

/// How often to ask again, and how many times.
const AGAIN: Duration = Duration::from_millis(20);
const TRIES: usize = 250;

const PROCESS: Scenario =
    Scenario { needs: Needs::Program, ..Scenario::of(1, "implementation/step1.html") };

const STOP: &str = "a close frame with code 1001 (going away) for every client, then exit code 0";
const STOP_HINT: &str = "Cancel a token when the signal comes, let each connection's task notice it and send 1001, and wait for these tasks before `main` returns.";
const SENTENCE: &str = "one sentence on stderr that names what is wrong, and exit code 1";
const SENTENCE_HINT: &str = "Return the error from `main` as a sentence instead of `unwrap` or `expect`: no panic, no stack trace.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sigterm_says_goodbye_to_every_client",
        sentence: "SIGTERM says goodbye to every client, then the program ends",
        expected: STOP,
        hint: STOP_HINT,
        run: |scene| Box::pin(says_goodbye(scene, Signal::Term)),
        ..PROCESS
    },
    Scenario {
        name: "ctrl_c_says_goodbye_to_every_client",
        sentence: "Ctrl-C says goodbye to every client, then the program ends",
        expected: STOP,
        hint: STOP_HINT,
        run: |scene| Box::pin(says_goodbye(scene, Signal::Int)),
        ..PROCESS
    },
    Scenario {
        name: "a_frozen_client_does_not_hold_up_the_end",
        sentence: "A client that does not answer the goodbye can't hold up the end",
        expected: "exit code 0 within 8 seconds, although the client keeps its connection open",
        hint: "Put a `timeout` around everything that waits for a client to say goodbye.",
        limit: SLOW,
        run: |scene| Box::pin(frozen_client(scene)),
        ..PROCESS
    },
    Scenario {
        name: "a_taken_port_is_one_clear_sentence",
        sentence: "A taken port is one clear sentence",
        expected: SENTENCE,
        hint: SENTENCE_HINT,
        run: |scene| Box::pin(taken_port(scene)),
        ..PROCESS
    },
    Scenario {
        name: "a_bad_port_is_one_clear_sentence",
        sentence: "A bad PORT is one clear sentence",
        expected: SENTENCE,
        hint: SENTENCE_HINT,
        run: |scene| Box::pin(bad_setting(scene, "PORT", "eighty")),
        ..PROCESS
    },
    Scenario {
        name: "a_bad_limit_of_connections_is_one_clear_sentence",
        sentence: "A bad MAX_CONNECTIONS is one clear sentence",
        expected: SENTENCE,
        hint: SENTENCE_HINT,
        run: |scene| Box::pin(bad_setting(scene, "MAX_CONNECTIONS", "-1")),
        ..PROCESS
    },
    Scenario {
        name: "one_connection_too_many_is_refused",
        sentence: "With MAX_CONNECTIONS=2 the third client is refused, and the others go on",
        expected: "status 503 before the upgrade for the third, and answers for the first two",
        hint: "A `Semaphore` with MAX_CONNECTIONS permits: `try_acquire_owned`, and 503 where that fails.",
        run: |scene| Box::pin(one_too_many(scene)),
        ..PROCESS
    },
    Scenario {
        name: "a_place_that_was_left_can_be_taken",
        sentence: "A place that was left can be taken by the next client",
        expected: "status 101 for a new client once another one has left",
        hint: "The permit must live as long as the connection's task, and no longer: move it into the task.",
        run: |scene| Box::pin(place_is_free_again(scene)),
        ..PROCESS
    },
];

/// The setting that only milestone 1 has.
pub const BAD_MESSAGE_LIMIT: Scenario = Scenario {
    name: "a_bad_message_limit_is_one_clear_sentence",
    sentence: "A bad MAX_MESSAGE_BYTES is one clear sentence",
    expected: SENTENCE,
    hint: SENTENCE_HINT,
    run: |scene| Box::pin(bad_setting(scene, "MAX_MESSAGE_BYTES", "64 KiB")),
    ..PROCESS
};

/// The setting that milestones with a page have.
pub const BAD_ORIGIN: Scenario = Scenario {
    name: "a_bad_list_of_origins_is_one_clear_sentence",
    sentence: "A bad ALLOWED_ORIGINS is one clear sentence",
    expected: SENTENCE,
    hint: "An origin that no browser would send never matches, so say so at the start: it needs a scheme and a host, and no path.",
    run: |scene| Box::pin(bad_setting(scene, "ALLOWED_ORIGINS", "https://chat.example/")),
    ..PROCESS
};

/// A message limit of one's own.
pub const OTHER_MESSAGE_LIMIT: Scenario = Scenario {
    name: "the_message_limit_can_be_set",
    sentence: "MAX_MESSAGE_BYTES sets another limit",
    expected: "with MAX_MESSAGE_BYTES=10, ten bytes come back and eleven close with 1009",
    hint: "Read MAX_MESSAGE_BYTES from the environment and give it to both limits of the library.",
    run: |scene| Box::pin(other_limit(scene)),
    ..PROCESS
};

async fn says_goodbye(scene: &mut Scene, signal: Signal) -> Check {
    scene.start(&[]).await?;
    let mut clients = [scene.wire("ada").await?, scene.wire("grace").await?];
    stop(scene, signal).await?;
    for client in &mut clients {
        client.expect_close(&[1001]).await?;
    }
    ends_well(scene).await
}

async fn frozen_client(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let _frozen = scene.wire("ada").await?;
    stop(scene, Signal::Term).await?;
    ends_well(scene).await
}

async fn taken_port(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let port = scene.address().rsplit(':').next().unwrap_or_default().to_owned();
    refuses_to_start(scene, "PORT", &port).await
}

async fn bad_setting(scene: &mut Scene, name: &str, value: &str) -> Check {
    refuses_to_start(scene, name, value).await
}

/// Starts the program with a setting that it can't use.
pub(crate) async fn refuses_to_start(scene: &mut Scene, name: &str, value: &str) -> Check {
    scene.journal.note(&format!("started the program with {name}={value}"));
    scene.journal.wait_for(SENTENCE);
    let program = scene.program()?.env(name, value);
    let ended = program.run_to_end(REFUSAL).await;
    let ended = ended.map_err(|error| scene.mismatch(&format!("{error:#}")))?;
    let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    let is_sentence = lines == 1 && !ended.stderr.contains("panicked");
    // A taken port is named by its number, a bad setting by its name.
    let names_it = ended.stderr.contains(name) || ended.stderr.contains(value);
    if ended.code == Some(1) && is_sentence && names_it {
        return Ok(());
    }
    let code = ended.code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
    Err(scene.mismatch(&format!("{code}, and on stderr: {}", ended.stderr)))
}

async fn one_too_many(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS", "2")]).await?;
    let mut clients = [scene.wire("ada").await?, scene.wire("grace").await?];
    scene.refused(scene.path(), &[], 503).await?;
    for client in &mut clients {
        answers(client).await?;
    }
    Ok(())
}

async fn place_is_free_again(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS", "1")]).await?;
    let ada = scene.wire("ada").await?;
    scene.refused(scene.path(), &[], 503).await?;
    ada.close_in_order(1000).await?;
    // The server may need a moment to notice that the connection has ended.
    for _ in 0..TRIES {
        if let Opened::Socket(_) = scene.ask(scene.path(), &[]).await? {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
    scene.journal.wait_for("status 101 once the place was free");
    Err(scene.mismatch("status 503, again and again"))
}

async fn other_limit(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_MESSAGE_BYTES", "10")]).await?;
    let mut ada = scene.wire("ada").await?;
    ada.send(&Frame::text("0123456789")).await;
    ada.expect(crate::raw::TEXT, b"0123456789").await?;
    ada.send(&Frame::text("0123456789a")).await;
    ada.expect_close(&[1009]).await
}

/// Sends a signal to the server.
pub(crate) async fn stop(scene: &mut Scene, signal: Signal) -> Check {
    let name = if signal == Signal::Term { "SIGTERM" } else { "SIGINT (Ctrl-C)" };
    scene.journal.note(&format!("sent {name} to the server"));
    let sent = scene.running()?.signal(signal).await;
    sent.map_err(|error| crate::scenario::Stop::Skipped(format!("{error:#}")))
}

/// The server must end in time, with exit code 0.
async fn ends_well(scene: &mut Scene) -> Check {
    ends_well_within(scene, END).await
}

/// The same with another bound.
pub(crate) async fn ends_well_within(scene: &mut Scene, limit: Duration) -> Check {
    scene.journal.wait_for("the program to end with exit code 0");
    let ended = scene.running()?.wait_exit(limit).await;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(scene.mismatch(&status.to_string())),
        Err(error) => Err(scene.mismatch(&format!("{error:#}"))),
    }
}

/// A client must still get answers.
async fn answers(client: &mut Wire) -> Check {
    client.send(&Frame::ping("still here?")).await;
    client.expect(PONG, b"still here?").await
}
