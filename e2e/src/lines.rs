//! Programs that read objects as JSON, one per line, and answer each on a line of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Gives objects to a program and reads its answers, one for each in the same order.
///
/// Errors when the program cannot be started, ends with a failure, or gives fewer or other answers.
pub async fn through<T: DeserializeOwned>(
    program: &Path,
    arguments: &[&OsStr],
    objects: &[Value],
) -> Result<Vec<T>> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let mut stdin = child.stdin.take().with_context(|| format!("{name} has no input"))?;
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    let input = lines.join("\n");
    // Beside the reading, or both could wait for the other with full pipes.
    let write = async move { stdin.write_all(input.as_bytes()).await };
    let (written, output) = tokio::join!(write, child.wait_with_output());
    let output = output.with_context(|| format!("waiting for {name}"))?;
    // Before the writing: one that failed did not read on, and has said why.
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    written.with_context(|| format!("writing to {name}"))?;
    let answers: Vec<T> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{name} said {line:?}")))
        .collect::<Result<_>>()?;
    ensure!(answers.len() == objects.len(), "{name}: {} answers on {} objects", answers.len(), objects.len());
    Ok(answers)
}
