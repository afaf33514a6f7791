mod commands;
mod pictures;
mod planning;
pub mod scene;
mod waiting;
