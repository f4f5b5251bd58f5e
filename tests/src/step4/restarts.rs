//! What outlives the program: everything that was acked.

use serde_json::Value;

use super::acks::{history, seq};
use super::goodbye::STOPS;
use super::resume::{epoch, numbers, resume};
use crate::client::Client;
use crate::event::{json_of, text};
use crate::process::{ends_well_within, refuses_to_start, stop};
use crate::program::Stop as Signal;
use crate::raw::Frame;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::Scene;

const DURABLE: Scenario = Scenario {
    needs: Needs::Program,
    limit: SLOW,
    ..Scenario::of(4, "production/connection-failures.html")
};

const SENTENCE: &str = "one sentence on stderr that names the directory, and exit code 1";
const SENTENCE_HINT: &str =
    "Make and open the log before you listen, and return the error from `main` as a sentence.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "what_was_acked_outlives_a_kill",
        sentence: "What was acked is there after kill -9",
        expected: "every message that was acked, in `history` of the next server, with its number",
        hint: "Ack after the commit, not before; and let the commit reach the disk (`synchronous=FULL`).",
        run: |scene| Box::pin(kill(scene)),
        ..DURABLE
    },
    Scenario {
        name: "history_and_epoch_outlive_a_kill",
        sentence: "History, count and epoch outlive a kill",
        expected: "the same `message` events and the same `epoch`, and a count that goes on",
        hint: "The epoch is stored with the log, made once with its tables.",
        run: |scene| Box::pin(same_after(scene, false)),
        ..DURABLE
    },
    Scenario {
        name: "history_and_epoch_outlive_a_restart",
        sentence: "History, count and epoch outlive a restart",
        expected: "the same `message` events and the same `epoch`, and a count that goes on",
        hint: "The epoch is stored with the log, made once with its tables.",
        run: |scene| Box::pin(same_after(scene, true)),
        ..DURABLE
    },
    Scenario {
        name: "an_id_is_remembered_across_restarts",
        sentence: "A message that is repeated after a restart is still the same message",
        expected: "`ack` with the number it had, and one message in the history",
        hint: "Ids that are remembered in memory only are forgotten with the process: look them up in the log.",
        run: |scene| Box::pin(repeated(scene)),
        ..DURABLE
    },
    Scenario {
        name: "a_cursor_from_before_a_restart_resumes",
        sentence: "A cursor from before a restart resumes after it",
        expected: "`joined` without a gap, with what came after the cursor",
        hint: "The numbers and the epoch must be the log's, not the process's.",
        run: |scene| Box::pin(cursor(scene)),
        ..DURABLE
    },
    Scenario {
        name: "a_session_from_before_a_restart_is_welcome",
        sentence: "A session from before a restart is welcome after it",
        expected: "`welcome` for a hello with the old session",
        hint: "A session that nobody has is no reason to refuse a name that nobody has.",
        run: |scene| Box::pin(session(scene)),
        ..DURABLE
    },
    Scenario {
        name: "the_data_directory_is_made",
        sentence: "DATA_DIR is made if it is missing",
        expected: "a running server, and the directory",
        hint: "`std::fs::create_dir_all`.",
        needs: Needs::File,
        run: |scene| Box::pin(makes_directory(scene)),
        ..DURABLE
    },
    Scenario {
        name: "an_unusable_data_directory_is_one_clear_sentence",
        sentence: "A DATA_DIR that can't be used is one clear sentence",
        expected: SENTENCE,
        hint: SENTENCE_HINT,
        needs: Needs::File,
        run: |scene| Box::pin(unusable(scene)),
        ..DURABLE
    },
    Scenario {
        name: "two_servers_do_not_share_a_data_directory",
        sentence: "Two servers do not share a DATA_DIR",
        expected: SENTENCE,
        hint: "Two servers would number the same room twice. Lock a file in the directory (`File::try_lock`) for as long as the server runs.",
        needs: Needs::File,
        run: |scene| Box::pin(shared(scene)),
        ..DURABLE
    },
];

async fn kill(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut acked: Vec<(String, u64)> = Vec::new();
    for round in 0..5 {
        let mut ada = scene.enter("ada").await?;
        let messages: Vec<Value> =
            (0..100).map(|number| ada.message(&format!("{round}-{number}"))).collect();
        let frames: Vec<u8> =
            messages.iter().flat_map(|event| Frame::text(json_of(event)).encode()).collect();
        scene.journal.note("ada sent 100 messages at once");
        ada.send_quietly(&frames).await;
        // The kill comes in the middle: at the first acks of a hundred messages under way.
        for message in messages.iter().take(10 * (round + 1)) {
            let id = text(message, "id");
            acked.push((id.to_owned(), seq(&ada.ack(id).await?)));
        }
        scene.kill_and_restart().await?;
        let stored = everything(scene).await?;
        for (id, seq) in &acked {
            if !stored.contains(&(id.clone(), *seq)) {
                let lost = format!("no message {id} with number {seq}, which was acked");
                return Err(scene.mismatch(&lost));
            }
        }
    }
    Ok(())
}

