//! The program `chat` against a scripted server, out of pipes: what it prints, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, in its helpers, too"
)]

mod scripted;

use std::path::PathBuf;
use std::process::Stdio;

use scripted::{Host, PATIENCE, TOKEN, nobody, nothing_after, raw_server, server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use uuid::Uuid;

/// What a run of the program came to.
struct Ended {
    code: Option<i32>,
    lines: Vec<String>,
    stderr: String,
}

/// Starts the program as ada.
fn start(url: &str, arguments: &[&str]) -> Child {
    start_with(url, arguments, "")
}

/// The same with a password in the environment.
fn start_with(url: &str, arguments: &[&str], password: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(["--url", url, "--name", "ada"])
        .args(arguments)
        .env("CHAT_PASSWORD", password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the program has ended.
async fn end(child: Child) -> Ended {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it hangs").unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    Ended {
        code: output.status.code(),
        lines: stdout.lines().map(str::to_owned).collect(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program with these lines on its stdin.
async fn chat(url: &str, arguments: &[&str], typed: &str) -> Ended {
    let mut child = start(url, arguments);
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends early does not read all of it.
    let _ = stdin.write_all(typed.as_bytes()).await;
    drop(stdin);
    end(child).await
}

/// Runs the program, and gives the sentence with which it fails.
async fn failure(url: &str, arguments: &[&str]) -> String {
    let ended = chat(url, arguments, "").await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "one sentence: {}", ended.stderr);
    ended.stderr.trim_end().to_owned()
}

#[tokio::test]
async fn lines_from_a_pipe_are_sent_in_order_and_all_come_back_before_the_goodbye() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        for text in ["hello", "bye"] {
            let json = format!(r#"{{"type":"message","room":"lobby","text":"{text}"}}"#);
            peer.expect(&json).await;
            peer.say("lobby", "grace", "in between").await;
            peer.say("lobby", "ada", text).await;
        }
        peer.closed().await
    })
    .await;
    let ended = chat(&url, &["--room", "lobby"], "hello\n\n  bye").await;
    assert_eq!(script.await.unwrap(), Some(1000));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.lines[0], "* You are ada. /help lists the commands.");
    assert_eq!(ended.lines[1], "* [lobby] You are in, with: ada");
    let said: Vec<_> =
        ended.lines[2..].iter().map(|line| line.split_once(" [").unwrap().1).collect();
    let wanted = [
        "lobby] grace: in between",
        "lobby] ada: hello",
        "lobby] grace: in between",
        "lobby] ada: bye",
    ];
    assert_eq!(said, wanted);
}

#[tokio::test]
async fn a_command_waits_for_the_answer_to_the_one_before() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("rust").await;
        peer.expect(r#"{"type":"direct","to":"grace","text":"psst"}"#).await;
        peer.send(
            r#"{"type":"error","code":"no_such_user","message":"Nobody here has that name."}"#,
        )
        .await;
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.send(r#"{"type":"rooms","rooms":[{"name":"rust","members":1}]}"#).await;
        peer.expect(r#"{"type":"leave","room":"rust"}"#).await;
        peer.send(r#"{"type":"left","room":"rust"}"#).await;
        peer.closed().await
    })
    .await;
    let typed =
        "/join rust\n/who\n/msg grace psst\n/rooms\n/leave\nhi\n/dance\n/msg\n/quit\nnever\n";
    let ended = chat(&url, &[], typed).await;
    assert_eq!(script.await.unwrap(), Some(1000));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let wanted = [
        "* [rust] You are in, with: ada",
        "* [rust] ada",
        "! Nobody here has that name.",
        "* Rooms: rust (1)",
        "* [rust] You have left",
        "! You have no room to talk in: /join ROOM first, and /rooms shows which there are.",
        "! There is no command /dance: /help lists them, and // sends a line that begins with a slash.",
        "! Write it like this: /msg NAME TEXT",
    ];
    assert_eq!(ended.lines[1..], wanted);
}

#[tokio::test]
async fn a_server_without_rooms_is_recognized() {
    let (url, script) = server(async |mut peer| {
        peer.welcome_to_everyone().await;
        peer.expect(r#"{"type":"message","text":"hi"}"#).await;
        peer.send(
            r#"{"type":"message","id":"00000000-0000-0000-0000-000000000000","from":"ada","text":"hi","at":1700000000000}"#,
        )
        .await;
        peer.closed().await
    })
    .await;
    let ended = chat(&url, &["--room", "lobby"], "/who\nhi\n").await;
    assert_eq!(script.await.unwrap(), Some(1000));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines[1], "* Here: ada, grace");
    assert!(ended.lines[2].contains("rooms and direct messages come with milestone 3"));
    assert_eq!(ended.lines[3], "* Here: ada, grace");
    assert!(ended.lines[4].ends_with(" ada: hi"), "{}", ended.lines[4]);
}

#[tokio::test]
async fn what_others_send_reaches_the_terminal_clean() {
    let (url, _script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        peer.say("lobby", "e\\u001b[31mve", "\x1b[2J\x07one\nline").await;
        peer.send(r#"{"type":"user\u001b[2J"}"#).await;
        peer.send("\x1b[2J is not JSON").await;
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.send(r#"{"type":"error","code":"x","message":"\u001b[2Jno"}"#).await;
        peer.close(4999, "\x1b]0;title\x07").await
    })
    .await;
    let mut child = start(&url, &["--room", "lobby"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"/rooms\n").await.unwrap();
    let ended = end(child).await;
    assert_eq!(ended.code, Some(1));
    let all = ended.lines.join("\n") + &ended.stderr;
    assert!(!all.contains('\x1b') && !all.contains('\x07'), "{all:?}");
    assert!(all.contains("\u{FFFD}[2J\u{FFFD}one⏎line"), "{all:?}");
    assert!(ended.stderr.contains("code 4999: for good, don't connect again (\u{FFFD}]0;title"));
}

#[tokio::test]
async fn it_listens_as_long_as_the_pipe_is_open() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        peer.say("lobby", "grace", "are you there?").await;
        peer.closed().await
    })
    .await;
    let mut child = start(&url, &["--room", "lobby"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heard = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.ends_with("grace: are you there?") {
                return;
            }
        }
        panic!("it ended");
    };
    timeout(PATIENCE, heard).await.unwrap();
    drop(child.stdin.take());
    assert_eq!(end(child).await.code, Some(0));
    assert_eq!(script.await.unwrap(), Some(1000));
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_with_a_goodbye() {
    for signal in ["-INT", "-TERM"] {
        let (url, script) = server(async |mut peer| {
            peer.welcome().await;
            peer.let_into("lobby").await;
            peer.closed().await
        })
        .await;
        let mut child = start(&url, &["--room", "lobby"]);
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The second line is there once the loop, which hears signals, is running.
        for _ in 0..2 {
            timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        }
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        assert_eq!(end(child).await.code, Some(0), "{signal}");
        assert_eq!(script.await.unwrap(), Some(1000), "{signal}");
        drop(stdin);
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_does_not_make_it_fail() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        peer.closed().await
    })
    .await;
    let mut child = start(&url, &["--room", "lobby"]);
    drop(child.stdout.take());
    let ended = end(child).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    drop(script);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error() {
    let (url, _script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        peer.expect(r#"{"type":"rooms"}"#).await;
        peer.closed().await
    })
    .await;
    let ended = chat(&url, &["--room", "lobby"], "/rooms\n").await;
    assert_eq!(ended.code, Some(1));
    let wanted = "chat: the server has not answered within 5 seconds: the last line may be lost\n";
    assert_eq!(ended.stderr, wanted);
}

#[tokio::test]
async fn a_line_that_is_not_text_is_one_sentence() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.closed().await
    })
    .await;
    let mut child = start(&url, &[]);
    child.stdin.take().unwrap().write_all(b"caf\xe9\n").await.unwrap();
    let ended = end(child).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("chat: can't read the next line of stdin: "));
    assert_eq!(script.await.unwrap(), Some(1000));
}

