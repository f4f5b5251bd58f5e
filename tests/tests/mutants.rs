//! Wrong servers: does each scenario notice what it is there for?
//!
//! Each mutant is a milestone with one fault put in. The scenario named beside it must fail there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::chance::Chance;
use tests::faults;
use tests::program::{Program, cargo_build, executable, own_target_dir, workspace};
use tests::scenario::{Outcome, Target, of_milestone};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// While one mutant is built, others are played.
const AT_ONCE: usize = 6;

/// One fault.
struct Mutant {
    milestone: u8,
    /// What is wrong, as a name.
    fault: &'static str,
    /// The file it is in, from the milestone's folder.
    file: &'static str,
    /// Every occurrence of this text …
    find: &'static str,
    /// … becomes this one.
    replace: &'static str,
    /// The scenario that must fail.
    scenario: &'static str,
}

/// The faults that the runs under load have to notice as well.
const LOSSY: [&str; 2] = ["ack_before_the_message_is_stored", "history_after_what_is_said_now"];

const PACKAGES: [&str; 4] =
    ["step01-echo", "step02-multiuser", "step03-rooms", "step04-resilience"];

impl Mutant {
    fn package(&self) -> &'static str {
        PACKAGES.get(usize::from(self.milestone) - 1).copied().unwrap_or_default()
    }
}

/// The table: milestone, fault, file, find, replace, scenario.
macro_rules! mutants {
    ($($milestone:literal $fault:ident in $file:literal: $find:literal => $replace:literal, $scenario:ident;)*) => {
        const MUTANTS: &[Mutant] = &[$(Mutant {
            milestone: $milestone,
            fault: stringify!($fault),
            file: $file,
            find: $find,
            replace: $replace,
            scenario: stringify!($scenario),
        }),*];
    };
}

