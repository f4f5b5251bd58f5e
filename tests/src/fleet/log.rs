//! The rooms as they are in Redis, read without any node.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::event::with;
use crate::model::{Heard, Log};
use crate::redis::Redis;

/// Reads the streams of these rooms.
///
/// # Errors
/// No answer, or an entry that is no message.
pub async fn read(redis: &Redis, prefix: &str, rooms: &[String]) -> Result<Log> {
    let keys = redis.keys().await?;
    let mut log = Log::new();
    for room in rooms {
        // Nobody here is in another namespace than the default one, whatever it is called.
        let (start, tag) = (format!("{prefix}:{{"), format!("/{room}}}:"));
        let is_own = |key: &&String| key.starts_with(&start) && key.contains(&tag);
        let mut messages = Vec::new();
        for key in keys.iter().filter(is_own) {
            if redis.ask(&["TYPE", key]).await?.is("stream") {
                for (id, fields) in redis.entries(key).await? {
                    messages.push(heard(&id, &fields).with_context(|| format!("{key} {id}"))?);
                }
            }
        }
        log.insert(room.clone(), messages);
    }
    Ok(log)
}

/// The message in an entry: its number is the entry's own, the rest is in one of its fields.
fn heard(id: &str, fields: &[String]) -> Result<Heard> {
    let seq: u64 = id.strip_suffix("-0").context("an id that is no number")?.parse()?;
    let words = fields.iter().filter_map(|field| serde_json::from_str::<Value>(field).ok());
    let mut words = words.filter(Value::is_object);
    let words = words.next().with_context(|| format!("no message in {fields:?}"))?;
    Heard::of(&with(words, "seq", seq)).with_context(|| format!("no message in {fields:?}"))
}
