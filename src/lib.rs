//! A Kubernetes operator that runs Elixir/Phoenix releases.
//!
//! Dependencies point one way: `api` <- `plan`, `build` <- `controller` <- `main`.

pub mod api;
pub mod build;
pub mod cli;
pub mod controller;
pub mod phx;
pub mod plan;
pub mod telemetry;
