//! What a container of the image runs, and as whom.

use std::path::PathBuf;

use serde_json::{Value, json};

/// The part of an image's configuration that is ours to choose; the rest follows from the layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The program and its first arguments, before `cmd`.
    pub entrypoint: Vec<String>,
    /// The default command, or the default arguments of `entrypoint`.
    pub cmd: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// A name of the image's `/etc/passwd`, or `uid:gid`; none is root.
    pub user: Option<String>,
    /// An absolute path; none is `/`.
    pub working_dir: Option<String>,
    /// Shared libraries of this machine to add at their own paths; see
    /// [`shared_libraries`](super::shared_libraries). Only [`scratch`](super::scratch) reads it.
    pub libraries: Vec<PathBuf>,
}

impl Config {
    /// The `config` object of the OCI image specification.
    pub(super) fn to_json(&self) -> Value {
        let Self { entrypoint, cmd, env, user, working_dir, libraries: _ } = self;
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut config = json!({
            "Env": env,
            "User": user.clone().unwrap_or_default(),
            "WorkingDir": working_dir.clone().unwrap_or_default(),
        });
        if !entrypoint.is_empty() {
            config["Entrypoint"] = json!(entrypoint);
        }
        if !cmd.is_empty() {
            config["Cmd"] = json!(cmd);
        }
        config
    }
}
