//! Tests of the planner: tables, properties, and an exhaustive walk over a simulated API server.

mod budget;
mod cluster;
mod commands;
mod gateway;
mod model;
mod phases;
mod rules;
mod scene;
mod simulate;
mod strategies;
mod upkeep;
mod walk;
mod worker_runs;
mod workers;
