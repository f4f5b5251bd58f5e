//! Wrong servers: does each scenario notice what it is there for?
//!
//! Each mutant is a milestone with one fault put in. The scenario named beside it must fail there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::chance::Chance;
use tests::program::{Program, cargo_build, executable, own_target_dir, workspace};
use tests::scenario::{Outcome, Scenario, Target, of_milestone};
use tests::{cluster, faults, redis};
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

const PACKAGES: [&str; 5] =
    ["step01-echo", "step02-multiuser", "step03-rooms", "step04-resilience", "step05-production"];

impl Mutant {
    fn package(&self) -> &'static str {
        PACKAGES.get(usize::from(self.milestone) - 1).copied().unwrap_or_default()
    }

    /// The scenario that must fail, and whether it takes a Redis.
    fn scenario(&self) -> Option<(Scenario, bool)> {
        let find = |all: Vec<Scenario>| all.into_iter().find(|it| it.name == self.scenario);
        let alone = find(of_milestone(self.milestone)).map(|scenario| (scenario, false));
        alone.or_else(|| find(cluster::scenarios()).map(|scenario| (scenario, true)))
    }

    fn takes_redis(&self) -> bool {
        self.scenario().is_some_and(|(_, takes_redis)| takes_redis)
    }

    /// What is missing to play it, if something is.
    fn missing(&self) -> Option<String> {
        if self.takes_redis() { redis::missing() } else { None }
    }

    /// Says so if the text is not there any more in which the fault would be.
    fn out_of_place(&self) -> Option<String> {
        let file = workspace().join(self.package()).join(self.file);
        let is_there = fs::read_to_string(&file).is_ok_and(|text| text.contains(self.find));
        (!is_there).then(|| format!("{}: {} has no `{}`", self.fault, file.display(), self.find))
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

    5 own_page_by_any_host in "src/origin.rs":
        "&& host.is_some_and(is_loopback)" => "&& host.is_some()",
        a_name_that_leads_here_is_no_permission;
    5 origin_by_its_start in "src/origin.rs":
        "allowed.iter().any(|site| site == origin)" => "allowed.iter().any(|site| origin.starts_with(site.as_str()))",
        pages_of_other_sites_get_nowhere;
    5 origin_not_looked_at in "src/origin.rs":
        "(is_own(origin, host) && is_near(site));" => "(is_own(origin, host) && is_near(site)) || origin.is_some();",
        pages_of_other_sites_may_not_connect;
    5 programs_need_an_origin in "src/origin.rs":
        "let Some(origin) = origin else { return true };" => "let Some(origin) = origin else { return false };",
        programs_without_an_origin_may_connect;
    5 fetch_site_not_looked_at in "src/origin.rs":
        "site.is_none_or(|site| site == \"same-origin\" || site == \"none\")" => "site.is_none_or(|_| true)",
        requests_from_other_sites_are_refused;
    5 permission_for_everyone in "src/lib.rs":
        ".with(reply::with::headers(page::security_headers(&settings.allowed_origins)))" =>
        ".with(reply::with::headers(page::security_headers(&settings.allowed_origins)))
        .with(reply::with::header(\"access-control-allow-origin\", \"*\"))",
        no_other_site_is_given_permission;
    5 forms_welcome in "src/body.rs":
        "if is_fine { Ok(()) }" => "if is_fine || !is_fine { Ok(()) }",
        a_form_of_another_site_does_nothing;
    5 no_session_is_one_too in "src/accounts.rs":
        "self.directory.session(session).await? else {
            return Ok(None);" => "self.directory.session(session).await? else {
            return Ok(Some(SignedIn { name: \"anonymous\".to_owned(), session, ends: u64::MAX }));",
        nobody_gets_in_without_a_session;
    5 sessions_of_everyone in "src/sessions.rs":
        "Some(session) => open.get(&session).filter(is_theirs)," => "Some(session) => open.get(&session),",
        a_client_of_another_account_is_a_401;
    5 sessions_taken_from_others in "src/sessions.rs":
        "guest.session.filter(|session| self.is_free_for(&guest.name, *session))" => "guest.session.filter(|session| self.is_free_for(&guest.name, *session) || !guest.name.is_empty())",
        a_hello_with_another_s_session_takes_nothing_away;
    5 scripts_read_the_cookie in "src/caller.rs":
        "Path=/; HttpOnly; SameSite=Lax" => "Path=/; SameSite=Lax",
        a_cookie_is_out_of_reach_of_scripts_and_other_sites;
    5 other_sites_send_the_cookie in "src/caller.rs":
        "HttpOnly; SameSite=Lax" => "HttpOnly; SameSite=None",
        a_cookie_is_out_of_reach_of_scripts_and_other_sites;
    5 one_cookie_for_all_ports in "src/caller.rs":
        "Some(port) => format!(\"session-{port}\")," => "Some(_) => \"session\".to_owned(),",
        a_cookie_is_out_of_reach_of_scripts_and_other_sites;
    5 anybody_says_it_is_tls in "src/caller.rs":
        "(by_trusted_proxy && says_https)" => "says_https",
        behind_tls_the_cookie_stays_there;
    5 token_in_the_address in "src/caller.rs":
        "warp::header::headers_cloned().and_then(move |headers: HeaderMap| {
        let accounts" => "let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::header::headers_cloned().and(query).and_then(move |mut headers: HeaderMap, query: String| {
        if let Some((_, token)) = query.split_once(\"token=\")
            && let Ok(value) = format!(\"Bearer {}\", token.split('&').next().unwrap_or_default()).parse()
        {
            headers.insert(AUTHORIZATION, value);
        }
        let accounts",
        a_token_in_the_address_signs_nobody_in;
    5 passwords_in_the_log in "src/api.rs":
        "let turn = api.accounts.turn().await?;" => "tracing::debug!(name, password, \"signing in\");
    let turn = api.accounts.turn().await?;",
        no_password_token_or_cookie_gets_into_the_log;
    5 tokens_in_the_log in "src/caller.rs":
        "let signed_in = accounts.signed_in(&token).await.transpose();" => "tracing::debug!(token, \"asked\");
            let signed_in = accounts.signed_in(&token).await.transpose();",
        no_password_token_or_cookie_gets_into_the_log;
    5 bodies_in_the_log in "src/connection.rs":
        "match protocol::decode(json) {" => "tracing::debug!(json, \"came\");
        match protocol::decode(json) {",
        nothing_that_people_say_gets_into_the_log;
    5 names_in_the_lines_of_the_log in "src/api.rs":
        "let turn = api.accounts.turn().await?;" => "tracing::info!(\"{name} signs in\");
    let turn = api.accounts.turn().await?;",
        nobody_makes_lines_in_the_log;
    5 lines_beside_the_json in "src/api.rs":
        "let turn = api.accounts.turn().await?;" => "eprintln!(\"{name} signs in\");
    let turn = api.accounts.turn().await?;",
        with_json_every_line_of_the_log_is_json;
    5 tokens_in_the_data in "src/accounts.rs":
        "Sha256::digest(token).into()" => "{
        let mut bytes = [b' '; 32];
        bytes.iter_mut().zip(token.bytes()).for_each(|(one, byte)| *one = byte);
        bytes
    }",
        no_token_is_in_the_data;
    5 every_session_is_for_ever in "src/live.rs":
        "|_, open| open.ends <= now" => "|_, open| open.ends == 0 && now == 0",
        a_session_that_is_over_ends_its_connections;
    5 unused_sessions_stay in "src/accounts.rs":
        "now >= ends || now >= used.saturating_add(millis(self.lifetime.idle))" => "now >= ends || used == 0",
        a_session_that_nobody_uses_ends;
    5 cookie_only_cleared in "src/accounts.rs":
        "self.directory.end_session(session).await?;" => "",
        who_signs_out_is_out;
    5 connections_outlive_their_session in "src/accounts.rs":
        "self.live.end(session, now());" => "",
        signing_out_ends_that_session_s_connections_and_no_others;
    5 unknown_names_are_told in "src/accounts.rs":
        "name.filter(|_| is_right).ok_or(ErrorCode::Unauthorized)" =>
        "let code = if name.is_some() { ErrorCode::Unauthorized } else { ErrorCode::NoSuchUser };
        name.filter(|_| is_right).ok_or(code)",
        an_unknown_name_and_a_wrong_password_get_the_same_answer;
    5 no_hash_for_nobody in "src/password.rs":
        "let is_somebody = hash.is_some();" => "if hash.is_none() { return false; }
        let is_somebody = hash.is_some();",
        an_unknown_name_takes_as_long_as_a_wrong_password;
    5 any_password_will_do in "src/password.rs":
        "is_somebody && is_right == Some(true)" => "is_somebody && is_right.is_some()",
        who_signs_in_gets_a_cookie;
    5 passwords_of_any_length in "src/password.rs":
        "8..=256" => "1..=1_000_000",
        a_password_has_8_to_256_characters;
    5 guessing_a_password_for_ever in "src/tries.rs":
        "self.accounts.count(account);" => "drop(account);",
        guessing_from_many_addresses_gets_slow_too;
    5 guesses_at_the_same_time in "src/api.rs":
        "    // Others that have waited as well may have failed meanwhile.
    may_try(api, caller, name).await?;" => "",
        guessing_a_password_gets_slow;
    5 guessing_everyone_s_password in "src/tries.rs":
        "self.addresses.count(group(address));" => "let _ = group(address);",
        guessing_at_many_accounts_gets_slow_for_the_address;
    5 registrations_without_end in "src/tries.rs":
        "Bucket::new(200, Duration::from_secs(1))" => "Bucket::new(20_000, Duration::from_secs(1))",
        an_address_registers_200_accounts_and_then_slowly;
    5 right_passwords_cost_as_well in "src/api.rs":
        "if let (Err(ErrorCode::Unauthorized), Some(tries)) = (&checked, &api.tries) {" => "if let Some(tries) = &api.tries {",
        signing_in_rightly_is_not_slowed_down;
    5 look_alikes_welcome in "src/lookalikes.rs":
        "let letters: String = skeleton(name).collect();
    let small = letters.to_lowercase().replace('i', \"l\");
    skeleton(&small).collect()" => "name.to_lowercase()",
        a_name_that_looks_like_another_is_taken;
    5 names_of_the_house_for_all in "src/accounts.rs":
        "lookalikes::is_reserved(&name) || " => "",
        names_of_the_house_are_reserved;
    5 conversations_open_to_all in "src/conversation.rs":
        "_ => Err(ErrorCode::Forbidden)," => "_ => Ok(Some(one.to_owned())),",
        a_conversation_of_others_is_closed_by_every_way;
    5 conversations_told_apart in "src/conversation.rs":
        "_ => Err(ErrorCode::Forbidden)," => "_ if one.len() + other.len() > 24 => Err(ErrorCode::Forbidden),
        _ => Err(ErrorCode::NoSuchUser),",
        nobody_learns_who_talks_with_whom;
    5 names_from_a_header in "src/caller.rs":
        "let signed_in = accounts.signed_in(&token).await.transpose();" => "let mut signed_in = accounts.signed_in(&token).await.transpose();
            let name = text(&headers, &HeaderName::from_static(\"x-user\"));
            if let (Some(Ok(who)), Some(name)) = (&mut signed_in, name) {
                who.name = name.to_owned();
            }",
        one_cannot_act_for_another_over_http_either;
    5 search_in_every_conversation in "src/api.rs":
        "if conversation::partner(&room, &by.name)?.is_none() {" => "if !conversation::is_one(&room) {",
        a_conversation_is_searched_by_its_two;
    5 search_in_every_room in "src/search.rs":
        "format!(\"place:{} AND text:({words})\", place(namespace, room))" => "{ let _ = place(namespace, room); format!(\"text:({words})\") }",
        a_search_stays_in_its_room_and_namespace;
    5 a_longer_page in "src/search.rs":
        "const FOUND: usize = 50" => "const FOUND: usize = 51",
        a_search_goes_on_before_a_number;
    5 signs_with_a_meaning in "src/search.rs":
        "format!(\"\\\"{}\\\"\", word.replace('\"', \"\\\"\\\"\"))" => "word.to_owned()",
        signs_in_a_search_mean_nothing;
    5 rooms_in_any_script in "src/room.rs":
        "c.is_ascii_lowercase()" => "c.is_lowercase()",
        a_room_s_name_smuggles_nothing;
    5 no_limit_for_a_connection in "src/limits.rs":
        "const CONNECTION: Quota = quota(20, 100)" => "const CONNECTION: Quota = quota(20_000, 100_000)",
        of_a_burst_of_200_messages_half_is_refused;
    5 no_limit_for_a_user in "src/limits.rs":
        "const USER: Quota = quota(40, 150)" => "const USER: Quota = quota(40_000, 150_000)",
        two_connections_share_their_user_s_budget;
    5 no_limit_for_an_address in "src/limits.rs":
        "const ADDRESS: Quota = quota(400, 2000)" => "const ADDRESS: Quota = quota(400_000, 2_000_000)",
        all_users_of_an_address_share_its_budget;
    5 wrong_pause in "src/limits.rs":
        "Err(until.wait_time_from(DefaultClock::default().now()))" => "{ let _ = until; Err(Duration::from_millis(1)) }",
        after_the_pause_it_goes_on;
    5 floods_go_on in "src/limits.rs":
        "const PATIENCE: Quota = quota(10, 200)" => "const PATIENCE: Quota = quota(10_000, 2_000_000)",
        who_goes_on_flooding_is_closed;
    5 joins_not_counted in "src/connection.rs":
        "if let Err(too_much) = self.socket.meter().event() {" => "let is_join = message.to_text().is_ok_and(|text| text.contains(\"\\\"join\\\"\") || text.contains(\"\\\"leave\\\"\"));
        if let (Err(too_much), false) = (self.socket.meter().event(), is_join) {",
        joining_and_leaving_is_limited_too;
    5 no_limit_for_the_fallback in "src/events.rs":
        "if let Err(refused) = open.count() {" => "if let (Err(refused), true) = (open.count(), false) {",
        the_fallback_has_the_same_limits;
    5 bytes_not_counted in "src/limits.rs":
        "const BYTES: Quota = quota(64 * 1024, 512 * 1024)" => "const BYTES: Quota = quota(1 << 30, 1 << 30)",
        a_flood_of_bytes_is_closed;
    5 fragments_not_counted in "src/socket.rs":
        "self.meter.bytes(count).map_err(|_spent| FLOODED)?;\n        if self.incomplete() > MAX_ON_THE_WIRE {" =>
        "if self.incomplete() > u64::MAX - 1 {",
        a_hundred_thousand_empty_fragments_are_closed;
    5 limits_off_by_default in "src/limits.rs":
        "Err(until) if self.on => {" => "Err(until) if !self.on => {",
        limits_are_on_unless_they_are_switched_off;
    5 no_cap_for_an_address in "src/seats.rs":
        "count >= self.caps.per_address" => "count >= usize::MAX",
        an_address_has_so_many_connections_and_no_more;
    5 no_cap_for_a_user in "src/seats.rs":
        "count >= self.caps.per_user" => "count >= usize::MAX",
        a_user_has_so_many_connections_and_no_more;
    5 no_cap_at_all in "src/seats.rs":
        "} else if taken.all >= self.caps.all {" => "} else if taken.all >= usize::MAX {",
        a_full_server_says_when_to_come_back;
    5 seats_never_free_again in "src/seats.rs":
        "leave(&mut taken.addresses, address);" => "let _ = address;",
        an_address_has_so_many_connections_and_no_more;
    5 every_header_believed in "src/address.rs":
        "if !proxies.iter().any(|proxy| proxy.contains(&address)) {" => "if next.is_empty() {",
        nobody_forges_an_address;
    5 the_first_address_believed in "src/address.rs":
        "said.into_iter().rev()" => "said.into_iter()",
        a_trusted_proxy_tells_addresses_apart;
    5 every_ipv6_address_for_itself in "src/address.rs":
        "address.to_bits() >> 64 << 64" => "address.to_bits()",
        an_ipv6_network_of_64_bits_is_one_address;
    5 rooms_of_a_user_not_counted in "src/hub.rs":
        "const MEMBERSHIPS: usize = 256" => "const MEMBERSHIPS: usize = 256_000",
        a_user_is_in_256_rooms_and_not_in_more;
    5 rooms_without_end in "src/lib.rs":
        "Semaphore::new(settings.max_rooms as usize)" => "Semaphore::new(settings.max_rooms as usize + 1000)",
        a_server_has_so_many_rooms_and_no_more;
    5 patient_with_heads in "src/accept.rs":
        "const HEAD: Duration = Duration::from_secs(10)" => "const HEAD: Duration = Duration::from_secs(100)",
        half_a_request_is_hung_up_on;
    5 heads_of_any_size in "src/accept.rs":
        "const MAX_HEAD: usize = 16 * 1024" => "const MAX_HEAD: usize = 1024 * 1024",
        a_header_without_end_is_refused;
    5 patient_with_bodies in "src/body.rs":
        "const BODY: Duration = Duration::from_secs(10)" => "const BODY: Duration = Duration::from_secs(100)",
        a_body_that_never_comes_is_not_waited_for;
    5 patient_with_messages in "src/socket.rs":
        "const MESSAGE: Duration = Duration::from_secs(10)" => "const MESSAGE: Duration = Duration::from_secs(100)",
        half_a_frame_is_closed;
    5 each_byte_moves_the_deadline in "src/socket.rs":
        "self.begun.get_or_insert_with(Instant::now);" => "self.begun = Some(Instant::now());",
        a_frame_a_byte_at_a_time_is_closed;
    5 pings_move_the_deadline in "src/socket.rs":
        "wire.bytes.min(wire.complete + (CONTROL + payload.len()) as u64)" => "wire.bytes.max(payload.len() as u64)",
        a_message_without_its_end_is_closed;
    5 messages_of_any_size in "src/socket.rs":
        "const MAX_MESSAGE: usize = 64 * 1024" => "const MAX_MESSAGE: usize = 64 * 1024 * 1024",
        a_frame_that_promises_a_mebibyte_is_refused_at_once;
    5 wrong_close_code_for_bad_text in "src/ending.rs":
        "Error::Utf8(_) => Self::Broken(1007)" => "Error::Utf8(_) => Self::Broken(1002)",
        fragments_that_are_not_utf_8_together_are_refused;
    5 any_version_will_do in "src/upgrade.rs":
        "&& has(headers, header::SEC_WEBSOCKET_VERSION, VERSION);" => ";",
        another_version_is_told_which_one_is_spoken;
    5 any_key_will_do in "src/upgrade.rs":
        "if !is_key(key.as_bytes()) {" => "if key.is_empty() && !is_key(key.as_bytes()) {",
        a_key_that_is_none_is_refused;
    5 every_protocol_agreed_on in "src/upgrade.rs":
        "if self.knows_us {" => "if self.knows_us || !self.accept.is_empty() {",
        the_protocol_of_the_chat_is_agreed_on;
    5 compression_agreed_on in "src/upgrade.rs":
        "if self.knows_us {" => "headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(\"permessage-deflate\"));
        if self.knows_us {",
        no_compression_is_agreed_on;
    5 metrics_for_everyone in "src/lib.rs":
        "chat.or(fallback)" => "warp::path!(\"metrics\").map(|| \"connections 1\".into_response()).or(chat).unify().or(fallback)",
        health_and_metrics_are_on_the_admin_port;
    5 a_series_for_each_user in "src/connection.rs":
        "telemetry::opened(TRANSPORT);" => "metrics::counter!(\"users_total\", \"name\" => connection.client.who().name.clone()).increment(1);
    telemetry::opened(TRANSPORT);",
        metrics_do_not_grow_with_rooms_and_users;
    5 ready_although_full in "src/admin.rs":
        "} else if self.seats.is_full() {" => "} else if self.seats.is_full() && self.stop.is_cancelled() {",
        a_full_server_is_not_ready;
    5 ready_although_stopping in "src/admin.rs":
        "let (status, word) = if self.stop.is_cancelled() {" => "let (status, word) = if self.stop.is_cancelled() && self.seats.is_full() {",
        a_draining_server_is_not_ready;
    5 sessions_in_the_backup in "src/backup.rs":
        "store.db.execute(\"DELETE FROM sessions\", [])?;" => "",
        a_backup_is_made_while_the_server_runs;
    5 the_same_epoch_after_a_restore in "src/backup.rs":
        "store.db.execute(\"UPDATE log SET epoch = ?1\", [Uuid::new_v4()])?;" => "",
        a_backup_is_made_while_the_server_runs;
    5 anything_restored in "src/backup.rs":
        "let _lock = embedded::lock(dir).map_err(|error| error.to_string())?;" => "",
        a_backup_that_is_none_is_not_restored;
    5 newer_data_misread in "src/schema.rs":
        "let Some(steps) = STEPS.get(version..) else {" => "let Some(steps) = STEPS.get(version.min(STEPS.len())..) else {",
        data_of_a_newer_version_are_refused;
    5 old_messages_stay in "src/embedded.rs":
        "now().saturating_sub(millis(retention))" => "now().saturating_sub(millis(retention * 10))",
        with_retention_old_messages_go;
    5 every_connection_a_member in "src/room.rs":
        "self.let_in(&who.name);" => "self.let_in(&who.name);
        let (room, name) = (self.id.room.clone(), who.name.clone());
        self.hint_others(&who.name, &ServerEvent::MemberJoined { room, name });",
        a_user_with_two_connections_is_one_member;
    5 left_with_the_first_connection in "src/room.rs":
        "is_some_and(|member| member.listeners.is_empty())" => "is_some()",
        a_user_leaves_with_the_last_connection;
    5 old_connection_stays in "src/hub.rs":
        "old.cancel();" => "",
        coming_back_with_its_session_ends_a_client_s_old_connection;
    5 ids_of_everyone in "src/store.rs":
        "(names::key(from), now())" => "(String::from(\"everyone\"), now())",
        a_message_sent_again_elsewhere_is_the_same;
    5 wrong_close_code_for_the_slow in "src/outbox.rs":
        "code: 4008, reason: \"too slow\"" => "code: 1008, reason: \"too slow\"",
        a_client_that_does_not_read_is_closed;

    // Those of several nodes over one Redis.
    5 a_short_cut_to_the_own_members in "src/room.rs":
        "let answered = self.log.append(draft).await;" => "let seq = self.history.as_ref().map_or(0, |history| history.seq()) + 1;
        let (id, from, text, at) = (draft.id, draft.from.clone(), draft.text.clone(), crate::protocol::now());
        let room = draft.room.clone();
        self.tell_all(&[Said { room, seq, id, from, text, at }]).await;
        let answered = self.log.append(draft).await;",
        all_nodes_have_one_order;
    5 ack_before_the_reply in "src/room.rs":
        "let answered = self.log.append(draft).await;" => "let last = self.history.as_ref().map_or(0, |history| history.seq());
        let seq = last + self.under_way.len() as u64 + 1;
        reply.tell(ServerEvent::Ack { id, room: self.id.room.clone(), seq });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let answered = self.log.append(draft).await;",
        an_ack_means_that_redis_has_it;
    5 repeated_messages_stored_again_in_redis in "src/shared/scripts/publish.lua":
        "if before then" => "if false then",
        a_message_sent_again_by_another_node_is_the_same;
    5 no_hash_of_what_was_said in "src/shared/scripts/publish.lua":
        "if same == hash then" => "if same then",
        an_id_means_one_text_on_all_nodes;
    5 gaps_not_healed in "src/room.rs":
        "if is_next && !history.differs(before) {" => "if is_next || !is_next || history.differs(before) {",
        a_lost_message_is_healed_by_the_next_one;
    5 position_not_checked in "src/shared/rooms.rs":
        "Some(CHECK_EVERY)" => "{ let _ = CHECK_EVERY; None }",
        a_lost_last_message_is_healed_within_15_seconds;
    5 every_redis_is_durable in "src/shared/scripts/position.lua":
        "if durable == '1' then" => "if durable then",
        without_always_a_restart_of_redis_is_a_new_epoch;
    5 no_redis_is_durable in "src/shared/scripts/position.lua":
        "if durable == '1' then" => "if durable == '2' then",
        a_killed_redis_loses_nothing;
    5 rolled_back_is_not_looked_at in "src/shared/scripts/check.lua":
        "if is_lost then" => "if false then",
        a_log_that_was_rolled_back_is_noticed;
    5 numbers_compared_alone in "src/shared/scripts/check.lua":
        "if not is_lost and id ~= '' then" => "if false then",
        a_log_that_was_rolled_back_and_overtaken_is_noticed;
    5 the_dead_stay_members in "src/shared/scripts/presence.lua":
        "'ZRANGEBYSCORE', nodes, '-inf', now" => "'ZRANGEBYSCORE', nodes, '-inf', 0",
        those_of_a_killed_node_are_gone_within_45_seconds;
    5 streams_stay_for_ever in "src/shared/scripts/publish.lua":
        "redis.call('EXPIRE', log, keep)" => "",
        everything_but_accounts_expires;
    5 a_budget_at_each_node in "src/shared/scripts/claim.lua":
        "if burst > 0 then" => "if false then",
        two_nodes_share_a_user_s_budget;
    5 a_sign_out_that_stays_at_its_node in "src/accounts.rs":
        "pub fn signed_out(&self, session: SessionKey) {
        self.live.end(session, now());" => "pub fn signed_out(&self, session: SessionKey) {
        let _ = session;",
        signing_out_ends_connections_on_other_nodes;
    5 a_lost_sign_out_is_lost in "src/accounts.rs":
        "gone.into_iter().for_each(|session| self.live.end(session, now));" => "drop(gone);",
        a_lost_sign_out_is_noticed_within_a_minute;
    5 seats_at_each_node in "src/shared/scripts/seat.lua":
        "if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then" => "if false then",
        two_nodes_share_a_user_s_connections;
    5 failures_at_each_node in "src/shared/scripts/failures.lua":
        "if failed then" => "if false then",
        two_nodes_share_an_account_s_failed_sign_ins;
    5 one_prefix_for_all in "src/shared/link.rs":
        "format!(\"{}:{{{tag}}}:{rest}\", self.prefix)" => "format!(\"chat:{{{tag}}}:{rest}\")",
        chats_with_other_prefixes_do_not_meet;
    5 silence_is_no_answer in "src/shared/link.rs":
        "self.degraded.send_replace(true);" => "",
        while_redis_is_silent_the_nodes_say_so_and_stay;
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
        let redis = if mutant.takes_redis() { "-redis" } else { "" };
        let server = format!("{}{redis}", mutant.package());
        let name = format!("{server}::{}::{}", mutant.fault, mutant.scenario);
        Trial::ignorable_test(name, move || {
            if let Some(missing) = mutant.missing() {
                return left_out(&missing);
            }
            let noticed = runtime.block_on(is_noticed(mutant, &workshop));
            noticed.map_err(|error| Failed::from(format!("{error:#}")))?;
            Ok(Completion::Completed)
        })
    });
    let mut trials: Vec<Trial> = trials.collect();
    trials.push(Trial::test("every_fault_has_its_place", || {
        let lost: Vec<String> = MUTANTS.iter().filter_map(Mutant::out_of_place).collect();
        if lost.is_empty() { Ok(()) } else { Err(lost.join("\n").into()) }
    }));
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
    let (scenario, _) = mutant.scenario().context("there is no such scenario")?;
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

/// What can't run here is left out, and said so; where everything has to be there, that is a failure.
fn left_out(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}
