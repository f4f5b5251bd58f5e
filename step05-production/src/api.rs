// ANCHOR: all
//! What is asked by single requests: to register, to sign in and out, who one is, and to search.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use warp::filters::BoxedFilter;
use warp::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use warp::http::{HeaderMap, StatusCode};
use warp::reject::{InvalidQuery, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, reply};

use crate::NAMESPACES;
use crate::accounts::{Accounts, SignedIn};
use crate::body::{self, BadBody, json_body, json_only};
use crate::caller::{self, NotKnown, NotSignedIn};
use crate::conversation;
use crate::log::Log;
use crate::origin::ForeignOrigin;
use crate::protocol::{self, ErrorCode, ServerEvent};
use crate::room;
use crate::search::Search;
use crate::telemetry;
use crate::tries::Tries;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 4 * 1024;

// ANCHOR: routes
/// What the answers need.
#[derive(Clone)]
pub struct Api {
    /// Everyone who may sign in.
    pub accounts: Accounts,
    /// What can be searched.
    pub log: Arc<dyn Log>,
    /// How often somebody may try; `None` for as often as they like.
    pub tries: Option<Arc<Tries>>,
}

/// Who is asking, before it is known who it is.
struct Caller {
    address: IpAddr,
    headers: HeaderMap,
    /// The browser speaks TLS.
    secure: bool,
}

/// The requests of this module, all below `/api`. `origin` rejects pages that may not ask, `address`
/// gives the caller's, and `by_proxy` tells whether it came by a proxy that may say so.
pub fn routes(
    api: Api,
    origin: BoxedFilter<()>,
    address: BoxedFilter<(IpAddr,)>,
    by_proxy: BoxedFilter<(bool,)>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let caller = address.and(by_proxy).and(warp::header::headers_cloned()).map(Caller::new);
    let signed_in = caller::signed_in(api.accounts.clone());
    let with_api = warp::any().map(move || api.clone());

    let post = move |path| warp::path(path).and(warp::path::end()).and(warp::post());
    let get = move |path| warp::path(path).and(warp::path::end()).and(warp::get());
    let credentials = origin.clone().and(with_api.clone()).and(caller.clone()).and(credentials());
    let register = post("register").and(credentials.clone()).then(register);
    let login = post("login").and(credentials.clone()).then(login);
    let token = post("token").and(credentials).then(token);
    let logout = post("logout")
        .and(origin.clone())
        .and(json_only(true))
        .and(with_api.clone())
        .and(caller)
        .and(signed_in.clone())
        .then(logout);
    let me = get("me").and(origin.clone()).and(signed_in.clone()).map(me);
    let search =
        get("search").and(origin).and(with_api).and(signed_in).and(warp::query()).then(search);

    let all = register.or(login).unify().or(token).unify().or(logout).unify();
    let all = all.or(me).unify().or(search).unify().recover(explain).unify();
    warp::path("api").and(all)
}
// ANCHOR_END: routes

impl Caller {
    fn new(address: IpAddr, by_proxy: bool, headers: HeaderMap) -> Self {
        let secure = caller::is_secure(&headers, by_proxy);
        Self { address, headers, secure }
    }
}

// ANCHOR: credentials
/// The name and the password that somebody has typed.
#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

/// A filter for a body with a name and a password.
fn credentials() -> impl Filter<Extract = (Credentials,), Error = Rejection> + Clone {
    json_body(MAX_BODY).and_then(async |body: Vec<u8>| {
        // First an object, as with events: serde alone would take a list of two as well.
        let object: Result<Map<String, Value>, _> = serde_json::from_slice(&body);
        let credentials = object.and_then(|object| serde_json::from_value(Value::Object(object)));
        credentials.map_err(|_| body::refuse(StatusCode::BAD_REQUEST))
    })
}
// ANCHOR_END: credentials

// ANCHOR: sign-in
/// Answers `POST /api/register`: who registers is signed in as well.
async fn register(api: Api, caller: Caller, credentials: Credentials) -> Response {
    let registered = async {
        if let Some(tries) = &api.tries {
            let counted = tries.register(caller.address);
            counted.inspect_err(|_wait| telemetry::rate_limited("register"))?;
        }
        let name = api.accounts.register(&credentials.name, &credentials.password).await?;
        telemetry::tried("registered");
        begin(&api, &caller, StatusCode::CREATED, &name).await
    };
    registered.await.unwrap_or_else(Refusal::into_response)
}

