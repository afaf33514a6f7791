//! The operator beside a cluster, and what a test needs to drive and to watch it.
//!
//! A [`Lab`] is a cluster made ready: the resource is defined, the operator's rights are bound, images are
//! loaded. A [`Space`] is one test's namespace in it, with everything that happens there recorded; tests
//! wait on that record, never on the clock. An [`Operator`] is the program itself, with the chart's rights
//! and no more.

mod diagnosis;
mod inside;
mod judge;
mod lab;
mod operator;
mod plugin;
mod pods;
mod record;
mod rights;
mod space;
mod traffic;

pub use inside::Terminal;
pub use judge::{Judged, Judges, judge_statuses};
pub use lab::{Lab, obstacle};
pub use operator::{Operator, OperatorOptions, program};
pub use plugin::{Answer, Screen};
pub use record::{Change, Event, Record, Seen};
pub use space::Space;
pub use traffic::{Traffic, TrafficOptions};
