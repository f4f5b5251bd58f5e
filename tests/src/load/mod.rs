//! Load and abuse: what a server costs, and what it puts up with.
//!
//! - [`idle`], [`fanout`]: what a connection and a delivery cost;
//! - [`attacks`]: whether those who attack are sent away, and what the others notice of it;
//! - [`churn`]: whether memory comes back when everyone has left;
//! - [`chaos`]: whether anything at all makes it panic.
//!
//! All of them speak with the server through a [`door`] and look at its [`process`] from outside; what
//! healthy clients notice is measured by a [`group`] of them. Memory and CPU are known on Linux only.

pub mod attacks;
pub mod chaos;
pub mod churn;
pub mod door;
pub mod fanout;
pub mod group;
pub mod idle;
pub mod process;

use anyhow::{Context, Result};

use crate::program::Program;

/// The program of a milestone's package, such as `step05-production`, and the milestone's number.
///
/// # Errors
/// It is not one.
pub fn server(package: &str) -> Result<(Program, u8)> {
    let number = package.strip_prefix("step0").and_then(|rest| rest.get(..1)?.parse().ok());
    let number = number.with_context(|| format!("{package} is no milestone's package"))?;
    Ok((Program::cargo_package(package), number))
}

/// The packages that a measurement is about: the one that was asked for, or milestones 4 and 5 to compare.
pub fn servers(wanted: Option<String>) -> Vec<String> {
    match wanted {
        Some(package) => vec![package],
        None => vec!["step04-resilience".to_owned(), "step05-production".to_owned()],
    }
}
