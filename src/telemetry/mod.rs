//! What the operator says about itself: logs, metrics, health.

mod logs;
mod metrics;
mod phases;
mod server;

pub use logs::{LogFormat, causes, init};
pub use metrics::Metrics;
pub use server::{Readiness, serve};
