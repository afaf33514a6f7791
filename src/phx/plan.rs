//! `kubectl phx plan`: what an edit would do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::{
    exit::Exit,
    gather::{Gathered, gather, has_gateway_api, nothing},
    ignorance,
    output::Format,
    place::{Cluster, Place},
    preview::{NewRevision, Preview, Step, preview},
    tree::{age, table},
};
use crate::{
    api::{PhoenixApp, PhoenixAppSpec, PhoenixAppStatus, RevisionName, ValidatedApp, names},
    build::{self, Revision, Settings},
    cli::admission,
    controller::{drift::Drifts, goal, observe, snapshot::Snapshot},
    plan::World,
};

/// Show what applying a file would do: the objects that change, and the sequence of steps.
///
/// The operator's own planner is asked, about a cluster in which every pod becomes ready and every migration succeeds.
/// Nothing is written: the API server only says what the app would be (`kubectl apply --dry-run=server`). Steps bear
/// the time from now as far as nothing but time is waited for.
#[derive(Debug, Args)]
pub struct Plan {
    /// File with the app, or `-` for standard input; objects of other kinds in it are passed over.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Ask no API server: as if nothing were there yet.
    #[arg(long)]
    offline: bool,
    /// The file is going to be applied with `kubectl apply --server-side`.
    #[arg(long, conflicts_with = "offline")]
    server_side: bool,
    /// As this field manager.
    #[arg(long, value_name = "NAME", requires = "server_side")]
    field_manager: Option<String>,
}

/// What an edit would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// The app.
    pub app: String,
    /// The revision that the file describes.
    pub revision: String,
    /// It is a new one.
    pub new: bool,
    /// Fields of the spec that change.
    pub fields: Vec<String>,
    /// What is not known, or taken for granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What would happen.
    #[serde(flatten)]
    pub preview: Preview,
}

/// Kinds without which nothing can be said of what would happen.
const NEEDED: [&str; 7] =
    ["ControllerRevision", "Deployment", "ReplicaSet", "Pod", "Service", "EndpointSlice", "Job"];

impl Plan {
    /// Shows the plan.
    ///
    /// # Errors
    /// When the file cannot be read, holds not exactly one app, or the API server refuses it.
    pub async fn run(self, place: &Place, format: Format) -> Result<Exit> {
        let object = read(&self.file)?;
        let outlook =
            if self.offline { offline(object)? } else { Box::pin(self.live(place, object)).await? };
        format.print(&outlook, || text(&outlook))?;
        Ok(Exit::Done)
    }

