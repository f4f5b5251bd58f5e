//! Sessions: nothing without one, and what ends one.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::accounts::JSON;
use crate::client::Client;
use crate::event::text;
use crate::rules::still_talks;
use crate::scenario::{Check, Needs, SLOW, Scenario};
use crate::scene::{Scene, status};
use crate::step4::fallback::Caller;
use crate::stream::{Asked, Stream};

/// How soon connections end after their session, with some room for a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// How long sessions last in these scenarios.
const SHORT: Duration = Duration::from_secs(3);

const SESSION: Scenario = Scenario::of(5, "production/authentication.html");

const END_HINT: &str = "Each connection holds a token of its session's (`CancellationToken`) and a deadline, and ends when either comes: 4501.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "nobody_gets_in_without_a_session",
        sentence: "Nobody gets in without a session, by any way",
        expected: "status 401 with `unauthorized` at /ws, /hello, /events, /api/me and /api/search, without a token and with any that is not good",
        hint: "One function that finds the session of a request, called by every route before anything else.",
        run: |scene| Box::pin(nobody(scene)),
        ..SESSION
    },
    Scenario {
        name: "what_names_a_client_signs_nobody_in",
        sentence: "The session in `welcome` names a client, and signs nobody in",
        expected: "status 401 for `Bearer` and that session, and for it in the address",
        hint: "Look tokens up by their SHA-256; a client's name is in another map.",
        run: |scene| Box::pin(names_a_client(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_token_in_the_address_signs_nobody_in",
        sentence: "A token in the address signs nobody in",
        expected: "status 401 for a good token in `?token=`, `?session=`, `?access_token=` or as the name before an @",
        hint: "Addresses end up in logs, histories and `Referer`. Take the token from the header or the cookie only.",
        run: |scene| Box::pin(in_the_address(scene)),
        ..SESSION
    },
    Scenario {
        name: "who_signs_out_is_out",
        sentence: "Who signs out is out, and the browser forgets the cookie",
        expected: "status 204, a Set-Cookie that ends the cookie, and 401 for the cookie from then on",
        hint: "Delete the session from the store. A cookie that is only cleared in the browser is still good for who has copied it.",
        run: |scene| Box::pin(signs_out(scene)),
        ..SESSION
    },
    Scenario {
        name: "signing_out_needs_no_body",
        sentence: "Signing out needs no body",
        expected: "status 204 without a body and a Content-Type, and with both",
        hint: "There is nothing to read: don't ask for a Content-Type where there is no body.",
        run: |scene| Box::pin(needs_no_body(scene)),
        ..SESSION
    },
    Scenario {
        name: "signing_out_ends_that_session_s_connections_and_no_others",
        sentence: "Signing out ends that session's connections, and no others",
        expected: "within 2 seconds 4501 for its WebSockets and the end of its streams; the same user's other sessions go on",
        hint: END_HINT,
        run: |scene| Box::pin(ends_connections(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_session_that_is_over_ends_its_connections",
        sentence: "A session that is over ends its connections, however busy they are",
        expected: "with SESSION_MAX=3s, 4501 after 3 seconds and within 2 more, and 401 for the token",
        hint: END_HINT,
        needs: Needs::Program,
        run: |scene| Box::pin(is_over(scene)),
        ..SESSION
    },
    Scenario {
        name: "a_session_that_nobody_uses_ends",
        sentence: "A session that nobody uses ends; an open connection is use",
        expected: "with SESSION_IDLE=3s, 401 after 3 seconds without use, and a good session as long as a connection is open",
        hint: "Write down when a session was used last; not at each request, but often enough.",
        needs: Needs::Program,
        limit: SLOW,
        run: |scene| Box::pin(idle(scene)),
        ..SESSION
    },
];

async fn nobody(scene: &mut Scene) -> Check {
    let good = scene.token("ada").await?;
    let changed: String = good.chars().rev().map(|c| if c == '0' { '1' } else { '0' }).collect();
    let tokens = [
        String::new(),
        format!("Bearer {changed}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "0".repeat(64)),
        format!("Bearer {}", good.get(..63).unwrap_or_default()),
        format!("Bearer {good}0"),
        format!("Bearer %{good}"),
        format!("Bearer {}", Uuid::new_v4()),
        format!("Basic {good}"),
        format!("Bearer {}", "x".repeat(4000)),
    ];
    for token in &tokens {
        let headers =
            if token.is_empty() { vec![] } else { vec![("Authorization", token.as_str())] };
        is_refused(scene, &headers).await?;
    }
    let port = scene.address().rsplit(':').next().unwrap_or_default().to_owned();
    for cookie in [
        format!("session-{port}={changed}"),
        format!("session-{port}="),
        // The right value in a cookie of another name.
        format!("sid={good}"),
    ] {
        is_refused(scene, &[("Cookie", &cookie)]).await?;
    }
    Ok(())
}

/// Whoever asks with these headers must get nowhere.
async fn is_refused(scene: &Scene, headers: &[(&str, &str)]) -> Check {
    let opened = scene.ask_as_it_is("/ws", headers).await?;
    let answer = scene.was_refused(opened, 401)?;
    scene.is_error(&answer, 401, "unauthorized")?;
    for path in ["/api/me", "/api/search?room=rust&q=hi"] {
        let answer = scene.http("GET", path, headers).await?;
        scene.is_error(&answer, 401, "unauthorized")?;
    }
    stream_is_refused(scene, "/events?join=rust", headers).await?;
    let hello = json!({"type": "hello", "name": scene.name("ada")});
    let message = json!({"type": "message", "id": Uuid::new_v4(), "room": "rust", "text": "hi"});
    for (path, event) in [("/hello", hello), ("/events", message)] {
        let answer = scene.post(path, headers, &event).await?;
        scene.is_error(&answer, 401, "unauthorized")?;
    }
    Ok(())
}

/// A request for a stream must be refused with 401.
async fn stream_is_refused(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> Check {
    let headers = [&[("Connection", "close")], headers].concat();
    match Stream::ask(scene, "somebody", path, &headers).await? {
        Asked::Refused(answer) if answer.status == 401 => Ok(()),
        Asked::Refused(answer) => Err(scene.mismatch(&status(&answer))),
        Asked::Stream(_) => Err(scene.mismatch("a stream")),
    }
}

async fn names_a_client(scene: &mut Scene) -> Check {
    let ada = scene.connect("ada").await?;
    let session = ada.welcome.as_ref().map(|welcome| text(welcome, "session").to_owned());
    let session = session.unwrap_or_default();
    is_refused(scene, &[("Authorization", &format!("Bearer {session}"))]).await?;
    for path in [format!("/ws?session={session}"), format!("/ws?token={session}")] {
        let opened = scene.ask_as_it_is(&path, &[]).await?;
        scene.was_refused(opened, 401)?;
    }
    stream_is_refused(scene, &format!("/events?session={session}&join=rust"), &[]).await
}

async fn in_the_address(scene: &mut Scene) -> Check {
    let token = scene.token("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let (_, value) = cookie.split_once('=').unwrap_or_default();
    for secret in [token.as_str(), value] {
        for name in ["token", "session", "access_token", "authorization", "bearer"] {
            let opened = scene.ask_as_it_is(&format!("/ws?{name}={secret}"), &[]).await?;
            scene.was_refused(opened, 401)?;
            stream_is_refused(scene, &format!("/events?{name}={secret}&join=rust"), &[]).await?;
            let answer = scene.http("GET", &format!("/api/me?{name}={secret}"), &[]).await?;
            scene.is_error(&answer, 401, "unauthorized")?;
        }
    }
    Ok(())
}

async fn signs_out(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let headers = [("Cookie", cookie.as_str())];
    let answer = scene.http("POST", "/api/logout", &headers).await?;
    scene.has_status(&answer, 204)?;
    let cleared = answer.header("set-cookie").unwrap_or_default().to_lowercase();
    let (name, _) = cookie.split_once('=').unwrap_or_default();
    let is_over = cleared.contains("max-age=0") || cleared.contains("expires=thu, 01 jan 1970");
    scene.journal.wait_for("a Set-Cookie that ends the cookie");
    if !is_over || !cleared.starts_with(name) || !cleared.contains("path=/") {
        return Err(scene.mismatch(&format!("Set-Cookie: {cleared}")));
    }
    is_refused(scene, &headers).await
}

async fn needs_no_body(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let ways: [(&[(&str, &str)], &str); 3] =
        [(&[], ""), (&[("Content-Length", "0")], ""), (&[JSON], "{}")];
    for (headers, body) in ways {
        let bearer = format!("Bearer {}", scene.sign_in("ada").await?);
        let own = [("Authorization", bearer.as_str())];
        let headers = [&own, headers].concat();
        let answer = scene.http_with("POST", "/api/logout", &headers, body).await?;
        scene.has_status(&answer, 204)?;
        is_refused(scene, &own).await?;
    }
    Ok(())
}

async fn ends_connections(scene: &mut Scene) -> Check {
    let mut other_session = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let bearer = format!("Bearer {}", scene.sign_in("ada").await?);
    let headers = [("Authorization", bearer.as_str())];
    let mut ending = [connect_with(scene, &headers).await?, connect_with(scene, &headers).await?];
    let room = scene.name("room");
    let path = format!("/events?join={room}");
    let mut stream = Stream::open(scene, "ada's stream", &path, &headers).await?;
    stream.expect("welcome").await?;

    let answer = scene.http("POST", "/api/logout", &headers).await?;
    scene.has_status(&answer, 204)?;
    let began = Instant::now();
    for client in &mut ending {
        client.expect_close(4501).await?;
    }
    until_end(&mut stream).await?;
    if began.elapsed() > SOON {
        return Err(scene.mismatch(&format!("the end after {:?}", began.elapsed())));
    }
    is_refused(scene, &headers).await?;
    still_talks(&mut other_session).await?;
    grace.expect_field("message", "text", "still here").await.map(drop)
}

/// Connects with headers that say who it is.
pub(crate) async fn connect_with(scene: &Scene, headers: &[(&str, &str)]) -> Check<Client> {
    Ok(Client::new(scene.wire_at("ada", "/ws", headers).await?, scene))
}

/// Reads a stream to its end.
pub(crate) async fn until_end(stream: &mut Stream) -> Check {
    for _ in 0..50 {
        if stream.next("the end of the stream").await?.is_none() {
            return Ok(());
        }
    }
    Err(stream.mismatch("a stream that goes on"))
}

async fn is_over(scene: &mut Scene) -> Check {
    scene.start(&[("SESSION_MAX", "3s")]).await?;
    scene.register("ada").await?;
    let began = Instant::now();
    let mut ada = scene.enter("ada").await?;
    let caller = Caller::hello(scene, "ada").await?;
    let mut stream = caller.listen(scene).await?;
    let mut said = 0;
    // It is in use to the end.
    while began.elapsed() < SHORT - Duration::from_millis(700) {
        ada.store("still here").await?;
        said += 1;
        sleep(Duration::from_millis(200)).await;
    }
    scene.journal.note(&format!("ada said {said} things"));
    ada.expect_close(4501).await?;
    let took = began.elapsed();
    if took < SHORT - Duration::from_millis(500) || took > SHORT + SOON {
        return Err(scene.mismatch(&format!("the end after {took:?}")));
    }
    until_end(&mut stream).await?;
    is_refused(scene, &[("Authorization", &caller.authorization)]).await?;
    scene.sign_in("ada").await.map(drop)
}

async fn idle(scene: &mut Scene) -> Check {
    scene.start(&[("SESSION_IDLE", "3s")]).await?;
    scene.register("ada").await?;
    let unused = format!("Bearer {}", scene.sign_in("ada").await?);
    let unused = [("Authorization", unused.as_str())];
    let mut ada = scene.enter("ada").await?;
    sleep(SHORT + SOON).await;
    is_refused(scene, &unused).await?;
    still_talks(&mut ada).await?;
    let bearer = scene.bearer("ada").await?;
    let answer = scene.http("GET", "/api/me", &[("Authorization", &bearer)]).await?;
    scene.has_status(&answer, 200)
}
