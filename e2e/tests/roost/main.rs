//! The release itself, without Kubernetes: it is run from the directory that `mix release` made,
//! with the environment that the operator gives a pod, beside a real `PostgreSQL`.
//!
//! Run with `cargo test -p e2e --test roost -- --include-ignored` on Debian 12 as root.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may fail as tests do")]

mod chroot;
mod cluster;
mod drain;
mod faults;
mod http;
mod migrate;
mod node;
