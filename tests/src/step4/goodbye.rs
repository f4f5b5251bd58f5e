//! How the server ends, how it finds out that a client has ended, and what it does with slow ones.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::event::{is, json_of};
use crate::process::{ends_well_within, stop};
use crate::program::Stop as Signal;
use crate::raw::{CLOSE, Frame, PING, PONG};
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;

/// How long a server may take to end after a signal: Docker waits for ten seconds.
pub(crate) const STOPS: Duration = Duration::from_secs(10);

/// How long it may take after a second signal.
const AT_ONCE: Duration = Duration::from_secs(2);

/// When the first ping is due at the latest, and how long a silent client may stay after it, with
/// some room.
const PING_DUE: Duration = Duration::from_secs(28);
const SILENCE: Duration = Duration::from_secs(15);

/// These wait for the heartbeat.
const VERY_SLOW: Duration = Duration::from_secs(70);

const STOPPING: Scenario = Scenario {
    needs: Needs::Program,
    limit: SLOW,
    ..Scenario::of(4, "production/graceful-degradation.html")
};

const HEARTBEAT: Scenario =
    Scenario { limit: VERY_SLOW, ..Scenario::of(4, "production/connection-failures.html") };

const STOP: &str = "`reconnect` with `after`, then a close frame with code 1012, then exit code 0";
const STOP_HINT: &str = "Tell each client when to come back, at another time for each, then close with 1012; wait for the connections' tasks before `main` returns.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sigterm_tells_every_client_when_to_come_back",
        sentence: "SIGTERM tells every client when to come back, then the program ends",
        expected: STOP,
        hint: STOP_HINT,
        run: |scene| Box::pin(tells_when(scene, Signal::Term)),
        ..STOPPING
    },
    Scenario {
        name: "ctrl_c_tells_every_client_when_to_come_back",
        sentence: "Ctrl-C tells every client when to come back, then the program ends",
        expected: STOP,
        hint: STOP_HINT,
        run: |scene| Box::pin(tells_when(scene, Signal::Int)),
        ..STOPPING
    },
    Scenario {
        name: "a_client_that_stays_does_not_hold_up_the_end",
        sentence: "A client that does not answer the goodbye can't hold up the end",
        expected: "exit code 0 within 10 seconds, although the client keeps its connection open",
        hint: "Put a `timeout` around everything that waits for a client to say goodbye.",
        run: |scene| Box::pin(frozen_client(scene)),
        ..STOPPING
    },
    Scenario {
        name: "a_second_signal_ends_the_program_at_once",
        sentence: "A second signal ends the program at once",
        expected: "the end of the program within 2 seconds of the second signal",
        hint: "Wait for another signal beside the shutdown (`select!`), and `std::process::exit` when it comes.",
        run: |scene| Box::pin(second_signal(scene)),
        ..STOPPING
    },
    Scenario {
        name: "what_is_sent_while_stopping_is_acked_or_kept",
        sentence: "What is sent while the server stops is acked and stored, or it is neither",
        expected: "in the next server's history every message that was acked before the end",
        hint: "Close the log when everything handed over has been stored, at the very end.",
        run: |scene| Box::pin(acked_while_stopping(scene)),
        ..STOPPING
    },
    Scenario {
        name: "the_server_pings_and_keeps_who_answers",
        sentence: "The server pings about every 25 seconds, and keeps who answers",
        expected: "a ping within 28 seconds, and after a pong an open connection",
        hint: "A timer in the connection's `select!`: ping when it is due, and give up if nothing came since the last one.",
        run: |scene| Box::pin(pings(scene)),
        ..HEARTBEAT
    },
    Scenario {
        name: "a_silent_client_is_given_up",
        sentence: "A client that does not answer a ping is given up after ten seconds, and the others hear that it left",
        expected: "the end of the connection about 10 seconds after the ping, and `member_left` for the others",
        hint: "Remember that a ping is unanswered, and end the connection if it still is after 10 seconds.",
        run: |scene| Box::pin(silent(scene)),
        ..HEARTBEAT
    },
];

