//! Who is measured, and how each is told what to do.

use anyhow::Result;
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::program::Launch;
use super::work::{self, Object, PAUSE, WEIGHT};
use crate::audit;

/// What rolls apps out.
pub trait Contender: Sync {
    /// Names it in what is printed.
    fn name(&self) -> &'static str;
    /// Who it is to the API server.
    fn user(&self) -> &'static str;
    /// The resource that it looks after.
    fn resource(&self) -> ApiResource;
    /// How it is started.
    fn launch(&self) -> &Launch;
    /// An app.
    fn manifest(&self, name: &str, tag: &str) -> Result<Value>;
    /// What its user has to make besides, and before.
    fn beside(&self, name: &str) -> Result<Vec<Object>>;
    /// The merge patch that gives an app another release.
    fn release(&self, name: &str, tag: &str) -> Result<Value>;
    /// The merge patch that makes the next rollout a canary, unless it is one anyway.
    fn canary(&self) -> Option<Value>;
    /// The kinds of what it makes for an app, and how many objects.
    fn children(&self) -> Result<(Vec<ApiResource>, usize)>;
    /// Whether all of an app, as it is specified now, serves.
    fn healthy(&self, object: &Value) -> bool;
    /// How many apps it has judged since its start, by its metrics.
    fn judged(&self, metrics: &str) -> usize;
}

/// phoenix-operator.
pub struct Operator {
    /// How it is started.
    pub launch: Launch,
    /// Further fields of every app.
    pub fields: Value,
}

impl Contender for Operator {
    fn name(&self) -> &'static str {
        "phoenix-operator"
    }

    fn user(&self) -> &'static str {
        audit::OPERATOR
    }

    fn resource(&self) -> ApiResource {
        work::phoenix_resource()
    }

    fn launch(&self) -> &Launch {
        &self.launch
    }

    fn manifest(&self, name: &str, tag: &str) -> Result<Value> {
        Ok(work::phoenix_app(name, tag, &self.fields))
    }

    fn beside(&self, _name: &str) -> Result<Vec<Object>> {
        Ok(Vec::new())
    }

    fn release(&self, _name: &str, tag: &str) -> Result<Value> {
        Ok(json!({"spec": {"image": crate::fixtures::image(tag)}}))
    }

    fn canary(&self) -> Option<Value> {
        let steps = json!([{"setWeight": WEIGHT}, {"pause": {"duration": format!("{PAUSE}s")}}]);
        // The peer watches nothing after its last step.
        let canary = json!({"steps": steps, "maxSurge": 1, "maxUnavailable": 0, "bake": "0s"});
        Some(json!({"spec": {"strategy": {"type": "Canary", "canary": canary}}}))
    }

    fn children(&self) -> Result<(Vec<ApiResource>, usize)> {
        let app = work::phoenix_app(&work::name(0), "v1", &json!({}));
        let objects = work::objects(work::children(app, "default", None)?)?;
        let count = objects.len();
        let mut kinds: Vec<ApiResource> = objects.into_iter().map(|object| object.resource).collect();
        kinds.dedup();
        Ok((kinds, count))
    }

    fn healthy(&self, object: &Value) -> bool {
        let status = &object["status"];
        status["phase"] == "Healthy"
            && status["candidate"].is_null()
            && status["observedGeneration"] == object["metadata"]["generation"]
    }

    fn judged(&self, metrics: &str) -> usize {
        healthy(metrics)
    }
}

/// How many apps are healthy by the operator's metrics.
pub fn healthy(metrics: &str) -> usize {
    let phases = metrics.lines().filter(|line| line.starts_with("phoenix_operator_app_phase{"));
    phases.filter(|line| line.contains("phase=\"Healthy\"")).count()
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::*;
    use phoenix_operator::cli::admission;

    fn operator() -> Operator {
        let launch = Launch {
            program: "true".into(),
            arguments: Vec::new(),
            account: Account { files: "none".into(), server: ([127, 0, 0, 1], 1).into() },
            metrics: ([127, 0, 0, 1], 1).into(),
            log: "none".into(),
        };
        Operator { launch, fields: json!({}) }
    }

    #[test]
    fn what_is_asked_of_the_operator_is_admitted() {
        let operator = operator();
        let mut app = operator.manifest("shop-0", "v1").unwrap();
        admission::admit(app.clone()).unwrap();
        app["spec"]["strategy"] = operator.canary().unwrap()["spec"]["strategy"].clone();
        admission::admit(app.clone()).unwrap();
        app["spec"]["migrations"] = json!({"mode": "Job"});
        admission::admit(app).unwrap();
    }

    #[test]
    fn an_app_is_healthy_at_its_own_generation_only() {
        let operator = operator();
        let mut app =
            json!({"metadata": {"generation": 2}, "status": {"phase": "Healthy", "observedGeneration": 1}});
        assert!(!operator.healthy(&app));
        app["status"]["observedGeneration"] = json!(2);
        assert!(operator.healthy(&app));
        app["status"]["phase"] = json!("RollingOut");
        assert!(!operator.healthy(&app));
    }

    #[test]
    fn judged_apps_are_read_from_the_metrics() {
        let metrics = "phoenix_operator_app_phase{name=\"a\",namespace=\"x\",phase=\"Healthy\"} 1\n\
                       phoenix_operator_app_phase{name=\"b\",namespace=\"x\",phase=\"RollingOut\"} 1\n";
        assert_eq!(operator().judged(metrics), 1);
    }
}