/// The ids and numbers of all the room's messages, as somebody reads them who was never there.
async fn everything(scene: &Scene) -> Check<Vec<(String, u64)>> {
    let mut reader = scene.enter("reader").await?;
    let room = reader.room.clone();
    let epoch = epoch(&reader.join(&room).await?).to_owned();
    let joined = resume(&mut reader, &epoch, 0).await?;
    reader.leave().await?;
    Ok(history(&joined).iter().map(|said| (text(said, "id").to_owned(), seq(said))).collect())
}

async fn same_after(scene: &mut Scene, in_order: bool) -> Check {
    scene.start(&[("DRAIN_SECONDS", "0")]).await?;
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    for words in ["one", "two", "three"] {
        ada.store(words).await?;
    }
    for _ in 0..3 {
        ada.expect("message").await?;
    }
    let before = ada.join(&room).await?;
    restart(scene, in_order).await?;
    let mut grace = scene.greet("grace").await?;
    let after = grace.join(&room).await?;
    let is_same = history(&after) == history(&before)
        && epoch(&after) == epoch(&before)
        && numbers(&after) == [1, 2, 3];
    if !is_same {
        return Err(grace.mismatch(&json_of(&after)));
    }
    let ack = grace.store("four").await?;
    if seq(&ack) == 4 { Ok(()) } else { Err(grace.mismatch(&json_of(&ack))) }
}

async fn restart(scene: &mut Scene, in_order: bool) -> Check {
    if !in_order {
        return scene.kill_and_restart().await;
    }
    stop(scene, Signal::Term).await?;
    ends_well_within(scene, STOPS).await?;
    scene.start(&[]).await
}

async fn repeated(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let message = ada.message("once");
    let id = text(&message, "id");
    ada.send(message.clone()).await;
    let first = ada.ack(id).await?;
    scene.kill_and_restart().await?;
    let mut ada = scene.enter("ada").await?;
    ada.send(message.clone()).await;
    let second = ada.ack(id).await?;
    if first != second {
        return Err(ada.mismatch(&json_of(&second)));
    }
    let room = ada.room.clone();
    let joined = ada.join(&room).await?;
    if numbers(&joined) == [1] { Ok(()) } else { Err(ada.mismatch(&json_of(&joined))) }
}

async fn cursor(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    for words in ["one", "two", "three"] {
        ada.store(words).await?;
    }
    scene.kill_and_restart().await?;
    let mut ada = scene.greet("ada").await?;
    let joined = resume(&mut ada, &epoch, 1).await?;
    let is_right = numbers(&joined) == [2, 3] && joined.get("gap") == Some(&false.into());
    if is_right { Ok(()) } else { Err(ada.mismatch(&json_of(&joined))) }
}

async fn session(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.connect("ada").await?;
    let session = text(&ada.hello().await?, "session").to_owned();
    scene.kill_and_restart().await?;
    let mut ada = scene.connect("ada").await?;
    super::sessions::hello_with(&mut ada, &session).await;
    ada.expect("welcome").await.map(drop)
}

async fn makes_directory(scene: &mut Scene) -> Check {
    let directory = scene.data().join("not").join("there").join("yet");
    let name = directory.display().to_string();
    scene.start(&[("DATA_DIR", &name)]).await?;
    let mut ada: Client = scene.enter("ada").await?;
    ada.store("hi").await?;
    scene.journal.wait_for(&format!("the directory {name}, with a log in it"));
    let files = std::fs::read_dir(&directory).map(Iterator::count).unwrap_or_default();
    if files > 0 { Ok(()) } else { Err(scene.mismatch("nothing there")) }
}

async fn unusable(scene: &mut Scene) -> Check {
    let made = std::fs::create_dir_all(scene.data());
    let file = scene.data().join("a-file");
    let made = made.and_then(|()| std::fs::write(&file, "not a directory"));
    made.map_err(|error| crate::scenario::Stop::Skipped(error.to_string()))?;
    refuses_to_start(scene, "DATA_DIR", &file.display().to_string()).await?;
    refuses_to_start(scene, "DATA_DIR", &file.join("below").display().to_string()).await
}

async fn shared(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let directory = scene.data().display().to_string();
    refuses_to_start(scene, "DATA_DIR", &directory).await?;
    // The one that was there first goes on.
    let mut ada = scene.enter("ada").await?;
    ada.store("still here").await.map(drop)
}