/// Answers `POST /api/login`.
async fn login(api: Api, caller: Caller, credentials: Credentials) -> Response {
    let signed_in = async {
        let name = sign_in(&api, &caller, &credentials).await?;
        begin(&api, &caller, StatusCode::OK, &name).await
    };
    signed_in.await.unwrap_or_else(Refusal::into_response)
}

/// A token, for a program.
#[derive(Serialize)]
struct Issued<'a> {
    token: &'a str,
    expires_at: u64,
}

/// Answers `POST /api/token`: as `login`, for programs, which keep no cookies.
async fn token(api: Api, caller: Caller, credentials: Credentials) -> Response {
    let signed_in = async {
        let name = sign_in(&api, &caller, &credentials).await?;
        let (token, ends) = api.accounts.begin_session(&name).await?;
        let answer = Issued { token: token.as_str(), expires_at: ends };
        Ok::<_, Refusal>(answer_json(StatusCode::OK, &answer))
    };
    signed_in.await.unwrap_or_else(Refusal::into_response)
}

/// Checks a name and a password, unless somebody has tried too often.
async fn sign_in(
    api: &Api,
    caller: &Caller,
    Credentials { name, password }: &Credentials,
) -> Result<String, Refusal> {
    may_try(api, caller, name).await?;
    let turn = api.accounts.turn().await?;
    // Others that have waited as well may have failed meanwhile.
    may_try(api, caller, name).await?;
    let checked = api.accounts.check_in_turn(turn, name, password).await;
    telemetry::tried(if checked.is_ok() { "ok" } else { "wrong" });
    if let (Err(ErrorCode::Unauthorized), Some(tries)) = (&checked, &api.tries) {
        tries.sign_in_failed(name, caller.address).await;
    }
    Ok(checked?)
}

/// Whether somebody may try to sign in now.
async fn may_try(api: &Api, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let Some(tries) = &api.tries else { return Ok(()) };
    match tries.sign_in_wait(name, caller.address).await.map_err(ErrorCode::from)? {
        Some(wait) => {
            telemetry::tried("blocked");
            telemetry::rate_limited("sign_in");
            Err(wait.into())
        }
        None => Ok(()),
    }
}

/// Begins the session of a browser.
async fn begin(
    api: &Api,
    caller: &Caller,
    status: StatusCode,
    name: &str,
) -> Result<Response, Refusal> {
    let (token, _ends) = api.accounts.begin_session(name).await?;
    let max = api.accounts.lifetime().max;
    let cookie = caller::set_cookie(&caller.headers, caller.secure, &token, max);
    let answer = answer_json(status, &json!({ "name": name }));
    Ok(reply::with_header(answer, SET_COOKIE, cookie).into_response())
}
// ANCHOR_END: sign-in

/// Answers `POST /api/logout`.
async fn logout(api: Api, caller: Caller, signed_in: SignedIn) -> Response {
    if let Err(code) = api.accounts.sign_out(signed_in.session).await {
        return Refusal::from(code).into_response();
    }
    let cookie = caller::clear_cookie(&caller.headers, caller.secure);
    reply::with_header(StatusCode::NO_CONTENT, SET_COOKIE, cookie).into_response()
}

/// Answers `GET /api/me`.
fn me(signed_in: SignedIn) -> Response {
    answer_json(StatusCode::OK, &json!({ "name": signed_in.name }))
}

// ANCHOR: search
/// What to search for.
#[derive(Deserialize)]
struct Question {
    room: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    ns: String,
    before: Option<u64>,
}

/// What was found, newest first.
#[derive(Serialize)]
struct Found {
    messages: Vec<ServerEvent>,
}

/// Answers `GET /api/search`.
async fn search(api: Api, signed_in: SignedIn, question: Question) -> Response {
    let found = async {
        let search = allowed_search(&api, &signed_in, question)?;
        if let Some(tries) = &api.tries {
            tries.search(&signed_in.name)?;
        }
        let found = api.log.search(search).await.map_err(ErrorCode::from)?;
        let messages = found.into_iter().map(ServerEvent::Message).collect();
        Ok::<_, Refusal>(answer_json(StatusCode::OK, &Found { messages }))
    };
    found.await.unwrap_or_else(Refusal::into_response)
}

/// Checks a search. Who may search a room is who may read it.
fn allowed_search(api: &Api, by: &SignedIn, question: Question) -> Result<Search, ErrorCode> {
    let Question { room, q, ns, before } = question;
    let namespace = NAMESPACES.into_iter().find(|known| *known == ns);
    let namespace = namespace.ok_or(ErrorCode::BadRoom)?;
    if conversation::partner(&room, &by.name)?.is_none() {
        room::check_name(&room)?;
    }
    let words = protocol::trim(&q)?;
    Ok(Search { namespace, room, words, before, since: api.log.horizon() })
}
// ANCHOR_END: search

