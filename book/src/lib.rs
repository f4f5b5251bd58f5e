//! `cargo learn`: the book, served beside the running milestones, and checks for the learner's own code.
//!
//! - [`cli`]: the commands and their options;
//! - [`milestone`]: which milestones there are, and where;
//! - [`book`]: builds the book with mdBook, and keeps what it complained about;
//! - [`serve`]: `cargo learn`, which serves the book and runs the milestones beside it;
//! - [`new`]: `cargo learn new`, the learner's own crate;
//! - [`check`] and [`progress`]: `cargo learn check`, and what it remembers;
//! - [`cluster`]: `cargo learn cluster`, several nodes over one Redis, to break and mend;
//! - [`gates`]: what must hold for the book, checked by `tests/gates.rs`;
//! - [`changes`]: which lines of a milestone are new, for the marks in the book's listings;
//! - [`paint`] and [`stamp`]: colors, and the date in a folder's name.

pub mod book;
pub mod changes;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod gates;
pub mod milestone;
pub mod new;
pub mod paint;
pub mod progress;
pub mod serve;
pub mod stamp;
