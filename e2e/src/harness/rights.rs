//! The operator's rights: those of the chart, bound to the user that a test runs it as.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Whom the operator runs as; the name that its `ServiceAccount` would have.
pub(super) const USER: &str = "system:serviceaccount:phoenix-system:phoenix-operator";
/// What the chart's rules say for the release's full name.
const FULLNAME: &str = r#"{{ include "phoenix-operator.fullname" . }}"#;
/// The groups of that `ServiceAccount`.
pub(super) const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// The Lease that operators of a test stand for, as the chart would name it.
pub(super) const LEASE: &str = "phoenix-operator";

/// Manifests of the role and its binding, of the role for nodes that list their peers, and of the one for the Lease, which
/// is bound by the tests that ask for it, as YAML. Errors when the chart's rules are not where they were.
pub(super) fn manifests() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/phoenix-operator/templates/_rules.tpl");
    let template = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let template = template.replace(FULLNAME, LEASE);
    let of =
        |name: &str| rules(&template, name).with_context(|| format!("{} defines no {name}", path.display()));
    let (rules, peers) = (of("phoenix-operator.rules")?, of("phoenix-operator.peers")?);
    let lease = of("phoenix-operator.lease")?;
    Ok(format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: phoenix-operator}}\n\
         rules:\n{rules}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
         metadata: {{name: phoenix-operator}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: phoenix-operator}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: '{USER}'}}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: phoenix-operator-peers}}\n\
         rules:\n{peers}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: phoenix-operator-leader}}\n\
         rules:\n{lease}\n"
    ))
}

/// What stands between the `define` of a name and its `end`: plain YAML, the same for a role of any scope.
fn rules<'a>(template: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = template.split_once(&format!("{{{{- define \"{name}\" -}}}}"))?;
    let (rules, _) = rest.split_once("{{- end }}")?;
    (!rules.contains("{{")).then_some(rules.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_what_the_template_defines() {
        let template =
            "{{/* why */}}\n{{- define \"phoenix-operator.rules\" -}}\n# a\n- apiGroups: []\n{{- end }}\n";
        assert_eq!(rules(template, "phoenix-operator.rules"), Some("# a\n- apiGroups: []"));
        assert_eq!(rules(template, "phoenix-operator.peers"), None);
        assert_eq!(rules("nothing", "phoenix-operator.rules"), None);
    }
}
