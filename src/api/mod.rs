//! What a user sees: the resource, its validation, the names and labels of everything made from it.
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` prints these docs; names of variables and kinds read better there without marks"
)]

mod amount;
mod analysis;
mod app;
pub mod canonical;
mod clustering;
mod data;
mod decimal;
mod duration;
mod health;
pub mod labels;
mod measured;
mod migrations;
pub mod names;
mod pod;
pub mod schema;
mod status;
mod strategy;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod traffic;
pub mod validated;
mod volumes;
mod workers;

pub use amount::Amount;
pub use analysis::*;
pub use app::{PhoenixApp, PhoenixAppSpec};
pub use canonical::Canonical;
pub use clustering::*;
pub use data::*;
pub use decimal::{Decimal, Number, ParseDecimalError};
pub use duration::{Duration, ParseDurationError};
pub use health::*;
pub use measured::*;
pub use migrations::*;
pub use names::{AppName, Namespace, ResourceVersion, RevisionName, Uid};
pub use pod::*;
pub use status::*;
pub use strategy::*;
pub use traffic::*;
pub use validated::{Invalid, ValidatedApp};
pub use volumes::*;
pub use workers::*;
