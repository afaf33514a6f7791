# Two commands matter: `make demo` to see it, `make test` to trust it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo down check test soak dist bench fmt crd argocd deny

e2e = $${CARGO_TARGET_DIR:-target}/release/e2e
# The whole workspace: a part of it would have its dependencies built once more, with fewer features.
build = cargo build --release --locked --workspace
dist = cargo rustc --profile dist --locked --bin phoenix-operator -- -C target-feature=+crt-static

help: ## Show this
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1	\2/p' Makefile | expand -t 16

demo: ## See it: a real Kubernetes, the operator, a release rolling from v1 to v2; again for the next version
	@bash .ci/setup
	@$(build) --bins
	@$(e2e) demo

down: ## Take away what `make demo` left running
	@$(build) --bins --quiet
	@$(e2e) down --nodes real
	@$(e2e) down --nodes kwok

check: ## Format, lint, unit and model tests: minutes
	@bash .ci/test check

test: ## All of it, on a real Kubernetes: under an hour cold, with progress
	@bash .ci/setup
	@bash .ci/test all

soak: ## The slow proof: 25 cut-overs in a row under load by each strategy; an hour
	@bash .ci/setup
	@bash .ci/test soak

dist: ## The operator as it is published, small and linked to no library: target/dist/phoenix-operator
	@$(dist)

bench: ## Measure it beside a raw client and Argo Rollouts, on fake nodes: an hour, APPS=500; writes docs/benchmarks.md
	@bash .ci/setup
	@$(build) --bins
	@$(dist)
	@PHOENIX_OPERATOR_BIN=$${CARGO_TARGET_DIR:-target}/dist/phoenix-operator \
	  $(e2e) bench $(if $(APPS),--apps $(APPS)) $(if $(OUT),--out $(OUT)) $(if $(HEAP),--heap $(HEAP)) \
	  $(if $(CHURN),--churn $(CHURN)) $(if $(MANY),--many $(MANY))

fmt: ## Format the code
	@cargo fmt --all

crd: ## Write the CustomResourceDefinition from the types, for kubectl and for the chart
	@$(build) --bin phoenix-operator --quiet
	@$${CARGO_TARGET_DIR:-target}/release/phoenix-operator crd > crds/phoenixapps.phoenix-operator.dev.yaml.new
	@mv crds/phoenixapps.phoenix-operator.dev.yaml{.new,}
	@cp crds/phoenixapps.phoenix-operator.dev.yaml charts/phoenix-operator/crd.yaml

argocd: ## Write Argo CD's ConfigMap from the scripts in argocd/
	@$(build) --bin e2e --quiet
	@$(e2e) argocd > argocd/argocd-cm.yaml.new
	@mv argocd/argocd-cm.yaml{.new,}

deny: ## Licences, sources and advisories of dependencies; needs `cargo install cargo-deny`
	@cargo deny check
