//! Much at once: who is fast, who is slow, and that nobody waits for the other.

use tokio::time::timeout;

use crate::client::Client;
use crate::event::{is, json_of, text};
use crate::raw::{CLOSE, Frame};
use crate::scenario::{Check, SLOW, Scenario};
use crate::scene::{PATIENCE, Scene};
use crate::wire::Wire;

/// How many messages the fast sender sends.
const MANY: usize = 2000;

/// At most so many messages of 8 KB are offered to the slow reader. The system's buffers for one
/// connection take 4 MB or so, and the server's queue 2 MB.
const FLOOD: usize = 4000;

const FLOW: Scenario =
    Scenario { alone: true, limit: SLOW, ..Scenario::of(2, "implementation/step2-endings.html") };

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_fast_sender_loses_nothing",
        sentence: "A fast sender of 2,000 messages loses nothing, and nobody who reads is closed",
        expected: "all 2,000 messages for the sender and the listener, in order",
        hint: "Let the reading task give way (`tokio::task::yield_now`) after each message: else it fills the queues before the writers have their turn.",
        run: |scene| Box::pin(fast_sender(scene)),
        ..FLOW
    },
    Scenario {
        name: "a_client_that_does_not_read_is_closed",
        sentence: "A client that does not read is closed, and nobody waits for it",
        expected: "every message for the one who reads; a close frame with code 4008 for the one who does not",
        hint: "A queue with an end for each client, `try_send` in the broadcast, and where that fails: close with 4008. Never `.await` a client within the broadcast.",
        run: |scene| Box::pin(slow_reader(scene)),
        ..FLOW
    },
];

async fn fast_sender(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let events: Vec<u8> =
        (0..MANY).flat_map(|number| frame(&ada, &format!("number {number}"))).collect();
    scene.journal.note(&format!("ada sent {MANY} messages at once"));
    ada.send_quietly(&events).await;
    for number in 0..MANY {
        let text = format!("number {number}");
        grace.expect_field("message", "text", &text).await?;
        ada.expect_field("message", "text", &text).await?;
    }
    Ok(())
}

async fn slow_reader(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let mut slow = scene.enter_without_reading("slow").await?;
    let mut grace = scene.enter("grace").await?;
    scene.journal.note("slow reads nothing from now on; ada sends messages of 8 KB");

    let (sent, gone) = flood(&mut ada, &mut grace, &scene.name("slow")).await?;
    if !gone {
        scene.journal.wait_for("the server to let go of slow, and to tell the others that it left");
        return Err(scene.mismatch(&format!("nothing of that after {sent} messages of 8 KB")));
    }
    super::still_talks(&mut ada).await?;
    grace.expect_field("message", "text", "still here").await?;
    expect_4008(scene, &mut slow).await
}

/// Sends until the others hear that the slow one has left. Each message must reach the one who reads.
pub(crate) async fn flood(
    ada: &mut Client,
    grace: &mut Client,
    slow: &str,
) -> Check<(usize, bool)> {
    let filling = "🦀".repeat(1990);
    for number in 0..FLOOD {
        let words = format!("{number} {filling}");
        ada.send_quietly(&frame(ada, &words)).await;
        ada.expect_field("message", "text", &words).await?;
        let mut gone = false;
        loop {
            let event = grace.next("every message").await?;
            gone |= text(&event, "name") == slow && !is(&event, "message");
            if is(&event, "message") {
                if text(&event, "text") != words {
                    return Err(grace.mismatch(&json_of(&event)));
                }
                break;
            }
        }
        if gone {
            return Ok((number, true));
        }
    }
    Ok((FLOOD, false))
}

/// Reads what was left for the slow one: messages, and a goodbye at their end.
async fn expect_4008(scene: &Scene, slow: &mut Wire) -> Check {
    scene.journal.note("slow reads again");
    let what = "what was queued, then a close frame with code 4008";
    scene.journal.wait_for(what);
    let read = async {
        for _ in 0..=FLOOD + 10 {
            let frame = slow.next(what).await?;
            if frame.opcode == CLOSE {
                return Ok(frame);
            }
        }
        Err(scene.mismatch("more messages than were sent"))
    };
    let close =
        timeout(PATIENCE, read).await.map_err(|_| scene.mismatch("messages, but no end"))??;
    if close.close_code() == Some(4008) { Ok(()) } else { Err(scene.mismatch(&close.describe())) }
}

fn frame(client: &Client, text: &str) -> Vec<u8> {
    Frame::text(json_of(&client.message(text))).encode()
}
