//! A Kubernetes operator that runs Elixir/Phoenix releases.
//!
//! Dependencies point one way: `api` <- `plan`, `build` <- `analysis`, `controller` <- `main`.

pub mod analysis;
pub mod api;
pub mod build;
pub mod cli;
pub mod controller;
pub mod phx;
pub mod plan;
pub mod telemetry;
