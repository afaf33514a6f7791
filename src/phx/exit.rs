//! How a command ends: one number for scripts, the same in every command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// What was asked for is so: 0.
    Done,
    /// It could not be tried: no way to the API server, a wrong argument, no such app: 1.
    Error,
    /// It was tried and came to a bad end: a failed rollout, a failed command in a pod: 2.
    Failed,
    /// The operator ignored or refused the command: 3.
    Declined,
    /// Nothing was decided in the time given: 4.
    TimedOut,
}

/// For `--help`.
pub const HELP: &str = "\
Exit codes:
  0  what was asked for is so
  1  it could not be tried: a wrong argument, no such app, no way to the API server
  2  it was tried and came to a bad end: a failed, aborted or blocked rollout, a failed command in a pod
  3  the operator ignored or refused the command
  4  nothing was decided in the time given";

impl Exit {
    /// As a number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Failed => 2,
            Self::Declined => 3,
            Self::TimedOut => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
