//! Events that are almost right.

use crate::chance::Chance;

/// The types of events, of clients and of servers.
const TYPES: [&str; 16] = [
    "hello",
    "join",
    "leave",
    "message",
    "typing",
    "direct",
    "rooms",
    "welcome",
    "joined",
    "ack",
    "history",
    "error",
    "status",
    "Message",
    "",
    "message\\u0000",
];

/// The fields of events.
const FIELDS: [&str; 16] = [
    "type",
    "name",
    "session",
    "room",
    "epoch",
    "after",
    "id",
    "text",
    "to",
    "seq",
    "from",
    "at",
    "__proto__",
    "password",
    "q",
    "",
];

/// Values, as they stand in JSON.
const VALUES: [&str; 44] = [
    "null",
    "true",
    "-1",
    "0",
    "1",
    "42",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "-0.0",
    "1.5",
    "[]",
    "{}",
    "[[[[[[]]]]]]",
    "{\"$t\":{\"id\":[]}}",
    "\"\"",
    "\" \"",
    "\"hall\"",
    "\"rust\"",
    "\"HALL\"",
    "\"ha ll\"",
    "\"../../etc/passwd\"",
    "\"dm:chaos0:chaos1\"",
    "\"dm:chaos1:chaos0\"",
    "\"dm::\"",
    "\"dm:\"",
    "\"dm:chaos0:chaos0\"",
    "\"chaos0\"",
    "\"CHAOS1\"",
    "\"chaos2\"",
    "\"nobody\"",
    "\"аdmin\"",
    "\"\\u0000\"",
    "\"\\ud83e\\udd80\"",
    "\"\\ud800\"",
    "\"\u{202e}evil\"",
    "\"<img src=x onerror=alert(1)>\"",
    "\"a\\nb\\r\\n\\u001b[31m\"",
    "\"6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11\"",
    "\"00000000-0000-0000-0000-000000000000\"",
    "\"6ad14a5e9f3c4c1b8f3c0d6a3f0d9a11\"",
    "NaN",
    "'hi'",
];

/// Events as they should be.
const PROPER: [&str; 8] = [
    r#"{"type":"join","room":"hall"}"#,
    r#"{"type":"join","room":"rust","epoch":"6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11","after":3}"#,
    r#"{"type":"leave","room":"hall"}"#,
    r#"{"type":"message","id":"ID","room":"hall","text":"hi"}"#,
    r#"{"type":"typing","room":"rust"}"#,
    r#"{"type":"direct","id":"ID","to":"chaos1","text":"hi"}"#,
    r#"{"type":"rooms"}"#,
    r#"{"type":"hello","name":"ada"}"#,
];

/// An event that is right, or wrong in one way or in many. If it is wild, it may not even be text.
pub fn event(chance: &mut Chance, is_wild: bool) -> Vec<u8> {
    let text = match chance.below(4) {
        0 | 1 => proper(chance),
        2 => made_up(chance),
        _ => changed_values(chance),
    };
    let mut bytes = text.into_bytes();
    if chance.below(3) == 0 {
        damage(&mut bytes, chance);
    }
    if is_wild { bytes } else { String::from_utf8_lossy(&bytes).into_owned().into_bytes() }
}

/// An event as it should be, with an id of its own.
fn proper(chance: &mut Chance) -> String {
    let event = chance.pick(&PROPER).copied().unwrap_or_default();
    let id = uuid::Uuid::from_u64_pair(chance.number(), chance.number());
    event.replace("ID", &id.to_string())
}

/// Any fields with any values.
fn made_up(chance: &mut Chance) -> String {
    let kind = chance.pick(&TYPES).copied().unwrap_or_default();
    let mut fields = vec![format!("\"type\":\"{kind}\"")];
    for _ in 0..chance.below(6) {
        let field = chance.pick(&FIELDS).copied().unwrap_or_default();
        fields.push(format!("\"{field}\":{}", value(chance)));
    }
    format!("{{{}}}", fields.join(","))
}

/// An event as it should be, but for some of its values.
fn changed_values(chance: &mut Chance) -> String {
    let mut event = proper(chance);
    for _ in 0..=chance.below(2) {
        let colons: Vec<_> = event.match_indices("\":\"").map(|(place, _)| place + 2).collect();
        let Some(start) = chance.pick(&colons).copied() else { break };
        let Some(end) = event.get(start + 1..).and_then(|rest| rest.find('"')) else { break };
        event.replace_range(start..start + end + 2, &value(chance));
    }
    event
}

/// Any value; sometimes a long one.
fn value(chance: &mut Chance) -> String {
    match chance.below(20) {
        0 => format!("\"{}\"", "x".repeat(chance.below(3000))),
        1 => format!("\"{}\"", "🦀".repeat(chance.below(2100))),
        2 => {
            let depth = chance.below(3000);
            format!("{}{}", "[".repeat(depth), "]".repeat(depth))
        }
        _ => chance.pick(&VALUES).copied().unwrap_or_default().to_owned(),
    }
}

/// Changes some bytes: flips, drops, doubles, cuts off.
pub fn damage(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let place = chance.below(bytes.len());
        match chance.below(5) {
            0 => bytes.truncate(place),
            1 if place < bytes.len() => drop(bytes.remove(place)),
            2 => bytes.insert(place.min(bytes.len()), chance.number().to_le_bytes()[0]),
            3 => {
                let piece = bytes.get(place..).unwrap_or_default().to_vec();
                bytes.extend(piece);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
}