    async fn live(&self, place: &Place, object: Value) -> Result<Outlook> {
        let mut cluster = place.open().await?;
        if let (Some(namespace), None) = (object["metadata"]["namespace"].as_str(), place.namespace()) {
            namespace.clone_into(&mut cluster.namespace);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let edited = self.admitted(&cluster, &object).await?;
        let app = valid(&edited)?;
        let there = cluster.apps().get_opt(&name).await.context("reading the app")?;
        let Some(there) = there else {
            let asked = app.spec.traffic.gateway.is_some();
            let gateway = if asked { Some(has_gateway_api(&cluster.client).await?) } else { None };
            return from_nothing(&app, gateway);
        };
        let gathered = gather(&cluster, there.clone()).await?;
        let unread = gathered.unread.clone();
        let mut snapshot = gathered.with(&NEEDED).context("planning an edit")?;
        snapshot.app = Arc::new(PhoenixApp { status: there.status.clone(), ..edited.clone() });
        let (stored, unreadable) = snapshot.stored();
        if let Some(first) = unreadable.first() {
            bail!("{first}");
        }
        let gathered = Gathered { snapshot, unread };
        let fields = differences(&there, &edited)?;
        informed(&app, &stored, there.status.unwrap_or_default(), &gathered, &there.spec, fields)
    }

    /// What the API server would make of the file.
    async fn admitted(&self, cluster: &Cluster, object: &Value) -> Result<PhoenixApp> {
        let mut command = cluster.kubectl();
        command.args(["apply", "--dry-run=server", "-f", "-", "-o", "json"]);
        if self.server_side {
            command.args(["--server-side", "--force-conflicts"]);
        }
        if let Some(manager) = &self.field_manager {
            command.arg("--field-manager").arg(manager);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl, which has to be in PATH")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(object.to_string().as_bytes()).await.context("writing to kubectl")?;
        }
        let output = child.wait_with_output().await.context("waiting for kubectl")?;
        if !output.status.success() {
            bail!("the API server refuses it: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("reading what kubectl printed")
    }
}

fn offline(object: Value) -> Result<Outlook> {
    let app = admission::admit(object).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(|fault| format!("  {fault}")).collect();
        anyhow::anyhow!("the app is invalid:\n{}", faults.join("\n"))
    })?;
    from_nothing(&app, None)
}

/// PURE. The plan for a new app. `gateway`: whether the cluster has the Gateway API, if it was asked.
///
/// # Errors
/// In the impossible case that no name is free for its revision.
pub fn from_nothing(app: &ValidatedApp, gateway: Option<bool>) -> Result<Outlook> {
    let mut world = World { gateway_api: gateway.unwrap_or(true), ..World::default() };
    let snapshot = absent(app);
    compare_with(&mut world, &snapshot, app, &BTreeMap::new());
    let mut outlook =
        outlook(app, &BTreeMap::new(), PhoenixAppStatus::default(), world, &snapshot, Vec::new())?;
    outlook.notes.extend(ignorance::gateway_note(&app.spec, gateway));
    Ok(outlook)
}

/// PURE. The plan for an app of which this was read.
///
/// # Errors
/// In the impossible case that no name is free for a new revision.
pub fn informed(
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    status: PhoenixAppStatus,
    gathered: &Gathered,
    before: &PhoenixAppSpec,
    fields: Vec<String>,
) -> Result<Outlook> {
    let Gathered { snapshot, unread } = gathered;
    let mut world = observe::observe(snapshot, stored).world;
    compare_with(&mut world, snapshot, app, stored);
    ignorance::assume(&mut world, &status, unread);
    let mut outlook = outlook(app, stored, status, world, snapshot, fields)?;
    ignorance::tell(&mut outlook, unread, [before, &app.spec]);
    outlook.notes.extend(ignorance::gateway_note(&app.spec, Some(snapshot.gateway_api)));
    Ok(outlook)
}

/// PURE. The app, of which nothing is there.
pub fn absent(app: &ValidatedApp) -> Snapshot {
    let mut object = PhoenixApp::new(app.name.as_str(), app.spec.clone());
    object.metadata.namespace = Some(app.namespace.to_string());
    object.metadata.uid = Some(app.uid.to_string());
    nothing(object)
}

/// PURE. Adds in what differs from what the app wants.
pub fn compare_with(
    world: &mut World,
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
) {
    let drifts = &mut Drifts::default();
    observe::compare(world, snapshot, app, stored, &Settings::default(), drifts);
}

fn valid(app: &PhoenixApp) -> Result<ValidatedApp> {
    ValidatedApp::try_from(app).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(|fault| format!("  {fault}")).collect();
        anyhow::anyhow!("the app is invalid:\n{}", faults.join("\n"))
    })
}

/// PURE. What would happen to an app from here.
///
/// # Errors
/// In the impossible case that no name is free for a new revision.
pub fn outlook(
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    status: PhoenixAppStatus,
    mut world: World,
    snapshot: &Snapshot,
    fields: Vec<String>,
) -> Result<Outlook> {
    let now = snapshot.now;
    let desired = goal::desired(app, stored, |name| stored.contains_key(name));
    let desired = desired.context("no name is free for a new revision")?;
    let revision = build::render(app, &desired, &Settings::default());
    let selector = build::ServiceSelector::Only(desired.clone());
    // What its storing alone makes missing.
    let mut with_it = stored.clone();
    with_it.insert(desired.clone(), revision.clone());
    let missing = |stored: &BTreeMap<RevisionName, Revision>| {
        let mut world = world.clone();
        compare_with(&mut world, snapshot, app, stored);
        world.upkeep
    };
    let new = NewRevision {
        stored: observe::unrecorded(&snapshot.app, &revision),
        upkeep: missing(&with_it).difference(&missing(stored)).cloned().collect(),
        wants_budget: build::pod_disruption_budget(app, &selector).is_some(),
        headless: stored
            .keys()
            .map(|revision| names::headless_service(&app.name, Some(revision)))
            .filter(|name| snapshot.find(&snapshot.services, name).is_some())
            .collect(),
    };
    world.observing_since = Some(now);
    Ok(Outlook {
        app: app.name.to_string(),
        new: !stored.contains_key(&desired),
        revision: desired.to_string(),
        fields,
        notes: Vec::new(),
        preview: preview(&goal::goal(app, &desired), status, world, new, now),
    })
}