#[tokio::test]
async fn nobody_listening_is_one_sentence() {
    let said = failure(&nobody().await, &[]).await;
    assert!(said.starts_with("chat: nobody is listening at 127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn refusals_are_one_sentence_each() {
    let (url, _request) = raw_server("HTTP/1.1 403 Forbidden\r\n\r\n").await;
    let said = failure(&url, &["--origin", "http://evil.example"]).await;
    assert!(said.ends_with("HTTP 403: the server does not take connections from this origin"));

    let (url, _request) = raw_server("HTTP/1.1 404 Not Found\r\n\r\n").await;
    let said = failure(&url, &[]).await;
    let wanted =
        "HTTP 404: the server has nothing there; try /ws, or look at the namespace after /ws/";
    assert!(said.ends_with(wanted), "{said}");
}

#[tokio::test]
async fn a_name_that_cannot_be_had_is_one_sentence() {
    for (code, message) in [
        ("name_taken", "Somebody here has that name."),
        ("bad_name", "A name has 1 to 32 letters, digits, _ or -."),
    ] {
        let (url, script) = server(async move |mut peer| {
            peer.expect(r#"{"type":"hello","name":"ada"}"#).await;
            peer.send(&format!(r#"{{"type":"error","code":"{code}","message":"{message}"}}"#))
                .await;
            peer.closed().await
        })
        .await;
        let wanted = format!(
            r#"chat: the server does not take the name "ada": {message} Choose another one with --name."#
        );
        assert_eq!(failure(&url, &[]).await, wanted);
        assert_eq!(script.await.unwrap(), Some(1000));
    }
}

#[tokio::test]
async fn a_goodbye_of_the_server_is_told_with_its_meaning() {
    let (url, script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
        peer.close(1001, "the server is stopping").await
    })
    .await;
    let mut child = start(&url, &["--room", "lobby"]);
    let stdin = child.stdin.take();
    let ended = end(child).await;
    let wanted = "chat: the server closed the connection with code 1001: the server is going away (the server is stopping)\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), wanted));
    assert_eq!(script.await.unwrap(), Some(1001));
    drop(stdin);
}

#[tokio::test]
async fn a_cut_wire_is_told() {
    let (url, _script) = server(async |mut peer| {
        peer.welcome().await;
        peer.let_into("lobby").await;
    })
    .await;
    let mut child = start(&url, &["--room", "lobby"]);
    let stdin = child.stdin.take();
    let ended = end(child).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("chat: the connection was lost ("), "{}", ended.stderr);
    drop(stdin);
}

/// Waits until the program has printed a line with this in it.
async fn printed(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) -> String {
    let found = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(part) {
                return line;
            }
        }
        panic!("it ended");
    };
    timeout(PATIENCE, found).await.expect(part)
}

#[tokio::test]
async fn with_a_session_each_line_waits_for_its_ack_over_as_many_connections_as_it_takes() {
    let host = Host::open().await;
    let mut child = start(&host.url(), &["--room", "rust"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    child.stdin.take().unwrap().write_all(b"hello\nbye\n").await.unwrap();
    let mut peer = host.accept().await;
    peer.welcome_with_session(false).await;
    peer.resume(None, 1..=2).await;
    let hello = peer.take().await;
    drop(peer);
    printed(&mut lines, "* Offline, trying again in 1 s: the connection was lost").await;
    let mut peer = host.accept().await;
    peer.welcome_with_session(true).await;
    printed(&mut lines, "* Connected again; sending what waits (1).").await;
    peer.resume(Some(2), 3..=3).await;
    assert!(printed(&mut lines, "] grace: ").await.ends_with(" [rust] grace: 3"), "once");
    assert_eq!(peer.take().await, hello);
    peer.ack(&hello, 3).await;
    let bye = peer.take().await;
    assert_eq!(bye["text"], "bye");
    peer.ack(&bye, 3).await;
    assert_eq!(peer.closed().await, Some(1000));
    assert_eq!(end(child).await.code, Some(0));
}

#[tokio::test]
async fn with_a_session_a_message_that_fails_is_told_and_a_goodbye_for_good_ends_it() {
    let host = Host::open().await;
    let mut child = start(&host.url(), &["--room", "rust"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    let mut peer = host.accept().await;
    peer.welcome_with_session(false).await;
    peer.resume(None, nothing_after(0)).await;
    let id = &peer.take().await["id"];
    let error = r#"{"type":"error","code":"id_conflict","message":"No.","id":"#;
    peer.send(&format!("{error}{id}}}")).await;
    printed(&mut lines, "! Not sent: No. (hello)").await;
    peer.send(r#"{"type":"status","degraded":true}"#).await;
    printed(&mut lines, "* The server can't store messages for now.").await;
    peer.send(r#"{"type":"status","degraded":false}"#).await;
    printed(&mut lines, "* The server stores messages again.").await;
    assert_eq!(peer.close(4500, "").await, Some(4500));
    let ended = end(child).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("code 4500: a newer connection has taken"), "{}", ended.stderr);
}

#[tokio::test]
async fn with_a_session_a_signal_tells_what_has_not_been_stored() {
    let host = Host::open().await;
    let mut child = start(&host.url(), &["--room", "rust"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    let mut peer = host.accept().await;
    peer.welcome_with_session(false).await;
    peer.resume(None, nothing_after(0)).await;
    peer.take().await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert_eq!(peer.closed().await, Some(1000));
    let ended = end(child).await;
    let wanted = "chat: 1 message has not been stored\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), wanted));
}

/// Takes a request of ada's for a token, with this password, and gives her one.
async fn give_token(host: &Host, password: &str) {
    let answer = format!(r#"{{"token":"{TOKEN}","expires_at":1700000000000}}"#);
    let request = host.answer("200 OK", &answer).await;
    assert!(request.starts_with("POST /api/token HTTP/1.1\r\n"), "{request}");
    let body = format!(r#"{{"name":"ada","password":"{password}"}}"#);
    assert!(request.ends_with(&body), "{request}");
}

/// A file with this in it, which goes with the test.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chat-{}", Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn with_a_password_in_a_file_it_signs_in_talks_and_signs_out() {
    let host = Host::open().await;
    let file = File::with("correct horse\r\nnever read\n");
    let arguments = ["--room", "rust", "--password-file", file.path()];
    let mut child = start_with(&host.url(), &arguments, "another one");
    let mut stdin = child.stdin.take().unwrap();
    give_token(&host, "correct horse").await;
    let (mut peer, _) = host.accept_token(TOKEN).await;
    peer.welcome_unasked().await;
    peer.resume(None, nothing_after(0)).await;
    stdin.write_all(b"hello\n").await.unwrap();
    drop(stdin);
    let hello = peer.take().await;
    peer.number(1).await;
    peer.ack(&hello, 1).await;
    assert_eq!(peer.closed().await, Some(1000));
    let request = host.answer("204 No Content", "").await;
    assert!(request.starts_with("POST /api/logout HTTP/1.1\r\n"), "{request}");
    let ended = end(child).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let all = ended.lines.join("\n");
    assert!(!all.contains("horse") && !all.contains(TOKEN), "{all}");
}

#[tokio::test]
async fn who_signs_up_gets_an_account_first_and_the_environment_may_have_the_password() {
    let host = Host::open().await;
    let child = start_with(&host.url(), &["--sign-up"], "correct horse");
    let request = host.answer("201 Created", r#"{"name":"ada"}"#).await;
    assert!(request.starts_with("POST /api/register HTTP/1.1\r\n"), "{request}");
    give_token(&host, "correct horse").await;
    let (mut peer, _) = host.accept_token(TOKEN).await;
    peer.welcome_unasked().await;
    assert_eq!(peer.close(4501, "you have signed out").await, Some(4501));
    host.answer("401 Unauthorized", "").await;
    let ended = end(child).await;
    let wanted = "chat: the server closed the connection with code 4501: sign in again (you have signed out)\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), wanted));
}

#[tokio::test]
async fn what_keeps_one_from_signing_in_is_one_sentence_each() {
    let wait = r#","retry_after":5500"#;
    for (status, code, wait, wanted) in [
        (
            401,
            "unauthorized",
            "",
            r#"there is no account "ada" with that password; --sign-up opens one"#,
        ),
        (
            409,
            "name_taken",
            "",
            r#"the server does not take the name "ada": No. Choose another one with --name."#,
        ),
        (400, "bad_password", "", "the server does not take that password: No."),
        (429, "rate_limited", wait, "too many tries to sign in: try again in 6 s"),
        (503, "unavailable", "", "the server does not let us in: No. (unavailable)"),
    ] {
        let host = Host::open().await;
        let child = start_with(&host.url(), &[], "correct horse");
        let body = format!(r#"{{"type":"error","code":"{code}","message":"No."{wait}}}"#);
        host.answer(&format!("{status} No"), &body).await;
        let ended = end(child).await;
        assert_eq!((ended.code, ended.stderr), (Some(1), format!("chat: {wanted}\n")));
    }
}

#[tokio::test]
async fn who_is_refused_after_signing_in_is_signed_out() {
    let host = Host::open().await;
    let child = start_with(&host.url(), &[], "correct horse");
    give_token(&host, "correct horse").await;
    host.answer("429 Too Many Requests", "").await;
    let request = host.answer("204 No Content", "").await;
    assert!(request.starts_with("POST /api/logout HTTP/1.1\r\n"), "{request}");
    let ended = end(child).await;
    assert!(ended.stderr.contains("HTTP 429: too many connections or tries"), "{}", ended.stderr);
}

#[tokio::test]
async fn without_a_terminal_nobody_is_asked_for_a_password() {
    let (url, _request) = raw_server("HTTP/1.1 401 Unauthorized\r\n\r\n").await;
    let said = failure(&url, &[]).await;
    let wanted = "chat: the server wants you to sign in: add --password-file FILE, or put the password into CHAT_PASSWORD; --sign-up opens an account";
    assert_eq!(said, wanted);
}

#[tokio::test]
async fn a_password_file_that_is_none_is_one_sentence() {
    let said = failure("ws://127.0.0.1:1/ws", &["--password-file", "no/such/file"]).await;
    assert!(said.starts_with("chat: can't read the password in no/such/file: "), "{said}");
    let file = File::with("\n");
    let said = failure("ws://127.0.0.1:1/ws", &["--password-file", file.path()]).await;
    assert!(said.ends_with(" has to be the password, and it is empty"), "{said}");
}

#[tokio::test]
async fn help_reads_as_documentation() {
    let output = Command::new(env!("CARGO_BIN_EXE_chat")).arg("--help").output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in [
        "--url <URL>",
        "--name <NAME>",
        "--room <ROOM>",
        "--password-file <FILE>",
        "--sign-up",
        "CHAT_PASSWORD",
        "ws://127.0.0.1:3005/ws",
        "Examples:",
        "NO_COLOR",
        "Exit code:",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