// ANCHOR: refusal
/// Why a request is not answered as it was meant to be.
struct Refusal {
    status: StatusCode,
    event: ServerEvent,
    /// When to try again.
    wait: Option<Duration>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        let wait = code.retry_after().map(Duration::from_millis);
        Self { status: status(code), event: code.into(), wait }
    }
}

/// Somebody has to wait so long.
impl From<Duration> for Refusal {
    fn from(wait: Duration) -> Self {
        let code = ErrorCode::RateLimited;
        Self { status: status(code), event: code.until(None, wait), wait: Some(wait) }
    }
}

impl Refusal {
    fn into_response(self) -> Response {
        let mut response = answer_json(self.status, &self.event);
        if let Some(wait) = self.wait {
            // In whole seconds, and rather too late than too early.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The status of an answer with this error.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NameTaken | ErrorCode::IdConflict => StatusCode::CONFLICT,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::BadJson
        | ErrorCode::UnknownType
        | ErrorCode::HelloFirst
        | ErrorCode::BadName
        | ErrorCode::BadPassword
        | ErrorCode::EmptyText
        | ErrorCode::TextTooLong
        | ErrorCode::BadRoom
        | ErrorCode::NotInRoom
        | ErrorCode::TooManyRooms
        | ErrorCode::NoSuchUser => StatusCode::BAD_REQUEST,
    }
}

fn answer_json(status: StatusCode, answer: &impl Serialize) -> Response {
    // Text, numbers and lists of them always have a JSON form: the default is never used.
    let json = serde_json::to_string(answer).unwrap_or_default();
    let json = reply::with_header(json, CONTENT_TYPE, "application/json");
    reply::with_status(json, status).into_response()
}

/// Answers what the filters have rejected. What is not here goes on to the others.
async fn explain(rejection: Rejection) -> Result<Response, Rejection> {
    let refusal = if rejection.find::<ForeignOrigin>().is_some() {
        ErrorCode::Forbidden.into()
    } else if let Some(BadBody(status)) = rejection.find() {
        Refusal { status: *status, ..ErrorCode::BadJson.into() }
    } else if rejection.find::<NotSignedIn>().is_some() {
        ErrorCode::Unauthorized.into()
    } else if rejection.find::<NotKnown>().is_some() {
        ErrorCode::Unavailable.into()
    } else if rejection.find::<InvalidQuery>().is_some() {
        ErrorCode::BadJson.into()
    } else {
        return Err(rejection);
    };
    Ok(Refusal::into_response(refusal))
}
// ANCHOR_END: refusal

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::*;
    use crate::accounts::Lifetime;
    use crate::embedded::Embedded;
    use crate::log::Draft;

    const ADA: &str = r#"{"name":"Ada","password":"correct horse"}"#;
    const WRONG: &str = r#"{"name":"ada","password":"wrong horse"}"#;

    /// A server with nothing but these requests.
    struct Server {
        address: String,
        log: Arc<Embedded>,
        dir: PathBuf,
    }

    /// What came back.
    #[derive(Debug)]
    struct Answer {
        status: u16,
        head: String,
        body: String,
    }

    impl Answer {
        fn json(&self) -> serde_json::Value {
            serde_json::from_str(&self.body).unwrap()
        }

        fn code(&self) -> (u16, String) {
            (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
        }

        fn header(&self, name: &str) -> Option<&str> {
            let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(other, _)| *other == name).map(|(_, value)| value)
        }
    }

    impl Server {
        async fn start() -> Self {
            let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
            let log = Arc::new(Embedded::open(&dir).unwrap());
            let hour = Duration::from_secs(3600);
            let accounts = Accounts::new(log.clone(), Lifetime { max: hour, idle: hour });
            tokio::spawn(accounts.clone().run(CancellationToken::new()));
            let api = Api { accounts, log: log.clone(), tries: Some(Tries::new(log.clone())) };
            let address = warp::any().map(|| IpAddr::from([127, 0, 0, 1])).boxed();
            let origin = crate::origin::check(["https://chat.example".to_owned()].into()).boxed();
            let routes = routes(api, origin, address, warp::any().map(|| false).boxed());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            tokio::spawn(warp::serve(routes).incoming(listener).run());
            Self { address, log, dir }
        }

        async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            let length = if body.is_empty() {
                String::new()
            } else {
                format!("Content-Length: {}\r\n", body.len())
            };
            let request = format!(
                "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}{length}\r\n{body}",
                self.address
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            Answer { status, head: head.to_owned(), body: body.to_owned() }
        }

