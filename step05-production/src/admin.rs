// ANCHOR: all
//! The second port, for those who operate the server: is it alive, is it ready, what does it do?
//!
//! It listens on this machine only, unless somebody wants it otherwise: what it says is nobody
//! else's business, and it answers when the public port is full.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Handle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::http::{StatusCode, header};
use warp::reply::{self, Reply, Response};

use crate::log::Log;
use crate::seats::{Caps, Seats};
use crate::telemetry;

/// The bounds of the histograms of times, in seconds.
const TIMES: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// The bounds of the histograms of counts.
const COUNTS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1000.0];

/// How often what was measured is tidied up, so that a server that nobody asks keeps no heap of it.
const TIDY: Duration = Duration::from_secs(5);

/// How many connections the second port takes.
pub const CAPS: Caps = Caps { all: 64, per_address: 64, per_user: 0 };

// ANCHOR: admin
/// What the second port looks at.
#[derive(Clone)]
pub struct Admin {
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// The seats of the chat.
    pub seats: Arc<Seats>,
    /// The sockets of the public port.
    pub sockets: Arc<Seats>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Cancelled when the server is stopping.
    pub stop: CancellationToken,
}

/// Begins to count, for the whole program.
///
/// # Errors
/// A sentence, if it does so already.
pub fn install() -> Result<PrometheusHandle, String> {
    let failed = |error| format!("can't begin to measure: {error}");
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &TIMES)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &COUNTS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(failed)?;
    telemetry::describe();
    Ok(handle)
}

impl Admin {
    /// `/livez`, `/readyz` and `/metrics`.
    pub fn routes(self) -> impl Filter<Extract = impl Reply, Error = Infallible> + Clone {
        let it = warp::any().map(move || self.clone());
        let live = warp::path!("livez").map(|| "alive\n".into_response());
        let ready = warp::path!("readyz").and(it.clone()).map(|it: Self| it.ready());
        let metrics = warp::path!("metrics").and(it).map(|it: Self| it.metrics());
        let routes = live.or(ready).unify().or(metrics).unify();
        warp::get().and(routes).recover(explain)
    }

    /// Whether a load balancer should send more clients here. A log that is away is no reason to
    /// say no: it is away for all, and those who are here can still read.
    fn ready(&self) -> Response {
        let (status, word) = if self.stop.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else if self.seats.is_full() {
            (StatusCode::SERVICE_UNAVAILABLE, "full\n")
        } else {
            (StatusCode::OK, "ready\n")
        };
        reply::with_status(word, status).into_response()
    }

    /// The metrics, in the form that Prometheus reads.
    fn metrics(&self) -> Response {
        self.look();
        let text = self.metrics.render();
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        reply::with_header(text, header::CONTENT_TYPE, kind).into_response()
    }

    /// What is looked up when somebody asks.
    fn look(&self) {
        let runtime = Handle::current().metrics();
        gauge!("tokio_alive_tasks").set(runtime.num_alive_tasks() as f64);
        gauge!("tokio_global_queue_depth").set(runtime.global_queue_depth() as f64);
        gauge!("sockets").set(self.sockets.taken() as f64);
        gauge!("draining").set(f64::from(u8::from(self.stop.is_cancelled())));
        gauge!("degraded").set(f64::from(u8::from(*self.log.degraded().borrow())));
        gauge!("process_resident_memory_bytes").set(resident_bytes().unwrap_or_default());
        gauge!("process_open_fds").set(open_files().unwrap_or_default());
        gauge!("process_max_fds").set(max_open_files().unwrap_or_default());
    }
}

/// Tidies up until `stop` is cancelled.
pub async fn tidy(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = interval(TIDY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        metrics.run_upkeep();
    }
}
// ANCHOR_END: admin

/// Answers a request for something else.
async fn explain(rejection: warp::Rejection) -> Result<impl Reply, Infallible> {
    let status = if rejection.is_not_found() {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::METHOD_NOT_ALLOWED
    };
    Ok(reply::with_status("There are /livez, /readyz and /metrics here.\n", status).into_response())
}

/// How much memory this program has, in bytes. Linux says so in a file.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// How many files and sockets it has open.
fn open_files() -> Option<f64> {
    // One of them is the folder that is being counted.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// How many it may have open.
#[cfg(unix)]
fn max_open_files() -> Option<f64> {
    let (soft, _hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    Some(soft as f64)
}

/// Only Unix has such a limit.
#[cfg(not(unix))]
fn max_open_files() -> Option<f64> {
    None
}

/// Counts panics from here on. What they say is printed as ever.
pub fn count_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        counter!("panics_total").increment(1);
        print(info);
    }));
}
// ANCHOR_END: all
