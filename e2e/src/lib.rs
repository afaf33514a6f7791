//! A real Kubernetes, a real BEAM release and the tests that run on them.

pub mod argocd;
pub mod audit;
pub mod bench;
pub mod cluster;
pub mod demo;
pub mod end;
pub mod fixtures;
pub mod gateway;
pub mod harness;
pub mod image;
mod lines;
pub mod load;
pub mod operator_image;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod stand_in;
