//! The operator as a binary, as an image and as an installed release, from this workspace.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::Cluster,
    image::{self, Config, Image},
};

/// The namespace it is installed into.
pub const NAMESPACE: &str = "phoenix-operator-system";
/// The name of the Helm release, and so of what it makes.
pub const RELEASE: &str = "phoenix-operator";

/// The image's repository, as the chart's values have it.
const REPOSITORY: &str = "registry.local/phoenix-operator";
const PROGRAM: &str = "/phoenix-operator";

/// The operator's program: `PHOENIX_OPERATOR_BIN`, else built as this program was built, unless it is up to date.
///
/// # Errors
/// When cargo is not there or does not succeed.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PHOENIX_OPERATOR_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("finding this program")?;
    let profile_dir = own
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps"))
        .context("this program lies in no directory of cargo's")?;
    let target = profile_dir.parent().context("finding cargo's target directory")?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    // The whole workspace, so that dependencies have the features they were built with before.
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "phoenix-operator"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(workspace())
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "building the operator failed ({status})");
    Ok(profile_dir.join("phoenix-operator"))
}

/// The operator's image: the program, the libraries it is linked to, and nothing else.
///
/// # Errors
/// When the operator does not build, or the image cannot be packed.
pub fn operator() -> Result<Image> {
    let program = binary()?;
    let config = Config {
        entrypoint: vec![PROGRAM.to_owned()],
        user: Some("65532:65532".to_owned()),
        libraries: image::shared_libraries(&program)?,
        ..Config::default()
    };
    let name = format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"));
    image::scratch(&name, &[(program, PROGRAM)], config)
}

/// Installs or upgrades the operator by real Helm, inside the cluster, from an image that is loaded already; returns
/// when it is ready. The pod is replaced when the image or a setting (`--set` of Helm) is another.
///
/// # Errors
/// With what Helm said.
pub fn install(cluster: &Cluster, image: &Image, settings: &[&str]) -> Result<()> {
    let build = image.archive.file_stem().unwrap_or_default().to_string_lossy();
    // The tag stays the same from build to build.
    let build = format!("podAnnotations.build={build}");
    let chart = chart();
    let mut arguments = vec![OsStr::new("upgrade"), RELEASE.as_ref(), chart.as_os_str()];
    let fixed = ["--install", "--create-namespace", "--wait", "--timeout=3m", "--set=image.pullPolicy=Never"];
    arguments.extend(fixed.map(OsStr::new));
    for setting in std::iter::once(build.as_str()).chain(settings.iter().copied()) {
        arguments.extend([OsStr::new("--set-string"), setting.as_ref()]);
    }
    helm(cluster, &arguments).map(drop)
}

/// Runs Helm on the operator's namespace of a cluster.
///
/// # Errors
/// With what Helm said.
pub fn helm(cluster: &Cluster, arguments: &[&OsStr]) -> Result<Output> {
    let output = Command::new(cluster.tool("helm"))
        .args(arguments)
        .args(["--namespace", NAMESPACE])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .context("starting Helm")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm {arguments:?} failed:\n{}", said.trim());
    Ok(output)
}

/// The chart that installs it.
pub fn chart() -> PathBuf {
    workspace().join("charts/phoenix-operator")
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
