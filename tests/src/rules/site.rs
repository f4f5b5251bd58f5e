//! What the server says in HTTP: the page, its headers, and who may open a WebSocket.

use crate::raw::Answer;
use crate::scenario::{Check, Needs, Scenario};
use crate::scene::{Scene, status};

const SITE: Scenario = Scenario::of(2, "implementation/step2.html");

const ORIGIN_HINT: &str = "Compare the whole origin: its host and port with the `Host` header, or all of it with the list. No `starts_with`, no `contains`.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the_page_is_served",
        sentence: "The page is served",
        expected: "status 200 and HTML at /",
        hint: "`warp::fs::dir` serves a folder, with `index.html` at `/`.",
        run: |scene| Box::pin(page(scene)),
        ..SITE
    },
    Scenario {
        name: "the_page_runs_no_smuggled_script",
        sentence: "The page's headers keep a smuggled script from running",
        expected: "a Content-Security-Policy with default-src 'self' and without 'unsafe-inline', and X-Content-Type-Options: nosniff",
        hint: "`warp::reply::with::header` puts a header on every answer of the routes before it.",
        run: |scene| Box::pin(headers(scene)),
        ..SITE
    },
    Scenario {
        name: "what_is_not_there_is_a_404",
        sentence: "What is not there is a 404",
        expected: "status 404",
        hint: "A path that no filter matches is a 404: is there a filter that matches too much?",
        run: |scene| Box::pin(not_found(scene)),
        ..SITE
    },
    Scenario {
        name: "only_an_upgrade_gets_through_at_ws",
        sentence: "What is no WebSocket handshake gets an HTTP error at /ws",
        expected: "a status from 400 to 499 for POST, and for GET without an upgrade",
        hint: "`warp::ws()` refuses both by itself; turn its rejections into answers in `recover`.",
        run: |scene| Box::pin(no_upgrade(scene)),
        ..SITE
    },
    Scenario {
        name: "pages_of_this_server_may_connect",
        sentence: "Pages of this server may connect",
        expected: "status 101 for an Origin with the server's own host and port",
        hint: ORIGIN_HINT,
        run: |scene| Box::pin(own_page(scene)),
        ..SITE
    },
    Scenario {
        name: "pages_of_other_sites_may_not_connect",
        sentence: "Pages of other sites may not connect",
        expected: "status 403 before the upgrade",
        hint: "A browser lets every page open a WebSocket to every server. Look at the `Origin` header and refuse those that are not yours.",
        run: |scene| Box::pin(foreign_page(scene)),
        ..SITE
    },
    Scenario {
        name: "look_alike_origins_may_not_connect",
        sentence: "Origins that look like this server's may not connect",
        expected: "status 403 before the upgrade",
        hint: ORIGIN_HINT,
        run: |scene| Box::pin(look_alikes(scene)),
        ..SITE
    },
    Scenario {
        name: "origins_on_the_list_may_connect",
        sentence: "Origins in ALLOWED_ORIGINS may connect, and nothing that looks like them",
        expected: "status 101 for each origin on the list, status 403 for its look-alikes",
        hint: ORIGIN_HINT,
        needs: Needs::Program,
        run: |scene| Box::pin(listed(scene)),
        ..SITE
    },
];

async fn page(scene: &mut Scene) -> Check {
    let answer = scene.http("GET", "/", &[]).await?;
    let is_html = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    let has_page = answer.body.to_ascii_lowercase().contains("<!doctype html>");
    scene.journal.wait_for("status 200, a Content-Type of text/html and an HTML page");
    expect(scene, &answer, answer.status == 200 && is_html && has_page)
}

async fn headers(scene: &mut Scene) -> Check {
    let answer = scene.http("GET", "/", &[]).await?;
    let policy = answer.header("content-security-policy").unwrap_or_default();
    let is_strict = policy.contains("default-src 'self'") && !policy.contains("unsafe");
    scene.journal.wait_for("a strict Content-Security-Policy");
    expect_header(scene, "Content-Security-Policy", policy, is_strict)?;
    let kinds = answer.header("x-content-type-options").unwrap_or_default();
    scene.journal.wait_for("X-Content-Type-Options: nosniff");
    expect_header(scene, "X-Content-Type-Options", kinds, kinds == "nosniff")
}

async fn not_found(scene: &mut Scene) -> Check {
    for path in ["/nothing-here", "/../Cargo.toml", "/%2e%2e/%2e%2e/Cargo.toml"] {
        let answer = scene.http("GET", path, &[]).await?;
        scene.journal.wait_for("status 404, or 400 for a strange path");
        expect(scene, &answer, [404, 400].contains(&answer.status))?;
    }
    Ok(())
}

async fn no_upgrade(scene: &mut Scene) -> Check {
    for method in ["GET", "POST"] {
        let answer = scene.http(method, "/ws", &[("Content-Length", "0")]).await?;
        scene.journal.wait_for("a status from 400 to 499");
        expect(scene, &answer, (400..500).contains(&answer.status))?;
    }
    Ok(())
}

async fn own_page(scene: &mut Scene) -> Check {
    let origin = format!("http://{}", scene.address());
    scene.wire_at("a page", scene.path(), &[("Origin", &origin)]).await?;
    // Behind a proxy that speaks TLS, the page's origin is https and the host is the public one.
    let public = [("Host", "chat.example"), ("Origin", "https://chat.example")];
    scene.wire_at("a page", scene.path(), &public).await.map(drop)
}

async fn foreign_page(scene: &mut Scene) -> Check {
    for origin in ["https://evil.example", "http://127.0.0.1:1", "null", "file://"] {
        scene.refused(scene.path(), &[("Origin", origin)], 403).await?;
    }
    Ok(())
}

async fn look_alikes(scene: &mut Scene) -> Check {
    let own = scene.address().to_owned();
    let look_alikes = [
        format!("http://{own}.evil.example"),
        format!("http://evil.example.{own}"),
        format!("http://evil{own}"),
        format!("http://{own}0"),
        format!("http://evil.example/?http://{own}"),
        format!("http://{own}@evil.example"),
        own,
    ];
    for origin in look_alikes {
        scene.refused(scene.path(), &[("Origin", &origin)], 403).await?;
    }
    Ok(())
}

async fn listed(scene: &mut Scene) -> Check {
    scene.start(&[("ALLOWED_ORIGINS", "https://chat.example,http://localhost:3000")]).await?;
    for origin in ["https://chat.example", "http://localhost:3000"] {
        scene.wire_at("a page", scene.path(), &[("Origin", origin)]).await?;
    }
    let look_alikes = [
        "https://chat.example.evil.example",
        "https://evil-chat.example",
        "http://chat.example",
        "https://chat.example:444",
        "http://localhost:30000",
        "https://chat.example,http://localhost:3000",
    ];
    for origin in look_alikes {
        scene.refused(scene.path(), &[("Origin", origin)], 403).await?;
    }
    Ok(())
}

fn expect(scene: &Scene, answer: &Answer, right: bool) -> Check {
    if right { Ok(()) } else { Err(scene.mismatch(&status(answer))) }
}

fn expect_header(scene: &Scene, name: &str, value: &str, right: bool) -> Check {
    let got = if value.is_empty() { format!("no {name}") } else { format!("{name}: {value}") };
    if right { Ok(()) } else { Err(scene.mismatch(&got)) }
}
