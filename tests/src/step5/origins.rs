//! Whose pages may use this server, and that nobody else's can make a visitor's browser do so.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::raw::Answer;
use crate::scenario::{Check, Needs, Scenario};
use crate::scene::{Scene, status};

const ORIGIN: Scenario = Scenario::of(5, "deep/threat-model.html");

const ORIGIN_HINT: &str = "Compare the whole origin with the list. No `starts_with`, no `contains`, no `Host` that a stranger's name server can choose.";

/// Every address of the server that does something, and how it is asked.
const ROUTES: [(&str, &str); 9] = [
    ("POST", "/api/register"),
    ("POST", "/api/login"),
    ("POST", "/api/token"),
    ("POST", "/api/logout"),
    ("GET", "/api/me"),
    ("GET", "/api/search?room=rust&q=hi"),
    ("POST", "/hello"),
    ("POST", "/events"),
    ("GET", "/events?join=rust"),
];

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pages_of_this_machine_may_connect",
        sentence: "Pages that this server serves on this machine may connect",
        expected: "status 101 for an Origin with the host and port of a request to localhost, 127.x or [::1]",
        hint: "A `Host` on the loopback can't be anybody else's: there the page's own origin needs no list.",
        run: |scene| Box::pin(own_page(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "a_name_that_leads_here_is_no_permission",
        sentence: "A name that leads to this server is no permission",
        expected: "status 403 for an Origin that is the same as `Host`, but neither on the list nor on this machine",
        hint: ORIGIN_HINT,
        run: |scene| Box::pin(rebinding(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "pages_of_other_sites_get_nowhere",
        sentence: "Pages of other sites get nowhere, whatever cookie comes along",
        expected: "status 403 for every foreign and look-alike origin, at every address",
        hint: ORIGIN_HINT,
        needs: Needs::Program,
        run: |scene| Box::pin(foreign(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "pages_on_the_list_may_do_everything",
        sentence: "Pages of the sites in ALLOWED_ORIGINS may do everything",
        expected: "no 403 at any address for an origin on the list",
        hint: ORIGIN_HINT,
        needs: Needs::Program,
        run: |scene| Box::pin(listed(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "programs_without_an_origin_may_connect",
        sentence: "Programs send no Origin, and may connect",
        expected: "status 101 with a token or a cookie and no Origin: a browser always sends one",
        hint: "Only pages have an origin. A missing one is no page.",
        run: |scene| Box::pin(programs(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "no_other_site_is_given_permission",
        sentence: "No other site is given permission to read or to send",
        expected: "no Access-Control header in the answer to a preflight, nor in any other",
        hint: "Don't add CORS: without it browsers keep other sites' pages away by themselves.",
        run: |scene| Box::pin(no_cors(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "a_form_of_another_site_does_nothing",
        sentence: "What a form of another site can send does nothing",
        expected: "status 415 for every Content-Type that a form can have, and for none",
        hint: "A browser sends a form anywhere without asking; JSON it sends to other sites only after a preflight. So take JSON alone.",
        run: |scene| Box::pin(forms(scene)),
        ..ORIGIN
    },
    Scenario {
        name: "requests_from_other_sites_are_refused",
        sentence: "A request that the browser calls cross-site is refused, and same-site too",
        expected: "status 403 for Sec-Fetch-Site cross-site and same-site at every POST, unless the Origin is on the list",
        hint: "Look at `Sec-Fetch-Site` where it is sent: `same-origin` and `none` are one's own.",
        run: |scene| Box::pin(fetch_site(scene)),
        ..ORIGIN
    },
];

async fn own_page(scene: &mut Scene) -> Check {
    let own = scene.address().to_owned();
    let port = own.rsplit(':').next().unwrap_or_default().to_owned();
    for host in [own, format!("localhost:{port}"), format!("[::1]:{port}"), "127.8.9.10".to_owned()]
    {
        let headers = [("Host", host.as_str()), ("Origin", &format!("http://{host}"))];
        scene.wire_at("ada", "/ws", &headers).await?;
    }
    Ok(())
}

async fn rebinding(scene: &mut Scene) -> Check {
    for host in
        ["chat.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        for scheme in ["http", "https"] {
            let origin = format!("{scheme}://{host}");
            scene.refused("/ws", &[("Host", host), ("Origin", &origin)], 403).await?;
        }
    }
    Ok(())
}

async fn foreign(scene: &mut Scene) -> Check {
    scene.start(&[("ALLOWED_ORIGINS", "https://app.example")]).await?;
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let own = scene.address().to_owned();
    let origins = [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        "https://app.example.evil".to_owned(),
        "https://evil-app.example".to_owned(),
        "https://app.example:444".to_owned(),
        "http://app.example".to_owned(),
        "HTTPS://APP.EXAMPLE".to_owned(),
        "https://app.example/".to_owned(),
        "https://app.example@evil.example".to_owned(),
        "https://app.example, https://evil.example".to_owned(),
        "*".to_owned(),
        "file://".to_owned(),
        format!("http://{own}.evil.example"),
        format!("http://{own}0"),
        own,
    ];
    for origin in &origins {
        let headers = [("Origin", origin.as_str()), ("Cookie", cookie.as_str())];
        scene.refused("/ws", &headers, 403).await?;
        for (method, path) in ROUTES {
            let answer = ask(scene, method, path, &headers).await?;
            is_forbidden(scene, path, &answer)?;
        }
    }
    // Whoever has no cookie is told the same.
    let opened = scene.ask_as_it_is("/ws", &[("Origin", "https://evil.example")]).await?;
    scene.was_refused(opened, 403).map(drop)
}

/// A page must have been refused, and below /api in the words of the protocol.
fn is_forbidden(scene: &Scene, path: &str, answer: &Answer) -> Check {
    scene.has_status(answer, 403)?;
    let is_api = path.starts_with("/api/");
    if is_api { scene.is_error(answer, 403, "forbidden").map(drop) } else { Ok(()) }
}

/// Asks at one of the addresses, with a body where one belongs.
async fn ask(scene: &Scene, method: &str, path: &str, headers: &[(&str, &str)]) -> Check<Answer> {
    if method == "GET" {
        return scene.http(method, path, headers).await;
    }
    scene.post(path, headers, &body_of(scene, path)).await
}

/// A right body for an address.
fn body_of(scene: &Scene, path: &str) -> Value {
    match path {
        "/hello" => json!({"type": "hello"}),
        "/events" => {
            json!({"type": "message", "id": Uuid::new_v4(), "room": "rust", "text": "hi"})
        }
        _ => scene.credentials("ada"),
    }
}

async fn listed(scene: &mut Scene) -> Check {
    let list = "https://app.example,http://localhost:3000";
    scene.start(&[("ALLOWED_ORIGINS", list)]).await?;
    for origin in list.split(',') {
        let bearer = format!("Bearer {}", {
            scene.register("ada").await?;
            scene.sign_in("ada").await?
        });
        let page = ("Origin", origin);
        // For a listed page even what the browser calls cross-site is right.
        let headers = [page, ("Authorization", bearer.as_str()), ("Sec-Fetch-Site", "cross-site")];
        scene.wire_at("ada", "/ws", &headers).await?;
        let posts = ["/api/login", "/api/token", "/hello"];
        for path in posts {
            let answer = scene.post(path, &headers, &body_of(scene, path)).await?;
            scene.has_status(&answer, 200)?;
        }
        let answer = scene.http("GET", "/api/me", &headers).await?;
        scene.has_status(&answer, 200)?;
        let answer = scene.post("/api/logout", &headers, &json!({})).await?;
        scene.has_status(&answer, 204)?;
    }
    Ok(())
}

async fn programs(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    scene.wire_at("ada", "/ws", &[("Authorization", &bearer)]).await?;
    scene.wire_at("ada", "/ws", &[("Cookie", &cookie)]).await.map(drop)
}

async fn no_cors(scene: &mut Scene) -> Check {
    let own = format!("http://{}", scene.address());
    let cookie = {
        scene.register("ada").await?;
        scene.sign_in_by_cookie("ada").await?
    };
    for origin in ["https://evil.example", own.as_str()] {
        for (method, path) in ROUTES {
            let preflight = [
                ("Origin", origin),
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", "content-type,authorization"),
            ];
            let answer = scene.http("OPTIONS", path, &preflight).await?;
            has_no_permission(scene, &answer)?;
        }
        for path in ["/api/me", "/"] {
            let headers = [("Origin", origin), ("Cookie", cookie.as_str())];
            has_no_permission(scene, &scene.http("GET", path, &headers).await?)?;
        }
    }
    Ok(())
}

fn has_no_permission(scene: &Scene, answer: &Answer) -> Check {
    scene.journal.wait_for("no Access-Control header");
    let header = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-allow"));
    match header {
        None => Ok(()),
        Some((name, value)) => Err(scene.mismatch(&format!("{name}: {value}"))),
    }
}

async fn forms(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonp",
        "",
    ];
    for path in ["/api/register", "/api/login", "/api/token", "/api/logout", "/hello", "/events"] {
        // A request to sign out needs neither a body nor a type; `Sec-Fetch-Site` and the cookie's
        // SameSite protect it.
        for kind in kinds.into_iter().filter(|kind| !kind.is_empty() || path != "/api/logout") {
            let body = body_of(scene, path).to_string();
            let headers = [("Content-Type", kind), ("Cookie", cookie.as_str())];
            let headers = if kind.is_empty() { &headers[1..] } else { &headers[..] };
            let answer = scene.http_with("POST", path, headers, &body).await?;
            scene.has_status(&answer, 415)?;
        }
    }
    // Nothing has signed ada out.
    let answer = scene.http("GET", "/api/me", &[("Cookie", &cookie)]).await?;
    scene.has_status(&answer, 200)
}

async fn fetch_site(scene: &mut Scene) -> Check {
    scene.register("ada").await?;
    let cookie = scene.sign_in_by_cookie("ada").await?;
    let own = format!("http://{}", scene.address());
    let posts = ROUTES.into_iter().filter(|(method, _)| *method == "POST");
    for (_, path) in posts {
        for site in ["cross-site", "same-site"] {
            let headers = [("Sec-Fetch-Site", site), ("Cookie", cookie.as_str())];
            let answer = scene.post(path, &headers, &body_of(scene, path)).await?;
            is_forbidden(scene, path, &answer)?;
        }
    }
    for site in ["same-origin", "none"] {
        let headers = [("Sec-Fetch-Site", site), ("Origin", own.as_str())];
        let answer = scene.post("/api/login", &headers, &scene.credentials("ada")).await?;
        scene.has_status(&answer, 200)?;
    }
    let answer = scene.http("GET", "/api/me", &[("Cookie", &cookie)]).await?;
    scene.journal.wait_for("status 200: ada is still signed in");
    if answer.status == 200 { Ok(()) } else { Err(scene.mismatch(&status(&answer))) }
}
