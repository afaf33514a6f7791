{{- /* Every right the operator has, each with its reason. No wildcard; no Secret is ever read; no right to grant rights
(roles, bindings, escalate, impersonate); no exec, no logs, no nodes. The same rules serve all namespaces or named ones. */}}
{{- define "phoenix-operator.rules" -}}
# The apps themselves. Nothing is ever written into a spec, so there is no right to.
- apiGroups: [phoenix-operator.dev]
  resources: [phoenixapps]
  verbs: [list, watch]
# What readers see, and what must be remembered between two passes.
- apiGroups: [phoenix-operator.dev]
  resources: [phoenixapps/status]
  verbs: [update]
# Children name their app as an owner that blocks its deletion; where the admission plugin
# OwnerReferencesPermissionEnforcement is on, that takes this right.
- apiGroups: [phoenix-operator.dev]
  resources: [phoenixapps/finalizers]
  verbs: [update]
# A Deployment for each revision, scaled and in the end deleted. A ControllerRevision for each revision's definition
# and its facts (migrated, outcome, promotion), deleted when it is out of the history. `get` tells whose an object is
# that a create found there already.
- apiGroups: [apps]
  resources: [deployments, controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
# Which pods belong to which Deployment, by owner reference.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
# Migrations and smoke tests: made, watched, deleted once recorded.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# The active and the headless Service. They are removed with their app, by owner reference.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# The identity of each app's pods. Never bound to any right.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
# Weak defaults of the environment, one for each revision, deleted with it.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# The generated cookie and secret key base: posted blindly under a fixed name; that it exists already is as good.
# There is no right to read, change or delete any Secret.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# Why pods are not ready, and whether a migration still runs.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Which pods serve: no write may lower that below what is promised.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# Guards the serving pods against node drains; deleted when the app is scaled to one.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Tells people what happened; a repeated event is patched to count.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
