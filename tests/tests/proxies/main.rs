//! nginx, Caddy and HAProxy with the configurations of `step05-production/deploy/`, in front of real
//! servers; and whatever else of that folder can be checked or run without a cloud.
//!
//! Each check of a proxy is seen to fail, too: with a configuration that lacks the line it is about.

mod broken;
mod checks;
mod files;
mod front;
mod redis;
mod socket;
mod stage;

use std::env;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use front::{Change, Kind};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::program::find;
use tokio::runtime::Runtime;

/// Most of them wait most of the time.
const AT_ONCE: usize = 8;

/// How long HAProxy holds an event back at least, where it may.
const HELD_BACK: Duration = Duration::from_millis(150);

/// What a check comes to: what it has measured.
type Ending<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// A check of a proxy with its configuration and these changes.
type Check = for<'a> fn(Kind, &'a [Change]) -> Ending<'a>;

/// Changes that break a check, and a word of what must come of them.
type Broken = (Vec<Change>, &'static str);

/// A check, and a configuration that must not pass it.
struct Case {
    name: &'static str,
    check: Check,
    /// What the check needs to be changed, if anything.
    given: fn(Kind) -> Option<Change>,
    /// What breaks it, if anything in the configuration does.
    broken: fn(Kind) -> Option<Broken>,
}

/// Makes a [`Check`] of a function of the module `checks`.
macro_rules! check {
    ($name:ident) => {
        |kind, changes| Box::pin(checks::$name(kind, changes))
    };
}

const CASES: [Case; 13] = [
    Case {
        name: "a_websocket_chats",
        check: check!(chats),
        given: |_| None,
        broken: |kind| Some((vec![broken::without_upgrade(kind)], "refused")),
    },
    Case {
        name: "a_message_too_large_gets_1009",
        check: check!(too_large),
        given: |_| None,
        broken: |_| None,
    },
    Case {
        name: "an_event_comes_when_it_happens",
        check: check!(streams),
        given: |_| None,
        broken: |kind| Some((vec![broken::with_buffers(kind)], "no event")),
    },
    Case {
        name: "a_session_goes_on_at_any_node",
        check: check!(goes_on_anywhere),
        given: |_| None,
        broken: |_| None,
    },
    Case {
        name: "a_quiet_client_is_kept_by_pings",
        check: check!(stays_quiet),
        given: |_| None,
        broken: |kind| Some((vec![broken::impatient(kind)], "cut after")),
    },
    Case {
        name: "the_server_sees_the_true_address",
        check: check!(tells_the_address),
        given: |_| None,
        broken: |kind| Some((vec![broken::trusting(kind)], "fooled by X-Forwarded-For")),
    },
    Case {
        name: "no_session_is_logged",
        check: check!(logs_no_query),
        given: |_| None,
        broken: |kind| Some((vec![broken::talkative(kind)], "the session is in the log")),
    },
    Case {
        name: "no_session_is_logged_when_something_fails",
        check: check!(logs_no_query_of_errors),
        given: |_| None,
        broken: |kind| Some((broken::outspoken(kind), "the session is in the log")),
    },
    Case {
        name: "a_killed_node_is_replaced_by_the_other",
        check: check!(goes_to_the_other),
        given: |_| None,
        broken: |kind| Some((vec![broken::with_one_node(kind)], "is dead")),
    },
    Case {
        name: "no_node_is_a_503_with_a_time",
        check: check!(says_when_to_come_back),
        given: |_| None,
        broken: |kind| Some((vec![broken::silent(kind)], "no Retry-After")),
    },
    Case {
        name: "clients_stay_while_it_reloads",
        check: |kind, changes| match kind {
            Kind::Caddy => Box::pin(checks::cuts_clients(kind, changes)),
            _ => Box::pin(checks::keeps_clients(kind, changes)),
        },
        given: |_| None,
        broken: broken::hasty,
    },
    Case {
        name: "a_draining_node_gets_nobody_new",
        check: |kind, changes| match kind {
            Kind::Caddy => Box::pin(checks::soon_spares_a_draining_node(kind, changes)),
            _ => Box::pin(checks::spares_a_draining_node(kind, changes)),
        },
        given: |_| None,
        broken: |kind| Some((vec![broken::unasking(kind)], "were refused")),
    },
    Case {
        name: "an_address_has_its_limit",
        check: check!(limits_an_address),
        given: broken::low_limit,
        // Six are no more than it says as shipped.
        broken: |kind| {
            broken::low_limit(kind).map(|(shipped, _)| (vec![(shipped, shipped)], "let in"))
        },
    },
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let mut trials: Vec<Trial> = CASES.iter().flat_map(proxies).collect();
    trials.push(trial("haproxy::broken::an_event_is_not_held_back", &["haproxy"], held_back));
    trials.extend(files::trials());
    trials.extend(socket::trials());
    trials.extend(redis::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case with each proxy, as shipped and broken.
fn proxies(case: &'static Case) -> impl Iterator<Item = Trial> {
    Kind::ALL.into_iter().flat_map(move |kind| {
        let program = kind.program();
        // A check that needs a change has nothing to check where there is none to make.
        let given = (case.given)(kind);
        let is_left_out =
            given.is_none() && Kind::ALL.into_iter().any(|kind| (case.given)(kind).is_some());
        let whole = trial(&format!("{program}::{}", case.name), &[program], move || {
            let said = block_on((case.check)(kind, given.as_slice()))?;
            println!("{program}: {said}");
            Ok(())
        });
        let broken = (case.broken)(kind).map(|(changes, word)| {
            let name = format!("{program}::broken::{}", case.name);
            trial(&name, &[program], move || fails(case.check, kind, &changes, word))
        });
        (!is_left_out).then_some(whole).into_iter().chain(broken)
    })
}

/// Without that option the system waits for 200 ms whether more comes to fill a packet.
fn held_back() -> Result<()> {
    let change = ("    option http-no-delay\n", "");
    let delay = block_on(checks::delay(Kind::Haproxy, &[change]))?;
    ensure!(delay >= HELD_BACK, "an event took only {delay:?} although {change:?}");
    println!("haproxy: without http-no-delay an event took {} ms", delay.as_millis());
    Ok(())
}

/// The check must fail, and for the reason that the changes give it.
fn fails(check: Check, kind: Kind, changes: &[Change], word: &str) -> Result<()> {
    match block_on(check(kind, changes)) {
        Ok(said) => Err(anyhow!("passed although {changes:?}: {said}")),
        Err(error) => {
            let why = format!("{error:#}");
            ensure!(why.contains(word), "failed for another reason than {word:?}: {why}");
            Ok(())
        }
    }
}

/// Waits for a check in a runtime of its own.
fn block_on<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    Runtime::new()?.block_on(run)
}

/// A trial that needs these programs. Without them it is left out and says so; where everything has to
/// be there, that is a failure.
fn trial(
    name: &str,
    programs: &[&'static str],
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let programs = programs.to_vec();
    Trial::ignorable_test(name, move || {
        if !cfg!(target_os = "linux") {
            return Ok(Completion::ignored_with("needs all of 127.0.0.0/8 and /proc: Linux"));
        }
        if let Some(missing) = programs.iter().find(|program| find(program).is_none()) {
            return left_out(&format!("{missing} is missing; `cargo verify` installs it"));
        }
        run().map_err(|error| format!("{error:#}"))?;
        Ok(Completion::Completed)
    })
}

fn left_out(reason: &str) -> Result<Completion, Failed> {
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}
