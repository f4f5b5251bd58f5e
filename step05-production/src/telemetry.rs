// ANCHOR: all
//! What the server counts and measures: all metrics, each with what it means.
//!
//! No label has a value that a client can choose, so their number is fixed: a name, a room or an
//! address in a label would let anybody fill the memory of whoever collects them.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

// ANCHOR: names
/// Says what each metric means, and begins the counts at 0, so that the first of a kind is a change.
pub fn describe() {
    describe_gauge!("connections", "Chat connections, by transport.");
    describe_gauge!("sockets", "Open sockets of the public port.");
    describe_gauge!("rooms", "Rooms that are open.");
    describe_gauge!("members", "Users in rooms; one in two rooms counts twice.");
    describe_gauge!("queue_bytes", Unit::Bytes, "What waits for clients to take it.");
    describe_gauge!("draining", "1 while the server is stopping.");
    describe_gauge!("degraded", "1 while messages can't be stored.");
    describe_gauge!("tokio_alive_tasks", "Tasks that have not ended.");
    describe_gauge!("tokio_global_queue_depth", "Tasks that wait for a thread.");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory in use (RSS).");
    describe_gauge!("process_open_fds", "Open files and sockets.");
    describe_gauge!("process_max_fds", "The most open files and sockets there may be.");
    describe_counter!("accepted_total", "Chat connections that began, by transport.");
    describe_counter!("refused_total", "Requests and connections turned away, by reason.");
    describe_counter!("closed_total", "Chat connections that ended, by close code; 0 is none.");
    describe_counter!("events_in_total", "Events from clients.");
    describe_counter!("bytes_in_total", Unit::Bytes, "Bytes from WebSockets.");
    describe_counter!("messages_stored_total", "Messages that were stored.");
    describe_counter!("deliveries_total", "Events sent to members of rooms.");
    describe_counter!("errors_total", "Events answered with an error, by code.");
    describe_counter!("rate_limited_total", "Events that were one too many, by scope.");
    describe_counter!("resumed_total", "Joins, by result: new, whole, or gap.");
    describe_counter!("auth_total", "Tries to register or sign in, by result.");
    describe_counter!("gaps_healed_total", "Times a feed was late or had a gap, and was healed.");
    describe_counter!("epochs_changed_total", "Rooms that began anew because the log had changed.");
    describe_counter!("feed_dropped_total", "News that found no place in a room's feed.");
    describe_counter!("redis_errors_total", "What Redis was asked and has not done.");
    describe_histogram!("redis_seconds", Unit::Seconds, "From a request to Redis to its answer.");
    describe_counter!("panics_total", "Panics. Each is a bug.");
    describe_histogram!(
        "store_seconds",
        Unit::Seconds,
        "From a message's arrival until all were told and its sender has the ack."
    );
    describe_histogram!("fanout_seconds", Unit::Seconds, "To hand a batch to a room's members.");
    describe_histogram!("batch_messages", "How many messages were handed out together.");
    describe_histogram!("resumed_messages", "How many messages a join has given.");
    describe_histogram!("ping_seconds", Unit::Seconds, "From a ping to its answer.");
    describe_histogram!("password_seconds", Unit::Seconds, "To check or hash one password.");
    for scope in ["connection", "user", "address", "bytes", "sign_in", "register"] {
        counter!("rate_limited_total", "scope" => scope).absolute(0);
    }
    for result in ["registered", "ok", "wrong", "blocked"] {
        counter!("auth_total", "result" => result).absolute(0);
    }
    for name in [
        "gaps_healed_total",
        "epochs_changed_total",
        "feed_dropped_total",
        "redis_errors_total",
        "panics_total",
    ] {
        counter!(name).absolute(0);
    }
}
// ANCHOR_END: names

/// Something was one too many.
pub fn rate_limited(scope: &'static str) {
    counter!("rate_limited_total", "scope" => scope).increment(1);
}

/// Somebody was turned away.
pub fn refused(reason: &'static str) {
    counter!("refused_total", "reason" => reason).increment(1);
}

/// A chat connection begins.
pub fn opened(transport: &'static str) {
    counter!("accepted_total", "transport" => transport).increment(1);
    gauge!("connections", "transport" => transport).increment(1.0);
}

/// A chat connection has ended.
pub fn closed(transport: &'static str, code: u16) {
    gauge!("connections", "transport" => transport).decrement(1.0);
    counter!("closed_total", "code" => code.to_string()).increment(1);
}

/// An event has come.
pub fn event_came() {
    counter!("events_in_total").increment(1);
}

/// Bytes have come by a WebSocket.
pub fn bytes_came(count: usize) {
    counter!("bytes_in_total").increment(count as u64);
}

/// An event was answered with an error.
pub fn failed(code: &'static str) {
    counter!("errors_total", "code" => code).increment(1);
}

/// A batch went out to the members of a room.
pub fn delivered(messages: usize, receivers: usize, took: Duration) {
    counter!("deliveries_total").increment((messages * receivers) as u64);
    histogram!("batch_messages").record(messages as f64);
    histogram!("fanout_seconds").record(took);
}

/// A message was stored and its sender told so.
pub fn stored(took: Duration) {
    counter!("messages_stored_total").increment(1);
    histogram!("store_seconds").record(took);
}

/// A feed had left out messages, and the log had them.
pub fn gap_healed() {
    counter!("gaps_healed_total").increment(1);
}

/// News found no place in a room's feed.
pub fn feed_dropped() {
    counter!("feed_dropped_total").increment(1);
}

/// Redis has answered, or has not.
pub fn redis_answered(took: Duration) {
    histogram!("redis_seconds").record(took);
}

/// Redis has not done what it was asked.
pub fn redis_failed() {
    counter!("redis_errors_total").increment(1);
}

/// A room had to begin anew.
pub fn begun_anew() {
    counter!("epochs_changed_total").increment(1);
}

/// Somebody has joined a room.
pub fn joined(result: &'static str, messages: usize) {
    counter!("resumed_total", "result" => result).increment(1);
    histogram!("resumed_messages").record(messages as f64);
}

/// A ping was answered.
pub fn ponged(took: Duration) {
    histogram!("ping_seconds").record(took);
}

/// A password was checked or hashed.
pub fn hashed(took: Duration) {
    histogram!("password_seconds").record(took);
}

/// Somebody has tried to register or to sign in.
pub fn tried(result: &'static str) {
    counter!("auth_total", "result" => result).increment(1);
}

/// Something waits for a client, or no longer does.
pub fn queued(bytes: f64) {
    gauge!("queue_bytes").increment(bytes);
}

/// Rooms were opened or closed.
pub fn rooms(change: f64) {
    gauge!("rooms").increment(change);
}

/// Members came or went.
pub fn members(change: f64) {
    gauge!("members").increment(change);
}
// ANCHOR_END: all