async fn tells_when(scene: &mut Scene, signal: Signal) -> Check {
    scene.start(&[]).await?;
    let mut clients = [scene.enter("ada").await?, scene.enter("grace").await?];
    stop(scene, signal).await?;
    for client in &mut clients {
        let what = "a `reconnect` with `after` in milliseconds";
        let hint = client.expect_that(what, |event| is(event, "reconnect")).await?;
        let after = hint.get("after").and_then(Value::as_u64);
        if after.is_none_or(|millis| millis > 60_000) {
            return Err(client.mismatch(&json_of(&hint)));
        }
    }
    for client in &mut clients {
        client.expect_close(1012).await?;
    }
    ends_well_within(scene, STOPS).await
}

async fn frozen_client(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let _frozen = scene.enter_without_reading("ada").await?;
    let started = Instant::now();
    stop(scene, Signal::Term).await?;
    ends_well_within(scene, STOPS).await?;
    scene.journal.note(&format!("it took {:?}", started.elapsed()));
    Ok(())
}

async fn second_signal(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut frozen = scene.enter_without_reading("ada").await?;
    stop(scene, Signal::Term).await?;
    // It has begun to stop.
    frozen.expect_event("reconnect").await?;
    let at = Instant::now();
    // Between the two the program may still be on its way to listen for the second.
    for _ in 0..10 {
        stop(scene, Signal::Term).await?;
        scene.journal.wait_for("the end of the program at once");
        if scene.running()?.wait_exit(AT_ONCE / 10).await.is_ok() {
            return Ok(());
        }
    }
    Err(scene.mismatch(&format!("a program that still runs after {:?}", at.elapsed())))
}

async fn acked_while_stopping(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    ada.store("before").await?;
    stop(scene, Signal::Term).await?;
    let mut acked = 1;
    while ada.store("while the server stops").await.is_ok() {
        acked += 1;
    }
    ends_well_within(scene, STOPS).await?;
    scene.start(&[]).await?;
    let mut grace = scene.enter("grace").await?;
    let room = grace.room.clone();
    let joined = grace.join(&room).await?;
    let last = super::acks::seq(&joined);
    if last >= acked {
        return Ok(());
    }
    Err(grace.mismatch(&format!("{acked} messages were acked, {last} are there")))
}

async fn pings(scene: &mut Scene) -> Check {
    let mut ada = scene.enter_without_reading("ada").await?;
    let ping = loop {
        let frame = ada.next_within(PING_DUE, "a ping").await?;
        if frame.opcode == PING {
            break frame;
        }
    };
    ada.send(&Frame::new(PONG, ping.payload)).await;
    sleep(SILENCE).await;
    ada.send(&Frame::ping("still here?")).await;
    ada.expect(PONG, b"still here?").await
}

async fn silent(scene: &mut Scene) -> Check {
    let mut grace = scene.enter("grace").await?;
    let mut silent = scene.enter_without_reading("silent").await?;
    let name = scene.name("silent");
    grace.expect_field("member_joined", "name", &name).await?;
    let asked = loop {
        let frame = silent.next_within(PING_DUE, "a ping").await?;
        if frame.opcode == PING {
            break Instant::now();
        }
    };
    // No pong. A close frame may come, or the end without one.
    loop {
        match silent.next_within(SILENCE, "the end of the connection").await {
            Ok(frame) if frame.opcode == CLOSE => break,
            Ok(_) => {}
            Err(_end) if asked.elapsed() < SILENCE => break,
            Err(error) => return Err(error),
        }
    }
    if asked.elapsed() < Duration::from_secs(7) {
        return Err(scene.mismatch(&format!("the end after {:?} already", asked.elapsed())));
    }
    grace.expect_field("member_left", "name", &name).await.map(drop)
}
