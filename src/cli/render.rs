//! `phoenix-operator render`: the objects of an app, without a cluster.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use super::admission;
use crate::{
    api::ValidatedApp,
    build::{self, Children, Settings},
};

/// Print the objects that the operator makes for an app, without a cluster.
///
/// Defaults and validation are those of the API server. The generated Secret is named, not shown: its values are
/// drawn in the cluster.
#[derive(Debug, clap::Args)]
pub struct Render {
    /// File with the app, or `-` for standard input; objects of other kinds in it are passed over.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Domain of the cluster's DNS.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
}

impl Render {
    /// The objects as YAML documents.
    pub fn run(self) -> anyhow::Result<String> {
        let text = if self.file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            text
        } else {
            std::fs::read_to_string(&self.file)
                .with_context(|| format!("cannot read {}", self.file.display()))?
        };
        let settings = Settings { cluster_domain: self.cluster_domain, ..Settings::default() };
        apps(&text)
            .with_context(|| self.file.display().to_string())?
            .iter()
            .map(|app| documents(app, &settings))
            .collect()
    }
}

/// The apps in a file.
fn apps(text: &str) -> anyhow::Result<Vec<ValidatedApp>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).context("not YAML")?;
    let mut apps = Vec::new();
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if kind != "PhoenixApp" {
            continue;
        }
        if version != "phoenix-operator.dev/v1alpha1" {
            bail!("PhoenixApp is known in apiVersion phoenix-operator.dev/v1alpha1 only, not in {version:?}");
        }
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        apps.push(admission::admit(object).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(|fault| format!("  {fault}")).collect();
            anyhow::anyhow!("PhoenixApp {name} is invalid:\n{}", faults.join("\n"))
        })?);
    }
    if apps.is_empty() {
        bail!("there is no PhoenixApp in it; one begins with apiVersion: phoenix-operator.dev/v1alpha1");
    }
    Ok(apps)
}

/// Every object of an app, in the order in which the operator makes them.
fn documents(app: &ValidatedApp, settings: &Settings) -> anyhow::Result<String> {
    let name = app.canonical.name_for(|_| false).context("no name is free for the revision")?;
    let revision = build::render(app, &name, settings);
    let Children {
        service_account,
        peers_binding,
        generated_secret,
        controller_revision,
        defaults,
        active_service,
        headless_service,
        migration_jobs,
        deployment,
        workers,
        pod_disruption_budget,
        http_route,
        ingress,
    } = build::children(app, &revision, settings, &mut |bytes| bytes.fill(0));
    let mut output = String::new();
    push(&mut output, &service_account)?;
    if let Some(binding) = peers_binding {
        push(&mut output, &binding)?;
    }
    // never its zeros, which somebody would apply
    let secret = generated_secret.metadata.name.unwrap_or_default();
    output.push_str("---\n# Secret ");
    output.push_str(&secret);
    output.push_str(": SECRET_KEY_BASE and RELEASE_COOKIE, drawn once in the cluster\n");
    push(&mut output, &defaults)?;
    push(&mut output, &headless_service)?;
    push(&mut output, &active_service)?;
    push(&mut output, &controller_revision)?;
    for job in migration_jobs {
        push(&mut output, &job)?;
    }
    push(&mut output, &deployment)?;
    for worker in &workers {
        push(&mut output, worker)?;
    }
    if let Some(budget) = pod_disruption_budget {
        push(&mut output, &budget)?;
    }
    if let Some(route) = http_route {
        push(&mut output, &route)?;
    }
    if let Some(ingress) = ingress {
        push(&mut output, &ingress)?;
    }
    Ok(output)
}

