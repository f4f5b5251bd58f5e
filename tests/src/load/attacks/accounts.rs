//! Attacks on the passwords, which are slow to check on purpose.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Attack, Attacker, End};
use crate::load::door::{PASSWORD, address};

/// How long they go on after the server has told them to stop.
const GOES_ON: Duration = Duration::from_secs(5);

/// What both have in common.
const FLOOD: Attack = Attack {
    name: "",
    what: "",
    attackers: 16,
    ends: &[End::Status(429)],
    welcome: 0,
    limit: Duration::from_secs(30),
    run: |_| Box::pin(async { Ok(End::Never) }),
};

/// Wrong passwords.
pub const SIGN_INS: Attack = Attack {
    name: "sign-in flood",
    what: "wrong passwords for one account, from one address, one after the other",
    run: |attacker| Box::pin(flood(attacker, "/api/login", sign_in)),
    ..FLOOD
};

/// New accounts.
pub const REGISTRATIONS: Attack = Attack {
    name: "registration flood",
    what: "new accounts, from one address, one after the other",
    run: |attacker| Box::pin(flood(attacker, "/api/register", new_account)),
    ..FLOOD
};

fn sign_in(attacker: &Attacker) -> Value {
    json!({"name": format!("healthy{}", attacker.number % 2), "password": "open sesame"})
}

fn new_account(_: &Attacker) -> Value {
    let name: String = Uuid::new_v4().simple().to_string().chars().take(20).collect();
    json!({"name": name, "password": PASSWORD})
}

/// Asks again and again, up to the first refusal, and then for a while more, to which nobody listens.
async fn flood(
    attacker: Attacker,
    path: &'static str,
    body: fn(&Attacker) -> Value,
) -> Result<End> {
    let from = address(attacker.street, 0);
    let end = loop {
        let answer = attacker.door.post(from, path, &body(&attacker)).await?;
        match answer.status {
            200 | 201 | 401 => continue,
            429 => ensure!(answer.header("retry-after").is_some(), "429 without Retry-After"),
            _ => {}
        }
        break End::Status(answer.status);
    };
    tokio::spawn(async move {
        let until = Instant::now() + GOES_ON;
        while Instant::now() < until {
            let _refused = attacker.door.post(from, path, &body(&attacker)).await;
        }
    });
    Ok(end)
}
