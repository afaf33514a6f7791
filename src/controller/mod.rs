//! The controller: `watch -> observe -> plan -> apply -> status`.
//!
//! Watches fill caches and name the apps that something has changed for. The driver takes these apps one after the
//! other, each at most once at a time, and hands each to [`reconcile`]. Everything that comes of it, logs, metrics
//! and waits, is dealt with in one place.

mod apply;
mod backoff;
mod cache;
mod client;
mod crowd;
pub(crate) mod drift;
mod errors;
mod events;
mod freshness;
pub(crate) mod goal;
pub(crate) mod guarded;
mod health;
mod kind;
mod leader;
mod lean;
mod memory;
pub(crate) mod observe;
mod packed;
pub(crate) mod pods;
mod queue;
mod reconcile;
mod run;
mod scope;
mod shelf;
pub(crate) mod snapshot;
mod status;
mod watch;
mod writer;

pub use leader::Seat;
pub use run::{Options, run};
