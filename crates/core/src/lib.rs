//! What is allowed, and what follows: Squall's words and rules.
//!
//! No clock, no IO, no randomness, no async. Every machine here has one grammar: `handle_<event>(now, …)`
//! takes what happened, `poll_action()` yields work until it is empty, `poll_timeout()` says when to
//! call `handle_timeout(now)`. After each handle, drain the actions, then re-arm the timer: that
//! sentence is the driver.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod clip;
pub mod experiment;
pub mod fault;
pub mod fence;
pub mod heard;
pub mod hold;
pub mod host;
pub mod ids;
pub mod leader;
pub mod lives;
pub mod message;
pub mod net;
pub mod policy;
pub mod probe;
pub mod radius;
pub mod registry;
pub mod seed;
pub mod shape;
pub mod spec;
pub mod stopping;
pub mod time;
pub mod views;
