//! IO: what a gate measures. Numbers out of Prometheus, and answers of the new pods.
//!
//! The planner says what is to be measured ([`crate::plan::analysis::Measurement`]); the [`Runner`] measures it beside
//! the passes, keeps the answers in memory, and asks for a pass when there is one. What gets lost is measured again.

pub mod endpoint;
mod http;
mod prometheus;
mod runner;
mod wire;

#[cfg(test)]
mod tests;

pub use endpoint::{Endpoint, EndpointError};
pub use runner::Runner;
