//! Guessing: how often one may try to sign in, or to register.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::raw::Answer;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::{Scene, status};

/// How many failed sign-ins an account and an address may have at once.
const FOR_AN_ACCOUNT: usize = 10;
const FOR_AN_ADDRESS: usize = 30;

/// How many registrations an address may have at once.
const REGISTRATIONS: usize = 200;

/// How often another one comes back.
const ONE_MORE: Duration = Duration::from_secs(6);

/// How many more are tried than there may be, and how many at the same time.
const MORE: usize = 8;
const AT_ONCE: usize = 6;

const GUESSING: Scenario = Scenario {
    needs: Needs::Program,
    limit: SLOW,
    ..Scenario::of(5, "production/rate-limits.html")
};

const EXPECTED: &str = "status 429 with `rate_limited`, `Retry-After` and `retry_after`";
const GUESSING_HINT: &str = "A token bucket (`governor`) for each account and one for each address, asked before the password is looked at: ten failures, and one more every six seconds.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "guessing_a_password_gets_slow",
        sentence: "Guessing a password gets slow after ten failures, and then even the right one has to wait",
        expected: EXPECTED,
        hint: GUESSING_HINT,
        run: |scene| Box::pin(one_account(scene)),
        ..GUESSING
    },
    Scenario {
        name: "guessing_from_many_addresses_gets_slow_too",
        sentence: "Guessing one password from many addresses gets slow too",
        expected: EXPECTED,
        hint: GUESSING_HINT,
        run: |scene| Box::pin(many_addresses(scene)),
        ..GUESSING
    },
    Scenario {
        name: "guessing_at_many_accounts_gets_slow_for_the_address",
        sentence: "Guessing at many accounts gets slow for the address, and for no other",
        expected: EXPECTED,
        hint: GUESSING_HINT,
        run: |scene| Box::pin(many_accounts(scene)),
        ..GUESSING
    },
    Scenario {
        name: "signing_in_rightly_is_not_slowed_down",
        sentence: "Who signs in with the right password may do so often",
        expected: "status 200 for thirty sign-ins one after the other",
        hint: "Take a token for a failure, not for a try.",
        run: |scene| Box::pin(right_is_free(scene)),
        ..GUESSING
    },
    Scenario {
        name: "an_address_registers_200_accounts_and_then_slowly",
        sentence: "An address may try to register 200 times at once, and then once a second",
        expected: EXPECTED,
        hint: "A bucket for each address, asked before the password is hashed: a hash is the most expensive thing that a stranger can ask for.",
        alone: true,
        run: |scene| Box::pin(registrations(scene)),
        ..GUESSING
    },
];

const LIMITED: (&str, &str) = ("RATE_LIMIT", "on");

/// A try to sign in with a wrong password.
pub(crate) async fn guess(scene: &Scene, base: &str, headers: &[(&str, &str)]) -> Check<Answer> {
    let body = json!({"name": scene.name(base), "password": "a wrong guess"});
    scene.post("/api/login", headers, &body).await
}

/// An answer must say that it is too much, and when it will not be.
pub(crate) fn is_limited(scene: &Scene, answer: &Answer) -> Check<Duration> {
    let error = scene.is_error(answer, 429, "rate_limited")?;
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    let millis = error.get("retry_after").and_then(Value::as_u64);
    scene.journal.wait_for("Retry-After in seconds, and retry_after in milliseconds");
    match (seconds, millis) {
        (Some(seconds @ 1..), Some(millis @ 1..)) if seconds == millis.div_ceil(1000) => {
            Ok(Duration::from_millis(millis))
        }
        _ => Err(scene.mismatch(&format!("Retry-After {seconds:?}, {}", status(answer)))),
    }
}

/// There must have been so many failures, and those that have come back since, before it was too much.
fn until_limited(
    scene: &Scene,
    answers: &[Answer],
    wanted: usize,
    began: Instant,
) -> Check<Duration> {
    let failed = answers.iter().filter(|answer| answer.status == 401).count();
    let back = usize::try_from(began.elapsed().as_secs() / ONE_MORE.as_secs()).unwrap_or_default();
    // Those that are being checked in the moment of the last one still count.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let most = wanted + back + at_once;
    scene.journal.wait_for(&format!("{wanted} to {most} times 401, then 429"));
    match answers.iter().find(|answer| answer.status != 401) {
        Some(answer) if (wanted..=most).contains(&failed) => is_limited(scene, answer),
        Some(answer) => Err(scene.mismatch(&format!("{failed} times 401, {}", status(answer)))),
        None => Err(scene.mismatch(&format!("{failed} times 401"))),
    }
}

