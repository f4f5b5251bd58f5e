//! The black-box checks: what each milestone promises, played against a running server.
//!
//! They speak to a server as its clients do, through its public port, so that they fit every server
//! that speaks the protocol: the milestones, their Node twins, the learner's own.
//!
//! - [`scenario`]: what a scenario is, and where to get those of a milestone;
//! - [`step1`], [`step2`], [`step3`], [`step4`], [`step5`]: what each milestone promises. What several promise is told
//!   once: [`frames`], [`process`], [`rules`];
//! - [`scene`]: the server of a scenario, with [`accounts`] where it has some. Its clients are a [`wire`], which sends and reads frame by
//!   frame, or a [`client`](mod@client), which always reads and speaks in [`event`]s, or a
//!   [`stream`] of events over plain HTTP;
//! - [`raw`]: the WebSocket under both, which can send what no library would;
//! - [`faults`] proves what scenarios can't, with a [`swarm`] of clients and a [`model`] of what they
//!   should see, all by [`chance`]; [`rates`] counts acks, [`load`] everything else that has a number;
//! - [`cluster`] is what several nodes of milestone 5 promise together; a [`fleet`] of them behind nginx
//!   suffers what may happen to nodes, to [`redis`](mod@redis) and to what lies between; [`capacity`]
//!   foretells how much work they have;
//! - [`command`] reads the command lines of the programs in `src/bin`, and makes their exit codes;
//! - [`program`] starts servers, [`proxy`] breaks the wire, [`journal`] keeps what was sent and received.

pub mod accounts;
pub mod capacity;
pub mod chance;
pub mod client;
pub mod cluster;
pub mod command;
pub mod echo;
pub mod event;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod journal;
pub mod load;
pub mod model;
pub mod process;
pub mod program;
pub mod proxy;
pub mod rates;
pub mod raw;
pub mod redis;
pub mod rules;
pub mod scenario;
pub mod scene;
pub mod step1;
pub mod step2;
pub mod step3;
pub mod step4;
pub mod step5;
pub mod stream;
pub mod swarm;
pub mod wire;
