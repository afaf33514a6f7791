{{- /* Every right the operator has, each with its reason. No wildcard; no Secret is ever read; no role is made, and
no right given that the operator does not hold itself (no bind, escalate or impersonate); no exec, no logs, no nodes. The same rules serve all namespaces or named ones. */}}
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
# The active Service, the preview and the headless ones. The preview is deleted when nothing asks for it any more, the
# headless Service of one revision with its revision, and the one that revisions share when none does any more.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# The identity of each app's pods. Bound to nothing but the role `peers` below.
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
# Why pods are not ready, and whether a migration still runs. Also given on to nodes that list their peers.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Which pods serve: no write may lower that below what is promised.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# Lets the nodes of an app with clustering.mode KubernetesAPI list their peers: binds their ServiceAccount, in the app's
# namespace, to the role `peers` below. Deleted when no such node is left. Without `bind` and `escalate` the API server
# refuses every binding that would give what the operator does not hold.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# Never used, only given on to those nodes: who may not do a thing may not let others do it.
- apiGroups: [""]
  resources: [endpoints]
  verbs: [list]
# Guards the serving pods against node drains; deleted when the app is scaled to one.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Leads requests to the active Service where an app asks for `traffic.ingress`; deleted when it does not any more.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
# The same through gateways (`traffic.gateway`), where the cluster knows HTTPRoutes; a canary moves their weights. What
# gateways answer is read from their status.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
# Tells people what happened; a repeated event is patched to count.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* The Lease by which one of several operators leads, in the release's namespace alone. */}}
{{- define "phoenix-operator.lease" -}}
# Made by the first operator that starts. The name of what is to be made cannot be part of a right.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# Read by those who wait, renewed every two seconds by the one who leads, given back when it stops.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "phoenix-operator.fullname" . }}]
  verbs: [get, update]
{{- end }}

{{- /* What the nodes of an app with clustering.mode KubernetesAPI may do; every rule is among the operator's own. */}}
{{- define "phoenix-operator.peers" -}}
# libcluster's Cluster.Strategy.Kubernetes lists the one or the other (kubernetes_ip_lookup_mode), by label, every few
# seconds. It reads no single object and watches nothing.
- apiGroups: [""]
  resources: [pods, endpoints]
  verbs: [list]
{{- end }}
