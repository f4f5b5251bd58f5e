//! What comes to a client, and the JSON in it.

use serde_json::{Value, json};

use crate::raw::{self, Frame};

/// What comes to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// An event.
    Event(Value),
    /// A frame that is no event.
    Strange(String),
    /// A close frame, with its code.
    Close(Option<u16>),
    /// The end of the connection, and how it came.
    End(String),
}

/// The event in a text frame.
pub fn event(frame: &Frame) -> Came {
    match serde_json::from_slice::<Value>(&frame.payload) {
        Ok(event) if event.is_object() && frame.opcode == raw::TEXT => Came::Event(event),
        _ => Came::Strange(format!("{}, which is not a JSON object", frame.describe())),
    }
}

/// An event as JSON, with its `type` first.
pub fn json_of(event: &Value) -> String {
    let Some(fields) = event.as_object() else { return event.to_string() };
    let (kind, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| *name == "type");
    let pair = |(name, value): (&String, &Value)| format!("{}:{value}", json!(name));
    let pairs: Vec<String> = kind.into_iter().chain(others).map(pair).collect();
    format!("{{{}}}", pairs.join(","))
}

/// An event's type with its article, for people.
pub fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} `{kind}`")
}

/// Whether an event is of this type.
pub fn is(event: &Value, kind: &str) -> bool {
    text(event, "type") == kind
}

/// A field's text, or none.
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The same event with another field.
pub fn with(mut event: Value, field: &str, value: impl Into<Value>) -> Value {
    if let Some(fields) = event.as_object_mut() {
        fields.insert(field.to_owned(), value.into());
    }
    event
}

/// The texts in a field's list.
pub fn list<'a>(event: &'a Value, field: &str) -> Vec<&'a str> {
    let list = event.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether an event only says who comes and who goes.
pub fn is_presence(event: &Value) -> bool {
    ["user_joined", "user_left", "member_joined", "member_left"].contains(&text(event, "type"))
}