mutants! {
    1 no_limit_for_frames in "src/connection.rs":
        ".max_frame_size(Some(max_message_bytes))" => ".max_frame_size(None)",
        a_frame_that_promises_a_mebibyte_is_refused_at_once;
    1 no_limit_for_messages in "src/connection.rs":
        ".max_message_size(Some(max_message_bytes))" => ".max_message_size(None)",
        fragments_that_are_too_long_together_are_refused;
    1 wrong_close_code_for_bad_text in "src/connection.rs":
        "CloseCode::Invalid" => "CloseCode::Protocol",
        text_that_is_not_utf_8_is_refused;
    1 no_close_frame_after_an_error in "src/connection.rs":
        "Error::Protocol(_) => Some(CloseCode::Protocol)" => "Error::Protocol(_) => None",
        a_frame_without_a_mask_is_refused;
    1 break_on_close in "src/connection.rs":
        "Message::Ping(_) | Message::Pong(_) | Message::Close(_)" => "Message::Close(_) => return Ok(()), Message::Ping(_) | Message::Pong(_)",
        a_close_frame_is_answered_with_its_own_code;
    1 binary_forgotten in "src/connection.rs":
        "message @ (Message::Text(_) | Message::Binary(_)) =>" => "Message::Binary(_) => {} message @ Message::Text(_) =>",
        a_binary_message_comes_back_as_it_was;
    1 no_goodbye in "src/connection.rs":
        "Some(CloseCode::Away)" => "Option::<CloseCode>::None",
        sigterm_says_goodbye_to_every_client;
    1 patient_handshake in "src/connection.rs":
        "const HANDSHAKE: Duration = Duration::from_secs(10)" => "const HANDSHAKE: Duration = Duration::from_secs(100)",
        half_a_handshake_is_not_waited_for;
    1 place_is_never_free_again in "src/lib.rs":
        "drop(slot)" => "std::mem::forget(slot)",
        a_place_that_was_left_can_be_taken;
    1 failure_looks_like_success in "src/main.rs":
        "ExitCode::FAILURE" => "ExitCode::SUCCESS",
        a_taken_port_is_one_clear_sentence;

    2 a_list_taken_for_an_event in "src/protocol.rs":
        "let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| ErrorCode::BadJson)?;\n    match serde_json::from_value(Value::Object(object)) {" =>
        "let _object: Option<Map<String, Value>> = None;\n    match serde_json::from_str(text) {",
        json_that_is_no_object_is_answered_with_an_error;
    2 no_cleanup in "src/connection.rs":
        "hub.leave(&name);" => "let _ = (&hub, &name);",
        the_others_hear_that_a_connection_broke;
    2 names_by_case in "src/names.rs":
        "name.to_lowercase()" => "name.to_owned()",
        names_that_differ_only_in_case_are_the_same;
    2 names_not_normalized in "src/names.rs":
        "name.nfkc().collect()" => "name.chars().collect()",
        two_ways_to_write_the_same_letters_are_the_same_name;
    2 names_counted_in_bytes in "src/names.rs":
        "name.chars().count()" => "name.len()",
        a_name_may_have_32_characters_and_not_33;
    2 text_not_trimmed in "src/protocol.rs":
        "let text = text.trim();" => "",
        white_space_around_a_text_is_trimmed;
    2 one_character_too_many in "src/protocol.rs":
        "const MAX_TEXT: usize = 2000" => "const MAX_TEXT: usize = 2001",
        a_text_may_have_2000_characters_and_not_2001;
    2 origin_not_looked_at in "src/lib.rs":
        ".and(origin::check(settings.allowed_origins.as_slice().into()))" => "",
        pages_of_other_sites_may_not_connect;
    2 origin_by_its_start in "src/origin.rs":
        "authority == host" => "authority.is_some_and(|name| host.is_some_and(|host| name.starts_with(host)))",
        look_alike_origins_may_not_connect;
    2 unbounded_queue in "src/outbox.rs":
        "const BUDGET: usize = 1024 * 1024" => "const BUDGET: usize = 1024 * 1024 * 1024",
        a_client_that_does_not_read_is_closed;
    2 wrong_close_code_for_the_slow in "src/connection.rs":
        "4008u16" => "1008u16",
        a_client_that_does_not_read_is_closed;
    2 an_order_for_each in "src/hub.rs":
        "user.outbox.push(message.clone());" => "let (outbox, message) = (user.outbox.clone(), message.clone());
            static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            let late = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 4 == 0;
            let wait = std::time::Duration::from_millis(if late { 3 } else { 0 });
            if wait.is_zero() { outbox.push(message) } else {
                tokio::spawn(async move { tokio::time::sleep(wait).await; outbox.push(message) });
            }",
        everyone_hears_the_same_order;
    2 hello_never_due in "src/connection.rs":
        "const HELLO: Duration = Duration::from_secs(10)" => "const HELLO: Duration = Duration::from_secs(100)",
        whoever_never_says_hello_has_to_go;
    2 bad_json_ends_the_connection in "src/connection.rs":
        "Err(error) => self.outbox.tell(error)," => "Err(error) => { self.outbox.tell(error); return Err(Ending::Left); }",
        broken_json_is_answered_with_an_error;
    2 sniffing_allowed in "src/page.rs":
        "\"nosniff\"" => "\"none\"",
        the_page_runs_no_smuggled_script;

    3 history_too_short in "src/room.rs":
        "const HISTORY: usize = 50" => "const HISTORY: usize = 49",
        a_late_joiner_gets_the_last_fifty_messages;
    3 typing_comes_back in "src/room.rs":
        "self.tell_others(&name, &event);" => "self.tell_all(&event);",
        the_others_see_who_is_typing;
    3 direct_for_everyone in "src/hub.rs":
        "recipient.outbox.push(message);" => "for user in users.values() { user.outbox.push(message.clone()); }",
        a_direct_message_reaches_nobody_else;
    3 direct_to_oneself_twice in "src/hub.rs":
        "if from != to {" => "if !from.is_empty() {",
        a_direct_message_to_oneself_comes_once;
    3 one_room_for_all in "src/hub.rs":
        "rooms.get(name).and_then(|room| room.commands.upgrade())" => "rooms.values().find_map(|room| room.commands.upgrade())",
        a_message_stays_in_its_room;
    3 one_namespace_for_all in "src/lib.rs":
        "NAMESPACES.map(|name| (name, Arc::default()))" => "{ let hub: Arc<Hub> = Arc::default(); NAMESPACES.map(|name| (name, Arc::clone(&hub))) }",
        namespaces_share_no_names;
    3 no_cleanup in "src/connection.rs":
        "let _ = room.send(Command::Gone { name: name.clone() }).await;" => "let _ = &room;",
        the_members_hear_that_a_connection_ended;
    3 leaving_does_nothing in "src/room.rs":
        "self.remove(name);" => "",
        the_members_hear_that_somebody_left;
    3 one_room_too_few in "src/connection.rs":
        "const MAX_ROOMS: usize = 64" => "const MAX_ROOMS: usize = 63",
        one_may_be_in_64_rooms_and_not_in_65;
    3 members_not_counted in "src/room.rs":
        "self.size.store(self.members.len(), " => "self.size.store(1, ",
        rooms_lists_the_rooms_and_counts_their_members;
    3 joining_twice_is_told in "src/room.rs":
        "if !already_here {" => "if already_here || !already_here {",
        joining_twice_is_harmless;
    3 members_not_sorted in "src/room.rs":
        "members.sort_by_cached_key(|name| names::key(name));" => "members.sort(); members.reverse();",
        joined_lists_the_members;
    3 rooms_in_any_script in "src/room.rs":
        "c.is_ascii_lowercase()" => "c.is_lowercase()",
        a_room_has_a_plain_name;
    3 an_order_for_each in "src/room.rs":
        "member.outbox.push(message.clone());" => "let (outbox, message) = (member.outbox.clone(), message.clone());
            static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            let late = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 4 == 0;
            let wait = std::time::Duration::from_millis(if late { 3 } else { 0 });
            if wait.is_zero() { outbox.push(message) } else {
                tokio::spawn(async move { tokio::time::sleep(wait).await; outbox.push(message) });
            }",
        everyone_hears_the_same_order;
    3 unbounded_queue in "src/outbox.rs":
        "const BUDGET: usize = 1024 * 1024" => "const BUDGET: usize = 1024 * 1024 * 1024",
        a_client_that_does_not_read_is_closed;

    4 ack_before_the_message_is_stored in "src/room.rs":
        "let answered = self.log.append(draft).await;" => "let last = self.history.as_ref().map_or(0, |history| history.seq());
        let seq = last + self.under_way.len() as u64 + 1;
        reply.tell(ServerEvent::Ack { id, room: self.name.clone(), seq });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let answered = self.log.append(draft).await;",
        what_was_acked_outlives_a_kill;
    4 log_in_memory in "src/store.rs":
        "Connection::open(file)?" => "{ let _ = file; Connection::open_in_memory()? }",
        history_and_epoch_outlive_a_restart;
    4 epoch_of_the_process in "src/log.rs":
        "let epoch = store.epoch().map_err(|error| failed(error.into()))?;" => "let epoch = Uuid::new_v4();",
        a_cursor_from_before_a_restart_resumes;
    4 directory_not_locked in "src/log.rs":
        "match file.try_lock() {" => "match Ok::<(), TryLockError>(()) {",
        two_servers_do_not_share_a_data_directory;
    4 repeated_messages_stored_again in "src/store.rs":
        "params![namespace, room, sender, id, from, text, at]" => "params![namespace, room, sender, Uuid::new_v4(), from, text, at]",
        a_repeated_message_is_acked_again_and_said_once;
    4 ids_of_everyone in "src/store.rs":
        "(names::key(from), now())" => "(String::from(\"everyone\"), now())",
        an_id_is_its_sender_s_own;
    4 conflicts_not_noticed in "src/store.rs":
        "(false, _) => Appended::Conflict," => "(false, seq) => Appended::Repeated(seq),",
        a_used_id_with_another_text_is_a_conflict;
    4 errors_about_nothing in "src/client.rs":
        "reply.tell(code.about(id));" => "let _ = id; reply.tell(code.about(None));",
        an_error_names_the_message_it_answers;
    4 typing_stored in "src/room.rs":
        "let event = ServerEvent::Typing {" => "let (room, text) = (self.name.clone(), String::from(\"typing\"));
            let draft = Draft { namespace: self.namespace, room, id: Uuid::new_v4(), from: who.name.clone(), text };
            let log = self.log.clone();
            tokio::spawn(async move { let _ = log.append(draft).await.await; });
            let event = ServerEvent::Typing {",
        typing_is_not_stored;
    4 only_fifty_after_the_cursor in "src/history.rs":
        "let messages = self.after(after).await?;" => "let mut messages = self.after(after).await?;
        messages.truncate(50);",
        a_resume_gives_every_message_after_the_cursor;
    4 history_after_what_is_said_now in "src/room.rs":
        "member.outbox.push_history((&joined).into(), turn);" => "let (outbox, letter) = (member.outbox.clone(), (&joined).into());
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            outbox.push_history(letter, turn);
        });",
        a_resume_while_others_speak_has_no_seam;
    4 epoch_not_looked_at in "src/history.rs":
        "other_count || too_far || too_old" => "too_far || too_old",
        a_cursor_of_another_epoch_is_a_gap;
    4 gap_not_told in "src/history.rs":
        "Missed { messages, seq: self.seq, gap }" => "Missed { messages, seq: self.seq, gap: gap && false }",
        a_cursor_ahead_of_the_log_is_a_gap;
    4 conversations_open_to_all in "src/conversation.rs":
        "_ => Err(ErrorCode::Forbidden)," => "_ => Ok(Some(one.to_owned())),",
        nobody_else_may_join_read_or_write_a_conversation;
    4 conversations_listed in "src/hub.rs":
        "!conversation::is_one(name)" => "!name.is_empty()",
        a_conversation_is_in_nobody_s_list;
    4 old_connection_stays in "src/hub.rs":
        "user.replaced.cancel();" => "",
        a_session_takes_the_name_back;
    4 any_session_will_do in "src/hub.rs":
        "if session != Some(user.session) {" => "if session.is_none() {",
        another_session_does_not_take_a_name;
    4 never_recovers in "src/log.rs":
        "self.degraded.send_replace(false);" => "",
        the_server_recovers_by_itself;
    4 no_hint_when_to_come_back in "src/drain.rs":
        "outbox.tell(ServerEvent::Reconnect { after: millis });" => "let _ = (outbox, millis);",
        sigterm_tells_every_client_when_to_come_back;
    4 second_signal_ignored in "src/main.rs":
        "std::process::exit(130)" => "std::future::pending().await",
        a_second_signal_ends_the_program_at_once;
    4 last_event_id_ignored in "src/events.rs":
        "last_event_id.filter(|id| !id.is_empty());" => "last_event_id.filter(|_| false);",
        a_stream_resumes_by_itself;
    4 fallback_for_every_site in "src/lib.rs":
        "events::routes(at(\"hello\"), at(\"events\")," => "events::routes(namespace(\"hello\", Arc::clone(&namespaces)), namespace(\"events\", Arc::clone(&namespaces)),",
        pages_of_other_sites_may_not_use_the_fallback;
    4 forms_welcome in "src/events.rs":
        "if is_json { Ok(()) }" => "if is_json || !is_json { Ok(()) }",
        a_post_of_another_type_is_refused;
    4 no_heartbeat in "src/heartbeat.rs":
        "const PERIOD: Duration = Duration::from_secs(25)" => "const PERIOD: Duration = Duration::from_secs(250)",
        the_server_pings_and_keeps_who_answers;
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let workshop = Arc::new(Workshop::new());
    let trials = MUTANTS.iter().map(|mutant| {
        let (workshop, runtime) = (Arc::clone(&workshop), runtime.handle().clone());
        let name = format!("{}::{}::{}", mutant.package(), mutant.fault, mutant.scenario);
        Trial::test(name, move || {
            let noticed = runtime.block_on(is_noticed(mutant, &workshop));
            noticed.map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let mut trials: Vec<Trial> = trials.collect();
    let lossy = MUTANTS.iter().filter(|mutant| LOSSY.contains(&mutant.fault));
    trials.extend(lossy.map(|mutant| {
        let (workshop, runtime) = (Arc::clone(&workshop), runtime.handle().clone());
        let name = format!("{}::{}::kills_under_load", mutant.package(), mutant.fault);
        Trial::test(name, move || {
            let noticed = runtime.block_on(is_noticed_under_load(mutant, &workshop));
            noticed.map_err(|error| Failed::from(format!("{error:#}")))
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The comparison of what clients saw with the log must find something.
async fn is_noticed_under_load(mutant: &Mutant, workshop: &Workshop) -> Result<()> {
    let program = Program::command(workshop.build(mutant).await?, Vec::<String>::new());
    let report = faults::kills(&program, 4, Chance::seed()).await?;
    ensure!(!report.figures.is_right(), "the comparison did not notice the fault: {report}");
    Ok(())
}

/// The scenario must fail.
async fn is_noticed(mutant: &Mutant, workshop: &Workshop) -> Result<()> {
    let scenarios = of_milestone(mutant.milestone);
    let scenario = scenarios.iter().find(|scenario| scenario.name == mutant.scenario);
    let scenario = scenario.context("there is no such scenario")?;
    let program = Program::command(workshop.build(mutant).await?, Vec::<String>::new());
    // A server that does not start at all would fail every scenario, and prove nothing.
    drop(program.start().await?);
    let target = Target::program(program);
    match scenario.run(&target).await {
        Outcome::Failed(_) => Ok(()),
        Outcome::Passed => bail!("the scenario did not notice the fault"),
        Outcome::Skipped(reason) => bail!("the scenario was not played: {reason}"),
    }
}

/// Where mutants are made: a workspace of its own beside the real one's programs, so that the two
/// never take each other's for their own. One mutant at a time is built there.
struct Workshop {
    folder: PathBuf,
    building: Mutex<()>,
}

impl Workshop {
    fn new() -> Self {
        let target = own_target_dir().unwrap_or_else(|| workspace().join("target"));
        Self { folder: target.join("mutants"), building: Mutex::default() }
    }

    /// Builds a mutant, and gives its program.
    async fn build(&self, mutant: &Mutant) -> Result<PathBuf> {
        let _one_at_a_time = self.building.lock().await;
        self.set_up()?;
        self.put_fault_in(mutant)?;
        let mut cargo = cargo_build(&self.folder);
        cargo.args(["--package", mutant.package(), "--target-dir"]).arg(self.folder.join("target"));
        // The faults need no line numbers, and build faster without them.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUSTFLAGS", "--cap-lints=allow");
        let built = executable(cargo).await.context("the mutant can't be built")?;
        self.keep(&built, mutant).await
    }

    /// A workspace with the milestones in it, as they are.
    fn set_up(&self) -> Result<()> {
        let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
        let members = format!("members = {PACKAGES:?}");
        let is_members = |line: &&str| line.starts_with("members = ");
        let old = manifest.lines().find(is_members).context("no `members = ` in Cargo.toml")?;
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("Cargo.toml"), manifest.replace(old, &members))?;
        let lock = self.folder.join("Cargo.lock");
        if !lock.exists() {
            fs::copy(workspace().join("Cargo.lock"), lock)?;
        }
        for package in PACKAGES {
            let (from, to) = (workspace().join(package), self.folder.join(package));
            fs::create_dir_all(&to)?;
            fs::copy(from.join("Cargo.toml"), to.join("Cargo.toml"))?;
            copy_folder(&from.join("src"), &to.join("src"))?;
        }
        Ok(())
    }

    fn put_fault_in(&self, mutant: &Mutant) -> Result<()> {
        let path = self.folder.join(mutant.package()).join(mutant.file);
        let right = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let found = right.contains(mutant.find);
        ensure!(found, "{} has no `{}` any more", mutant.file, mutant.find);
        Ok(fs::write(&path, right.replace(mutant.find, mutant.replace))?)
    }

    /// Puts the program aside, before the next mutant takes its place.
    async fn keep(&self, built: &Path, mutant: &Mutant) -> Result<PathBuf> {
        let programs = self.folder.join("programs");
        fs::create_dir_all(&programs)?;
        let program = programs.join(format!("{}-{}", mutant.package(), mutant.fault));
        // Not copied by this process: a program can't be started while somebody has it open for
        // writing, and a child that is started meanwhile inherits what we have open for a moment.
        let copied = Command::new("cp").arg(built).arg(&program).status().await?;
        ensure!(copied.success(), "can't copy {}", built.display());
        Ok(program)
    }
}

/// Copies a folder, and leaves nothing in the copy that is not in the original.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