/// The one app of a file.
fn read(file: &PathBuf) -> Result<Value> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    one_app(&text).with_context(|| file.display().to_string())
}

fn one_app(text: &str) -> Result<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).context("not YAML")?;
    let mut apps: Vec<Value> = objects.into_iter().filter(|object| object["kind"] == "PhoenixApp").collect();
    match apps.len() {
        1 => Ok(apps.remove(0)),
        0 => bail!("there is no PhoenixApp in it; one begins with apiVersion: phoenix-operator.dev/v1alpha1"),
        count => bail!("there are {count} PhoenixApps in it; give a file with one"),
    }
}

fn differences(there: &PhoenixApp, edited: &PhoenixApp) -> Result<Vec<String>> {
    let value = |app: &PhoenixApp| serde_json::to_value(&app.spec).context("cannot read the spec");
    let mut fields = Vec::new();
    compare("spec", &value(there)?, &value(edited)?, &mut fields);
    Ok(fields)
}

/// PURE. Every field that differs, with both values.
fn compare(path: &str, old: &Value, new: &Value, fields: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                compare(&format!("{path}.{name}"), &old[name.as_str()], &new[name.as_str()], fields);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for index in 0..before.len().max(after.len()) {
                compare(&format!("{path}[{index}]"), &old[index], &new[index], fields);
            }
        }
        (Value::Null, new) => fields.push(format!("{path}: set to {new}")),
        (old, Value::Null) => fields.push(format!("{path}: {old} is taken away")),
        (old, new) => fields.push(format!("{path}: {old} becomes {new}")),
    }
}

/// PURE. The outlook for people.
pub fn text(outlook: &Outlook) -> String {
    let Outlook { app, revision, new, fields, notes, preview } = outlook;
    let mut lines = fields.clone();
    lines.push(if *new {
        format!("{app}: a new revision, {revision}")
    } else {
        format!("{app}: no new revision; {revision} is known")
    });
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    if preview.steps.is_empty() && preview.objects.is_empty() {
        lines.push("nothing would change\n".to_owned());
        return lines.join("\n");
    }
    if !preview.objects.is_empty() {
        let rows: Vec<Vec<String>> = preview
            .objects
            .iter()
            .map(|change| vec![format!("  {}", change.action), change.kind.to_owned(), change.name.clone()])
            .collect();
        lines.extend(["objects:".to_owned(), table(&rows)]);
    }
    if !preview.steps.is_empty() {
        let after = |step: &Step| match step.after_seconds {
            0 => String::new(),
            seconds => format!("+{}", age(seconds)),
        };
        let rows: Vec<Vec<String>> = preview
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| vec![format!("  {}.", index + 1), after(step), step.what.clone()])
            .collect();
        lines.extend(["steps:".to_owned(), table(&rows)]);
    }
    let phase = preview.end.phase.map_or_else(|| "nothing".to_owned(), |phase| format!("{phase:?}"));
    let waits = if preview.end.waits_for_person { ", and waits for a person" } else { "" };
    lines.push(format!("ends {phase}{waits}: {}\n", preview.end.message));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{compare, one_app};

    #[test]
    fn fields_that_differ_are_named() {
        let mut fields = Vec::new();
        let old = json!({"image": "a", "env": [{"name": "X", "value": "1"}], "replicas": 2, "hosts": ["a"]});
        let new = json!({"image": "b", "env": [{"name": "X", "value": "2"}, {"name": "Y"}], "replicas": 2});
        compare("spec", &old, &new, &mut fields);
        assert_eq!(
            fields,
            [
                "spec.env[0].value: \"1\" becomes \"2\"",
                "spec.env[1]: set to {\"name\":\"Y\"}",
                "spec.hosts: [\"a\"] is taken away",
                "spec.image: \"a\" becomes \"b\"",
            ]
        );
    }

    #[test]
    fn a_file_holds_one_app() {
        for (text, said) in [
            ("kind: Service", "there is no PhoenixApp"),
            ("kind: PhoenixApp\n---\nkind: PhoenixApp", "there are 2"),
            ("a: [", "not YAML"),
        ] {
            assert!(one_app(text).unwrap_err().to_string().contains(said), "{text}");
        }
        assert_eq!(one_app("kind: Secret\n---\nkind: PhoenixApp").unwrap(), json!({"kind": "PhoenixApp"}));
    }
}
