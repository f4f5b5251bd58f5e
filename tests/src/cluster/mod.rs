//! The promises of milestone 5 with several nodes: they share rooms, order, history, presence, limits
//! and sessions through one Redis, and outlive each other and it.
//!
//! Each scenario starts its own Redis and its own nodes. A node is a [`Scene`]: what is promised of
//! one server is played here with some of its clients at another.

pub mod fallback;
pub mod feed;
pub mod keys;
pub mod limits;
pub mod order;
pub mod outages;
pub mod presence;
pub mod sessions;

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::load::process;
use crate::proxy::FaultProxy;
use crate::redis::{self, Fsync, Redis};
use crate::scenario::{Check, Needs, SLOW, Scenario, Stop};
use crate::scene::Scene;

/// For scenarios that wait until what a dead node has left behind expires.
const LONG: Duration = Duration::from_secs(120);

/// How often to look again.
const LOOK: Duration = Duration::from_millis(50);

/// What most of these scenarios have in common.
const CLUSTER: Scenario = Scenario {
    needs: Needs::Program,
    limit: SLOW,
    ..Scenario::of(5, "production/many-nodes.html")
};

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let all = [
        order::SCENARIOS,
        presence::SCENARIOS,
        sessions::SCENARIOS,
        limits::SCENARIOS,
        fallback::SCENARIOS,
        feed::SCENARIOS,
        outages::SCENARIOS,
        keys::SCENARIOS,
    ];
    all.concat()
}

/// Starts a Redis for a scenario.
async fn redis(fsync: Fsync) -> Check<Redis> {
    if let Some(missing) = redis::missing() {
        return Err(Stop::Skipped(missing));
    }
    Redis::start(fsync).await.map_err(|error| Stop::Skipped(format!("{error:#}")))
}

/// Starts nodes of a scenario over a Redis.
async fn nodes<const N: usize>(
    scene: &Scene,
    url: &str,
    env: &[(&str, &str)],
) -> Check<[Scene; N]> {
    let own = [("REDIS_URL", url), ("REDIS_PREFIX", scene.tag.as_str())];
    let env = [&own, env].concat();
    let start = |mut node: Scene| {
        let env = env.clone();
        async move { node.start(&env).await.map(|()| node) }
    };
    let nodes = try_join_all((0..N).map(|_| start(scene.beside()))).await?;
    nodes.try_into().map_err(|_| scene.mismatch("other nodes than were started"))
}

/// A Redis that makes sure of everything, and nodes over it.
async fn over_redis<const N: usize>(scene: &Scene) -> Check<(Redis, [Scene; N])> {
    let redis = redis(Fsync::Always).await?;
    let nodes = nodes(scene, &redis.url(), &[]).await?;
    Ok((redis, nodes))
}

/// One more node, which reaches Redis by a wire of its own.
async fn wired(scene: &Scene, redis: &Redis) -> Check<(FaultProxy, Scene)> {
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let wire = FaultProxy::start(listen, redis.address()).await;
    let wire = wire.map_err(|error| Stop::Skipped(error.to_string()))?;
    let [node] = nodes(scene, &format!("redis://{}/0", wire.addr()), &[]).await?;
    Ok((wire, node))
}

/// What the Redis of a scenario is asked to do; where it can't, the scenario proves nothing.
fn done<T>(scene: &Scene, what: &str, result: anyhow::Result<T>) -> Check<T> {
    scene.journal.note(what);
    result.map_err(|error| Stop::Skipped(format!("{what}: {error:#}")))
}

/// A metric of a node.
async fn metric(node: &mut Scene, name: &str) -> Check<f64> {
    node.journal.wait_for(&format!("{name} among the metrics"));
    let found = process::metric(node.running()?, name).await;
    match found {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(node.mismatch(&format!("no {name} at /metrics"))),
        Err(error) => Err(node.mismatch(&format!("{error:#}"))),
    }
}

/// Waits until a metric of a node has a value that fulfills a condition.
async fn until_metric(
    node: &mut Scene,
    name: &str,
    limit: Duration,
    wanted: impl Fn(f64) -> bool,
) -> Check {
    let end = Instant::now() + limit;
    loop {
        let value = metric(node, name).await?;
        if wanted(value) {
            return Ok(());
        }
        if Instant::now() > end {
            node.journal.wait_for(&format!("another {name} within {limit:?}"));
            return Err(node.mismatch(&format!("{name} {value}")));
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_scenarios_have_the_same_name_and_each_says_what_it_is_about() {
        let all = scenarios();
        let mut names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let is_told = |it: &Scenario| ![it.sentence, it.expected, it.hint].contains(&"");
        assert!(all.iter().all(is_told));
    }
}