/// So many guesses, some of them at the same time.
async fn guesses<F: Future<Output = Check<Answer>>>(
    count: usize,
    guess: impl Fn(usize) -> F,
) -> Check<Vec<Answer>> {
    stream::iter((0..count).map(guess)).buffer_unordered(AT_ONCE).try_collect().await
}

async fn one_account(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    scene.register("ada").await?;
    scene.register("grace").await?;
    let began = Instant::now();
    let answers = guesses(FOR_AN_ACCOUNT + MORE, |_| guess(scene, "ada", &[])).await?;
    until_limited(scene, &answers, FOR_AN_ACCOUNT, began)?;
    // Neither does the right password help, nor another way to sign in, nor another spelling.
    for path in ["/api/login", "/api/token"] {
        let answer = scene.post(path, &[], &scene.credentials("ada")).await?;
        is_limited(scene, &answer)?;
    }
    let body = json!({"name": scene.name("ADA"), "password": scene.password("ada")});
    let pause = is_limited(scene, &scene.post("/api/login", &[], &body).await?)?;
    // Others are not concerned.
    scene.sign_in("grace").await?;
    if pause > Duration::from_secs(7) {
        return Err(scene.mismatch(&format!("retry_after {pause:?}")));
    }
    sleep(pause).await;
    scene.sign_in("ada").await.map(drop)
}

async fn many_addresses(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED, ("TRUSTED_PROXIES", "127.0.0.1/32")]).await?;
    scene.register("ada").await?;
    let (began, scene): (_, &Scene) = (Instant::now(), scene);
    let answers = guesses(FOR_AN_ACCOUNT + MORE, |number| async move {
        let address = format!("203.0.113.{number}");
        guess(scene, "ada", &[("X-Forwarded-For", &address)]).await
    });
    until_limited(scene, &answers.await?, FOR_AN_ACCOUNT, began).map(drop)
}

async fn many_accounts(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED, ("TRUSTED_PROXIES", "127.0.0.1/32")]).await?;
    scene.register("ada").await?;
    let there = [("X-Forwarded-For", "203.0.113.1")];
    let (began, scene, there): (_, &Scene, _) = (Instant::now(), scene, &there);
    let answers = guesses(FOR_AN_ADDRESS + MORE, |number| async move {
        guess(scene, &format!("nobody{number}"), there).await
    });
    until_limited(scene, &answers.await?, FOR_AN_ADDRESS, began)?;
    // The same account from there and from elsewhere.
    let body = scene.credentials("ada");
    is_limited(scene, &scene.post("/api/login", there, &body).await?)?;
    let elsewhere = [("X-Forwarded-For", "203.0.113.2")];
    let answer = scene.post("/api/login", &elsewhere, &body).await?;
    scene.has_status(&answer, 200)
}

async fn right_is_free(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    scene.register("ada").await?;
    for _ in 0..30 {
        scene.sign_in("ada").await?;
    }
    Ok(())
}

async fn registrations(scene: &mut Scene) -> Check {
    scene.start(&[LIMITED]).await?;
    let began = Instant::now();
    scene.register("ada").await?;
    // A name that is taken costs no hash, but tells who is registered: it is a try like any other.
    let body = scene.credentials("ada");
    let register = |_| scene.post("/api/register", &[], &body);
    let answers = guesses(REGISTRATIONS + 200, register).await?;
    let taken = answers.iter().filter(|answer| answer.status == 409).count() + 1;
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap_or_default();
    let most = REGISTRATIONS + seconds + 1;
    scene.journal.wait_for(&format!("{REGISTRATIONS} to {most} answers, and then 429"));
    if !(REGISTRATIONS..=most).contains(&taken) {
        return Err(scene.mismatch(&format!("{taken} answers")));
    }
    let refused = answers.iter().find(|answer| answer.status != 409);
    let refused = refused.ok_or_else(|| scene.mismatch("no refusal"))?;
    is_limited(scene, refused).map(drop)
}