        async fn post(&self, path: &str, body: &str) -> Answer {
            self.ask(&format!("POST {path}"), &["Content-Type: application/json"], body).await
        }

        /// Registers somebody, and gives the header with their cookie.
        async fn enter(&self, body: &str) -> String {
            let answer = self.post("/api/register", body).await;
            let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
            format!("Cookie: {cookie}")
        }

        async fn say(&self, room: &str, text: &str) {
            let (room, from, text) = (room.to_owned(), "ada".to_owned(), text.to_owned());
            let draft = Draft { namespace: "", room, id: Uuid::new_v4(), from, text };
            self.log.append(draft).await.await.unwrap().unwrap();
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[tokio::test]
    async fn who_registers_gets_a_cookie_that_says_who_they_are_until_they_sign_out() {
        let server = Server::start().await;
        let answer = server.post("/api/register", ADA).await;
        assert_eq!((answer.status, answer.body.as_str()), (201, r#"{"name":"Ada"}"#));
        let cookie = answer.header("set-cookie").unwrap();
        let port = server.address.rsplit(':').next().unwrap();
        assert!(cookie.starts_with(&format!("session-{port}=")), "{cookie}");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{cookie}");

        let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
        let me = server.ask("GET /api/me", &[&cookie], "").await;
        assert_eq!((me.status, me.body.as_str()), (200, r#"{"name":"Ada"}"#));
        let out = server.ask("POST /api/logout", &[&cookie], "").await;
        assert_eq!(out.status, 204);
        assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
        let me = server.ask("GET /api/me", &[&cookie], "").await;
        assert_eq!(me.code(), (401, "unauthorized".to_owned()));
    }

    #[tokio::test]
    async fn a_program_signs_in_by_token() {
        let server = Server::start().await;
        server.enter(ADA).await;
        let answer = server.post("/api/token", ADA).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
        let json = answer.json();
        let bearer = format!("Authorization: Bearer {}", json["token"].as_str().unwrap());
        assert!(json["expires_at"].as_u64().unwrap() > protocol::now());
        assert_eq!(server.ask("GET /api/me", &[&bearer], "").await.status, 200);
        assert_eq!(server.ask("POST /api/logout", &[&bearer], "").await.status, 204);
        assert_eq!(server.ask("GET /api/me", &[&bearer], "").await.status, 401);
    }

    #[tokio::test]
    async fn a_wrong_name_and_a_wrong_password_get_the_same_answer() {
        let server = Server::start().await;
        server.enter(ADA).await;
        let wrong = server.post("/api/login", WRONG).await;
        let unknown = server.post("/api/login", &WRONG.replace("ada", "eve")).await;
        assert_eq!((wrong.status, &wrong.body), (401, &unknown.body));
        let without_date = |answer: &Answer| {
            let lines = answer.head.lines().filter(|line| !line.starts_with("date"));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(without_date(&wrong), without_date(&unknown));
    }

    #[tokio::test]
    async fn who_fails_ten_times_has_to_wait_even_with_the_right_password() {
        let server = Server::start().await;
        server.enter(ADA).await;
        for _ in 0..10 {
            assert_eq!(server.post("/api/login", WRONG).await.status, 401);
        }
        let answer = server.post("/api/token", ADA).await;
        assert_eq!(answer.code(), (429, "rate_limited".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("6"));
        assert!((5000..=6001).contains(&answer.json()["retry_after"].as_u64().unwrap()));
        let grace = ADA.replace("Ada", "grace");
        assert_eq!(server.post("/api/register", &grace).await.status, 201);
        assert_eq!(server.post("/api/login", &grace).await.status, 200);
    }

    #[tokio::test]
    async fn many_tries_at_once_get_no_further() {
        let server = Arc::new(Server::start().await);
        server.enter(ADA).await;
        let tries: Vec<_> = (0..40)
            .map(|_| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.post("/api/login", WRONG).await.status })
            })
            .collect();
        let mut failed = 0;
        for answer in tries {
            failed += u32::from(answer.await.unwrap() == 401);
        }
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!((10..=10 + cores as u32).contains(&failed), "{failed}");
    }

    #[tokio::test]
    async fn each_bad_request_has_its_answer() {
        let server = Server::start().await;
        server.enter(ADA).await;
        let with = |name: &str, password: &str| json!({"name": name, "password": password});
        for (body, status, code) in [
            ("{".to_owned(), 400, "bad_json"),
            ("[\"ada\"]".to_owned(), 400, "bad_json"),
            (r#"{"name":"ada"}"#.to_owned(), 400, "bad_json"),
            (with("a b", "correct horse").to_string(), 400, "bad_name"),
            (with("bob", "short").to_string(), 400, "bad_password"),
            (with("ADA", "correct horse").to_string(), 409, "name_taken"),
            (with("аdа", "correct horse").to_string(), 409, "name_taken"),
            (with("admin", "correct horse").to_string(), 409, "name_taken"),
            (with(&"x".repeat(MAX_BODY), "correct horse").to_string(), 413, "bad_json"),
        ] {
            let answer = server.post("/api/register", &body).await;
            assert_eq!(answer.code(), (status, code.to_owned()), "{body}");
        }
    }

    #[tokio::test]
    async fn other_sites_and_forms_are_refused() {
        let server = Server::start().await;
        let cookie = server.enter(ADA).await;
        let json = "Content-Type: application/json";
        for (headers, status) in [
            (vec!["Content-Type: text/plain"], 415),
            (vec!["Content-Type: application/x-www-form-urlencoded"], 415),
            (vec![], 415),
            (vec![json, "Origin: https://evil.example"], 403),
            (vec![json, "Origin: null"], 403),
            (vec![json, "Sec-Fetch-Site: cross-site"], 403),
            (vec![json, "Sec-Fetch-Site: same-site"], 403),
            (vec![json, "Sec-Fetch-Site: cross-site", "Origin: https://chat.example"], 200),
            (vec!["content-type: Application/JSON; charset=utf-8"], 200),
        ] {
            let answer = server.ask("POST /api/login", &headers, ADA).await;
            assert_eq!(answer.status, status, "{headers:?}");
        }
        let form = ["Content-Type: text/plain", &cookie];
        assert_eq!(server.ask("POST /api/logout", &form, "").await.status, 415);
        let foreign = ["Sec-Fetch-Site: cross-site", &cookie];
        assert_eq!(server.ask("POST /api/logout", &foreign, "").await.status, 403);
        assert_eq!(server.ask("GET /api/login", &[], "").await.status, 405);
        assert_eq!(server.ask("GET /api/nothing", &[], "").await.status, 404);
    }

    #[tokio::test]
    async fn a_page_over_tls_gets_a_cookie_for_tls_only() {
        let server = Server::start().await;
        let headers = ["Content-Type: application/json", "Origin: https://chat.example"];
        let answer = server.ask("POST /api/register", &headers, ADA).await;
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.starts_with("__Host-session=") && cookie.ends_with("; Secure"), "{cookie}");
    }

    #[tokio::test]
    async fn search_finds_what_one_may_read_and_nothing_else() {
        let server = Server::start().await;
        let ada = server.enter(ADA).await;
        server.say("rust", "the first word").await;
        server.say("rust", "a second one").await;
        server.say("dm:ada:grace", "the secret word").await;
        server.say("dm:bob:grace", "another secret word").await;
        for (query, status, what) in [
            ("room=rust&q=WORD", 200, "1"),
            ("room=rust&q=the+first", 200, "1"),
            ("room=rust&q=word&before=1", 200, ""),
            ("room=rust&q=secret", 200, ""),
            ("room=rust&ns=staff&q=word", 200, ""),
            ("room=dm:ada:grace&q=secret", 200, "1"),
            ("room=dm:bob:grace&q=secret", 403, "forbidden"),
            ("room=dm:bob&q=secret", 400, "bad_room"),
            ("room=Rust&q=word", 400, "bad_room"),
            ("room=rust&ns=other&q=word", 400, "bad_room"),
            ("room=rust&q=%20", 400, "empty_text"),
            ("room=rust", 400, "empty_text"),
            ("q=word", 400, "bad_json"),
        ] {
            let line = format!("GET /api/search?{query}");
            let answer = server.ask(&line, &[&ada], "").await;
            let json = answer.json();
            let found = match json["messages"].as_array() {
                Some(found) => found.iter().map(|it| it["seq"].to_string()).collect(),
                None => json["code"].as_str().unwrap().to_owned(),
            };
            assert_eq!((answer.status, found.as_str()), (status, what), "{query}");
        }
        let answer = server.ask("GET /api/search?room=rust&q=first", &[&ada], "").await;
        assert!(
            answer.body.starts_with(r#"{"messages":[{"type":"message","room":"rust","seq":1,"#)
        );
        assert_eq!(server.ask("GET /api/search?room=rust&q=word", &[], "").await.status, 401);
    }
}
// ANCHOR_END: all
