//! To register, to sign in, and what one holds in one's hands then: a cookie or a token.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::are_the_same;
use crate::accounts::JSON;
use crate::event::text;
use crate::raw::Answer;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::{Scene, status};

/// How long a session may last at most, in milliseconds: 30 days, and some for clocks.
const LONGEST: u64 = (30 * 24 + 1) * 3_600_000;

const ACCOUNT: Scenario = Scenario::of(5, "production/authentication.html");

const SAME_HINT: &str = "For a name that nobody has, check the password against a fixed hash, and answer like for a wrong one.";
const COOKIE_HINT: &str = "`Set-Cookie: session-PORT=…; Path=/; HttpOnly; SameSite=Lax; Max-Age=…`: one jar serves all ports of a host, so the port is in the name.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "who_registers_is_signed_in",
        sentence: "Who registers is signed in",
        expected: "status 201 with `{\"name\":…}` and a cookie, and with that cookie status 200 at /api/me",
        hint: "Make the account, then begin a session as for a sign-in.",
        run: |scene| Box::pin(registers(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "who_signs_in_gets_a_cookie",
        sentence: "Who signs in with the right password gets a cookie",
        expected: "status 200 with `{\"name\":…}` and a cookie that is good at /api/me, /ws and /events; 401 for a wrong password",
        hint: "Keep a hash of the password (argon2id), compare, and begin a session.",
        run: |scene| Box::pin(signs_in(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "a_program_gets_a_token",
        sentence: "A program gets a token instead of a cookie",
        expected: "status 200 with a `token` of 64 hex digits and `expires_at`, no Set-Cookie; and the token is good wherever a cookie is",
        hint: "The same session as for a page. Only the way it is handed over is another.",
        run: |scene| Box::pin(token(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "a_cookie_is_out_of_reach_of_scripts_and_other_sites",
        sentence: "The cookie is out of the reach of scripts and of other sites",
        expected: "a cookie `session-PORT` with Path=/, HttpOnly, SameSite=Lax and Max-Age, and no Domain",
        hint: COOKIE_HINT,
        run: |scene| Box::pin(cookie(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "behind_tls_the_cookie_stays_there",
        sentence: "Behind TLS the cookie never leaves it",
        expected: "`__Host-session` with Secure where a listed origin begins with https:// or a trusted proxy says so; no Secure on the word of anybody else",
        hint: "Set `Secure` if the accepted Origin begins with https://, or a proxy in TRUSTED_PROXIES says `X-Forwarded-Proto: https`.",
        needs: Needs::Program,
        run: |scene| Box::pin(secure(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "each_sign_in_is_a_session_of_its_own",
        sentence: "Each sign-in is a session of its own, whatever cookie came with it",
        expected: "another token for each sign-in, and no use of a cookie that the client chose",
        hint: "Make the token when the password was right, from a random source, and never take one from the request.",
        run: |scene| Box::pin(fixation(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "a_password_has_8_to_256_characters",
        sentence: "A password has 8 to 256 characters, of any kind",
        expected: "status 201 for 8 and for 256 characters, `bad_password` for 7, for 257 and for 2,000",
        hint: "Count characters before you hash: a hash takes longer for a longer password.",
        run: |scene| Box::pin(passwords(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "a_password_is_taken_letter_by_letter",
        sentence: "A password is taken letter by letter",
        expected: "status 401 for the password in upper case, with a space at its end, or cut short",
        hint: "Don't trim, fold or cut a password before it is hashed.",
        run: |scene| Box::pin(letter_by_letter(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "a_bad_body_is_told",
        sentence: "A request with a bad body is told what is wrong with it",
        expected: "status 400 with `bad_json` or `bad_name`, 413 for more than 64 KiB, and a server that goes on",
        hint: "`serde_json::from_slice` gives an `Err` for all of these; limit the length before you read the body.",
        run: |scene| Box::pin(bad_bodies(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "an_unknown_name_and_a_wrong_password_get_the_same_answer",
        sentence: "An unknown name and a wrong password get the same answer, to the byte",
        expected: "status 401 with the same headers and the same body",
        hint: SAME_HINT,
        run: |scene| Box::pin(same_answer(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "an_unknown_name_takes_as_long_as_a_wrong_password",
        sentence: "An unknown name takes as long as a wrong password",
        expected: "medians of interleaved tries that differ by less than half",
        hint: SAME_HINT,
        alone: true,
        limit: SLOW,
        run: |scene| Box::pin(same_time(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "accounts_and_sessions_outlive_a_kill",
        sentence: "Accounts and sessions outlive a kill",
        expected: "after kill -9 a token that is still good, a password that still is, and a name that is still taken",
        hint: "Both belong in the data file; the session as the SHA-256 of its token.",
        needs: Needs::Program,
        run: |scene| Box::pin(outlive(scene)),
        ..ACCOUNT
    },
    Scenario {
        name: "no_token_is_in_the_data",
        sentence: "Neither tokens nor passwords are in the data",
        expected: "files in DATA_DIR without the token, the cookie's value and the password",
        hint: "Store the SHA-256 of a token, and the argon2id hash of a password.",
        needs: Needs::File,
        run: |scene| Box::pin(not_in_the_data(scene)),
        ..ACCOUNT
    },
];

async fn registers(scene: &mut Scene) -> Check {
    let answer = scene.post("/api/register", &[], &scene.credentials("ada")).await?;
    let body = scene.json(&answer, 201)?;
    if body != json!({"name": scene.name("ada")}) {
        return Err(scene.mismatch(&status(&answer)));
    }
    let cookie = scene.cookie_of(&answer)?;
    is_ada(scene, &[("Cookie", &cookie)]).await
}

async fn signs_in(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let headers = [("Cookie", cookie.as_str())];
    is_ada(scene, &headers).await?;
    let wire = scene.wire_at("ada", "/ws", &headers).await?;
    let name = wire.welcome.as_ref().map(|welcome| text(welcome, "name").to_owned());
    if name != Some(scene.name("ada")) {
        return Err(scene.mismatch(&format!("{:?}", wire.welcome)));
    }
    // Browsers send the cookies of other programs on this host along.
    let among_others = format!("theme=dark; {cookie}; a=b=c");
    is_ada(scene, &[("Cookie", &among_others)]).await?;
    for wrong in ["not the password", ""] {
        let body = json!({"name": scene.name("ada"), "password": wrong});
        for path in ["/api/login", "/api/token"] {
            let answer = scene.post(path, &[], &body).await?;
            scene.is_error(&answer, 401, "unauthorized")?;
            has_no_cookie(scene, &answer)?;
        }
    }
    Ok(())
}

/// Whoever asks with these headers must be ada.
async fn is_ada(scene: &Scene, headers: &[(&str, &str)]) -> Check {
    let answer = scene.http("GET", "/api/me", headers).await?;
    let body = scene.json(&answer, 200)?;
    if body == json!({"name": scene.name("ada")}) {
        return Ok(());
    }
    Err(scene.mismatch(&status(&answer)))
}

fn has_no_cookie(scene: &Scene, answer: &Answer) -> Check {
    match answer.header("set-cookie") {
        None => Ok(()),
        Some(cookie) => Err(scene.mismatch(&format!("Set-Cookie: {cookie}"))),
    }
}

async fn token(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let answer = scene.post("/api/token", &[], &scene.credentials("ada")).await?;
    let body = scene.json(&answer, 200)?;
    has_no_cookie(scene, &answer)?;
    let token = text(&body, "token");
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let left = body.get("expires_at").and_then(Value::as_u64).unwrap_or_default();
    let left = left.saturating_sub(now());
    scene.journal.wait_for("64 hex digits, and an `expires_at` within the next 30 days");
    if token.len() != 64 || !token.chars().all(is_hex) || left == 0 || left > LONGEST {
        return Err(scene.mismatch(&status(&answer)));
    }
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    is_ada(scene, &headers).await?;
    scene.wire_at("ada", "/ws", &headers).await.map(drop)
}

/// The time in milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The attributes of the cookie in an answer, the first of them its name and value.
fn attributes(answer: &Answer) -> Vec<String> {
    let cookie = answer.header("set-cookie").unwrap_or_default();
    cookie.split(';').map(|part| part.trim().to_owned()).collect()
}

async fn cookie(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let port = scene.address().rsplit(':').next().unwrap_or_default().to_owned();
    let named =
        [(&[] as &[_], format!("session-{port}=")), (&[("Host", "localhost")], "session=".into())];
    for (headers, start) in named {
        let answer = scene.post("/api/login", headers, &scene.credentials("ada")).await?;
        scene.json(&answer, 200)?;
        let parts = attributes(&answer);
        let has = |wanted: &str| parts.iter().any(|part| part.eq_ignore_ascii_case(wanted));
        let begins =
            |wanted: &str| parts.iter().any(|part| part.to_lowercase().starts_with(wanted));
        let is_right = parts.first().is_some_and(|first| first.starts_with(&start))
            && has("Path=/")
            && has("HttpOnly")
            && (has("SameSite=Lax") || has("SameSite=Strict"))
            && begins("max-age=")
            && !begins("domain")
            // No browser keeps a cookie with Secure from a page without TLS on another host.
            && !has("Secure");
        if !is_right {
            scene.journal.wait_for(&format!("a cookie {start}… with its attributes"));
            return Err(scene.mismatch(&parts.join("; ")));
        }
    }
    Ok(())
}

async fn secure(scene: &mut Scene) -> Check {
    let settings =
        [("ALLOWED_ORIGINS", "https://chat.example"), ("TRUSTED_PROXIES", "10.1.2.3/32")];
    scene.start(&settings).await?;
    scene.register("ada").await?;
    let page = ("Origin", "https://chat.example");
    let host = ("Host", "chat.example");
    is_secure(scene, &[host, page], true).await?;
    // This one is no proxy that the server knows.
    is_secure(scene, &[host, ("X-Forwarded-Proto", "https")], false).await?;
    scene.again_with(&[("TRUSTED_PROXIES", "127.0.0.0/8")]).await?;
    is_secure(scene, &[host, ("X-Forwarded-Proto", "https")], true).await?;
    is_secure(scene, &[host, ("X-Forwarded-Proto", "http")], false).await
}

/// A sign-in with these headers must set a cookie for TLS alone, or one without TLS.
async fn is_secure(scene: &Scene, headers: &[(&str, &str)], wanted: bool) -> Check {
    let answer = scene.post("/api/login", headers, &scene.credentials("ada")).await?;
    scene.json(&answer, 200)?;
    let parts = attributes(&answer);
    let secure = parts.iter().any(|part| part.eq_ignore_ascii_case("secure"));
    let prefixed = parts.first().is_some_and(|first| first.starts_with("__Host-session="));
    if secure == wanted && prefixed == wanted {
        let cookie = scene.cookie_of(&answer)?;
        let own = [("Cookie", cookie.as_str())];
        return is_ada(scene, &[headers, &own].concat()).await;
    }
    scene.journal.wait_for(if wanted { "__Host-session=… with Secure" } else { "no Secure" });
    Err(scene.mismatch(&parts.join("; ")))
}

async fn fixation(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let first = scene.sign_in_by_cookie("ada").await?;
    let name = first.split('=').next().unwrap_or_default().to_owned();
    let chosen = format!("{name}={}", "0f".repeat(32));
    let body = scene.credentials("ada");
    let mut seen = vec![first.clone(), chosen.clone()];
    for sent in [first, chosen.clone()] {
        let answer = scene.post("/api/login", &[("Cookie", &sent)], &body).await?;
        scene.json(&answer, 200)?;
        let cookie = scene.cookie_of(&answer)?;
        scene.journal.wait_for("another cookie");
        if seen.contains(&cookie) {
            return Err(scene.mismatch(&cookie));
        }
        is_ada(scene, &[("Cookie", &cookie)]).await?;
        seen.push(cookie);
    }
    let answer = scene.http("GET", "/api/me", &[("Cookie", &chosen)]).await?;
    scene.is_error(&answer, 401, "unauthorized").map(drop)
}

async fn passwords(scene: &mut Scene) -> Check {
    let bad = ["x".repeat(7), "ж".repeat(7), String::new(), "x".repeat(257), "x".repeat(2_000)];
    for (number, password) in bad.iter().enumerate() {
        let body = json!({"name": scene.name(&format!("bad{number}")), "password": password});
        let answer = scene.post("/api/register", &[], &body).await?;
        scene.is_error(&answer, 400, "bad_password")?;
    }
    let good = ["x".repeat(8), "🦀".repeat(8), "ж".repeat(256), " spaces around it ".to_owned()];
    for (number, password) in good.iter().enumerate() {
        let body = json!({"name": scene.name(&format!("good{number}")), "password": password});
        let answer = scene.post("/api/register", &[], &body).await?;
        scene.has_status(&answer, 201)?;
        let answer = scene.post("/api/token", &[], &body).await?;
        scene.has_status(&answer, 200)?;
    }
    Ok(())
}

async fn letter_by_letter(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let right = scene.password("ada");
    let short: String = right.chars().take(right.len() - 1).collect();
    for wrong in [right.to_uppercase(), format!("{right} "), format!("{right}\u{0}"), short] {
        let body = json!({"name": scene.name("ada"), "password": wrong});
        let answer = scene.post("/api/login", &[], &body).await?;
        scene.is_error(&answer, 401, "unauthorized")?;
    }
    Ok(())
}

async fn bad_bodies(scene: &mut Scene) -> Check {
    let broken = [
        "{",
        "",
        "[]",
        "null",
        "{}",
        "{\"name\":\"ada\"}",
        "{\"name\":7,\"password\":\"long enough\"}",
        "{\"name\":\"ada\",\"password\":{\"$ne\":null}}",
    ];
    for path in ["/api/register", "/api/login", "/api/token"] {
        for body in broken {
            let length = if body.is_empty() { vec![("Content-Length", "0")] } else { vec![] };
            let headers = [&[JSON], length.as_slice()].concat();
            let answer = scene.http_with("POST", path, &headers, body).await?;
            scene.is_error(&answer, 400, "bad_json")?;
        }
        let long = json!({"name": "ada", "password": "x".repeat(70_000)});
        let answer = scene.post(path, &[], &long).await?;
        scene.has_status(&answer, 413)?;
    }
    let body = json!({"name": "not a name!", "password": scene.password("ada")});
    let answer = scene.post("/api/register", &[], &body).await?;
    scene.is_error(&answer, 400, "bad_name")?;
    scene.token("ada").await.map(drop)
}

async fn same_answer(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    for path in ["/api/login", "/api/token"] {
        let [unknown, wrong] = [tries(scene, "nobody"), tries(scene, "ada")];
        let mut answers =
            [scene.post(path, &[], &unknown).await?, scene.post(path, &[], &wrong).await?];
        for answer in &mut answers {
            scene.is_error(answer, 401, "unauthorized")?;
            answer.headers.retain(|(name, _)| name != "date");
        }
        are_the_same(scene, &answers)?;
    }
    Ok(())
}

/// A try with a wrong password.
fn tries(scene: &Scene, base: &str) -> Value {
    json!({"name": scene.name(base), "password": "certainly not this one"})
}

async fn same_time(scene: &mut Scene) -> Check {
    const ROUNDS: usize = 3;
    scene.register("ada").await?;
    let mut came = String::new();
    // On a busy machine one round may be off. Without the same work for both, each is, and by far.
    for _ in 0..ROUNDS {
        let (unknown, wrong) = medians(scene).await?;
        if unknown.max(wrong) < 1.5 * unknown.min(wrong) + 1.0 {
            return Ok(());
        }
        came = format!("{unknown:.1} ms for an unknown name, {wrong:.1} ms for a wrong password");
    }
    scene.journal.wait_for("about the same time for both");
    Err(scene.mismatch(&came))
}

/// How long interleaved tries take, in milliseconds: with an unknown name, and with a wrong password.
async fn medians(scene: &Scene) -> Check<(f64, f64)> {
    const TRIES: usize = 15;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TRIES {
        for (base, times) in ["nobody", "ada"].iter().zip(&mut times) {
            let began = std::time::Instant::now();
            let answer = scene.post("/api/login", &[], &tries(scene, base)).await?;
            times.push(began.elapsed());
            scene.is_error(&answer, 401, "unauthorized")?;
        }
    }
    let [unknown, wrong] = times.map(|mut times| {
        times.sort();
        times.get(TRIES / 2).copied().unwrap_or_default().as_secs_f64() * 1000.0
    });
    Ok((unknown, wrong))
}

async fn outlive(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let bearer = scene.bearer("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    scene.kill_and_restart().await?;
    is_ada(scene, &[("Authorization", &bearer)]).await?;
    // The name in the cookie has the port that the server had before.
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    let port = scene.address().rsplit(':').next().unwrap_or_default();
    is_ada(scene, &[("Cookie", &format!("session-{port}={value}"))]).await?;
    scene.sign_in("ada").await?;
    let other = json!({"name": scene.name("ADA"), "password": "another password"});
    let answer = scene.post("/api/register", &[], &other).await?;
    scene.is_error(&answer, 409, "name_taken")?;
    let answer = scene.post("/api/login", &[], &other).await?;
    scene.is_error(&answer, 401, "unauthorized").map(drop)
}

async fn not_in_the_data(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let token = scene.token("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    // Half of one would be as bad.
    let half = |secret: &str| secret.chars().take(32).collect::<String>();
    let secrets = [half(&token), half(value), scene.password("ada")];
    let files = std::fs::read_dir(scene.data()).into_iter().flatten().flatten();
    let contents: Vec<Vec<u8>> = files.filter_map(|file| std::fs::read(file.path()).ok()).collect();
    scene.journal.wait_for("a data file with the account in it, and without its secrets");
    let holds = |wanted: &str| {
        contents
            .iter()
            .any(|bytes| bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes()))
    };
    if !holds(&scene.name("ada")) {
        return Err(scene.mismatch("no data file that holds the name"));
    }
    match secrets.iter().find(|secret| holds(secret)) {
        None => Ok(()),
        Some(secret) => Err(scene.mismatch(&format!("\"{secret}\" in a data file"))),
    }
}