/// An object as people expect it: what it is called before what is in it.
///
/// By way of a tree: code that writes each type as YAML would be a part of the operator's program, whose pages are its memory.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: Value,
    kind: Value,
    metadata: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn push(output: &mut String, object: &impl Serialize) -> anyhow::Result<()> {
    let Value::Object(mut rest) = serde_json::to_value(object).context("cannot write JSON")? else {
        bail!("not an object");
    };
    let mut take = |field| rest.remove(field).unwrap_or_default();
    let (api_version, kind, metadata) = (take("apiVersion"), take("kind"), take("metadata"));
    let document = Document { api_version, kind, metadata, rest };
    let yaml = serde_saphyr::to_string(&document).context("cannot write YAML")?;
    output.push_str("---\n");
    output.push_str(&yaml);
    if !yaml.ends_with('\n') {
        output.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
    use serde_json::Value;

    use super::{Settings, apps, documents};
    use crate::build::{self, ServiceSelector, drift::drift};

    const EXAMPLES: [&str; 12] = [
        "quickstart",
        "with-database",
        "libcluster-dns",
        "singleton",
        "autoscaling",
        "blue-green",
        "canary",
        "manual-approval",
        "analysis",
        "migrations",
        "web-and-workers",
        "canary-gateway",
    ];

    fn example(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("yaml");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn rendered(name: &str) -> String {
        let apps = apps(&example(name)).unwrap();
        assert_eq!(apps.len(), 1);
        documents(&apps[0], &Settings::default()).unwrap()
    }

    #[test]
    fn quickstart() {
        insta::assert_snapshot!(rendered("quickstart"));
    }

    #[test]
    fn with_database() {
        insta::assert_snapshot!(rendered("with-database"));
    }

    #[test]
    fn libcluster_dns() {
        insta::assert_snapshot!(rendered("libcluster-dns"));
    }

    #[test]
    fn singleton() {
        insta::assert_snapshot!(rendered("singleton"));
    }

    #[test]
    fn autoscaling() {
        insta::assert_snapshot!(rendered("autoscaling"));
    }

    #[test]
    fn blue_green() {
        insta::assert_snapshot!(rendered("blue-green"));
    }

    #[test]
    fn canary() {
        insta::assert_snapshot!(rendered("canary"));
    }

    #[test]
    fn manual_approval() {
        insta::assert_snapshot!(rendered("manual-approval"));
    }

    #[test]
    fn analysis() {
        insta::assert_snapshot!(rendered("analysis"));
    }

    #[test]
    fn web_and_workers() {
        insta::assert_snapshot!(rendered("web-and-workers"));
    }

    #[test]
    fn canary_gateway() {
        insta::assert_snapshot!(rendered("canary-gateway"));
    }

    #[test]
    fn migrations() {
        insta::assert_snapshot!(rendered("migrations"));
    }

    #[test]
    fn every_example_is_tested() {
        let mut found: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        let mut tested = EXAMPLES.map(str::to_owned).to_vec();
        tested.sort();
        assert_eq!(found, tested);
    }

    #[test]
    fn the_quickstart_is_as_short_as_promised() {
        let lines = example("quickstart").lines().filter(|line| !line.starts_with('#')).count();
        assert!(lines <= 8, "{lines} lines");
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for name in EXAMPLES {
            let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered(name)).unwrap();
            let apps = apps(&example(name)).unwrap();
            let revision = build::render(
                &apps[0],
                &apps[0].canonical.name_for(|_| false).unwrap(),
                &Settings::default(),
            );
            let kinds: Vec<_> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
            assert!(
                kinds.starts_with(&[
                    "ServiceAccount",
                    "ConfigMap",
                    "Service",
                    "Service",
                    "ControllerRevision"
                ]),
                "{kinds:?}"
            );
            let deployment = documents.iter().find(|document| document["kind"] == "Deployment").unwrap();
            let typed: Deployment = serde_json::from_value(deployment.clone()).unwrap();
            assert_eq!(typed, build::deployment(&apps[0], &revision, apps[0].replicas, None));
            assert_eq!(drift(&serde_json::to_value(&typed).unwrap(), deployment), Vec::<String>::new());
            let service: Service =
                serde_json::from_value(documents.iter().rfind(|d| d["kind"] == "Service").unwrap().clone())
                    .unwrap();
            assert_eq!(service, build::active_service(&apps[0], &ServiceSelector::Only(revision.name)));
        }
    }

    #[test]
    fn the_secret_is_named_and_not_shown() {
        let text = rendered("quickstart");
        assert!(text.contains("# Secret hello-generated"));
        assert!(!text.contains("kind: Secret\n"));
    }

    /// Revisions such as `12345e6789` must not turn into numbers, in kubectl's YAML 1.1 neither.
    #[test]
    fn names_that_look_like_numbers_stay_text() {
        for text in [
            "1234567890",
            "12345e6789",
            "0123456789",
            "0b01010101",
            "true",
            "null",
            "yes",
            "on",
            "1e5",
            "0o17",
            "0x1f",
            "1_000",
            ".5",
            "~",
            "2026-01-01",
            "12:30:45",
        ] {
            let yaml = serde_saphyr::to_string(&text).unwrap();
            assert!(yaml.starts_with('"') || yaml.starts_with('\''), "{yaml}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        for (text, said) in [
            ("", "there is no PhoenixApp"),
            ("kind: Service\n", "there is no PhoenixApp"),
            ("a: [", "not YAML"),
            ("kind: PhoenixApp\napiVersion: phoenix-operator.dev/v1\n", "v1alpha1 only"),
            (
                "kind: PhoenixApp\napiVersion: phoenix-operator.dev/v1alpha1\nmetadata: {name: a}\nspec: {}\n",
                "PhoenixApp a is invalid:\n  spec.image: must be set",
            ),
            (
                "kind: PhoenixApp\napiVersion: phoenix-operator.dev/v1alpha1\nmetadata: {name: A}\nspec: {image: x}\n",
                "metadata.name must start with a letter",
            ),
            (
                "kind: PhoenixApp\napiVersion: phoenix-operator.dev/v1alpha1\nspec: {image: x}\n",
                "metadata.name",
            ),
        ] {
            let error = format!("{:#}", apps(text).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
