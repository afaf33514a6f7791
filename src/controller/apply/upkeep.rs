//! Making, repairing and removing the children whose repair can harm nothing.

use k8s_openapi::api::{
    core::v1::Service, networking::v1::Ingress, policy::v1::PodDisruptionBudget, rbac::v1::RoleBinding,
};

use super::{Applied, Applier, Halt, marked, marked_ingress, service_selector};
use crate::{
    api::names,
    build::{self, Revision},
    plan::Upkeep,
};

impl Applier<'_> {
    pub(super) async fn upkeep(&self, child: &Upkeep, applied: &mut Applied) -> Result<(), Halt> {
        let snapshot = self.snapshot;
        match child {
            Upkeep::ServiceAccount => {
                self.ensure(&snapshot.service_accounts, &build::service_account(self.app), applied).await
            }
            Upkeep::HeadlessService(None) => self.headless_service(None, applied).await,
            Upkeep::HeadlessService(Some(revision)) | Upkeep::NewHeadlessService(revision) => {
                self.headless_service(self.revision(revision)?.isolated(), applied).await
            }
            Upkeep::NoHeadlessService => {
                let name = names::headless_service(&self.app.name, None);
                let Some(service) = snapshot.find(&snapshot.services, &name) else { return Ok(()) };
                self.delete::<Service>(&service.metadata).await
            }
            Upkeep::PeersBinding(_) => self.peers_binding(applied).await,
            Upkeep::NoPeersBinding(_) => {
                let name = names::peers_binding(&self.app.name);
                let Some(binding) = snapshot.find(&snapshot.role_bindings, &name) else { return Ok(()) };
                self.delete::<RoleBinding>(&binding.metadata).await
            }
            Upkeep::PodDisruptionBudget(guarded) => {
                match build::pod_disruption_budget(self.app, &service_selector(guarded)) {
                    Some(budget) => self.ensure(&snapshot.budgets, &budget, applied).await,
                    None => Ok(()),
                }
            }
            Upkeep::NoPodDisruptionBudget => {
                let name = names::pod_disruption_budget(&self.app.name);
                let Some(budget) = snapshot.find(&snapshot.budgets, &name) else { return Ok(()) };
                self.delete::<PodDisruptionBudget>(&budget.metadata).await
            }
            Upkeep::Ingress => match build::ingress(self.app) {
                Some(ingress) => self.ensure(&snapshot.ingresses, &marked_ingress(ingress), applied).await,
                None => Ok(()),
            },
            Upkeep::NoIngress => {
                let name = names::ingress(&self.app.name);
                let Some(ingress) = snapshot.find(&snapshot.ingresses, &name) else { return Ok(()) };
                self.delete::<Ingress>(&ingress.metadata).await
            }
            Upkeep::Defaults(revision) => {
                let map = build::defaults_config_map(self.app, self.revision(revision)?);
                self.ensure(&snapshot.config_maps, &map, applied).await
            }
        }
    }

    async fn headless_service(&self, isolated: Option<&Revision>, applied: &mut Applied) -> Result<(), Halt> {
        let service = marked(build::headless_service(self.app, isolated));
        self.ensure(&self.snapshot.services, &service, applied).await
    }

    /// A binding never changes the role that it names: one of another name, after the operator was installed in another
    /// way, is replaced.
    async fn peers_binding(&self, applied: &mut Applied) -> Result<(), Halt> {
        let bindings = &self.snapshot.role_bindings;
        let Some(wanted) = build::peers_binding(self.app, self.stored.values(), self.settings) else {
            return Ok(());
        };
        let seen = self.snapshot.find(bindings, &names::peers_binding(&self.app.name));
        match seen.filter(|seen| seen.role_ref != wanted.role_ref) {
            Some(seen) => {
                self.delete::<RoleBinding>(&seen.metadata).await?;
                self.create(&wanted).await
            }
            None => self.ensure(bindings, &wanted, applied).await,
        }
    }
}
