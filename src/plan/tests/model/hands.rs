//! What somebody does by hand to the operator's children.

use super::{Action, Config, Deployment, Kind, Points, Preview, REVISIONS, State, Stored};

/// What may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    Revision(usize),
    Deployment(usize),
    Service,
    Preview,
    Route,
    Job,
}

impl State {
    /// Every child may be deleted, and every Deployment scaled.
    pub(super) fn by_hand(&self, config: &Config) -> Vec<Action> {
        let stored = (0..REVISIONS).filter(|revision| self.stored[*revision].exists).map(Child::Revision);
        let deployments = || (0..REVISIONS).filter(|revision| self.truth.deployments[*revision].exists);
        let others = [
            (self.service != Points::Nowhere, Child::Service),
            (self.preview != Preview::Absent, Child::Preview),
            (self.route.is_some(), Child::Route),
            (self.truth.jobs.job.is_some_and(|job| !job.terminating), Child::Job),
        ];
        let others = others.into_iter().filter_map(|(there, child)| there.then_some(child));
        let deletions = stored.chain(deployments().map(Child::Deployment)).chain(others).map(Action::Delete);
        let scalings = deployments().flat_map(|revision| {
            let sizes =
                (0..=config.most_replicas).filter(move |n| *n != self.truth.deployments[revision].asked);
            sizes.map(move |size| Action::Scale(revision, size))
        });
        deletions.chain(scalings).collect()
    }

    pub(super) fn scale(&mut self, revision: usize, size: u8) {
        self.left.meddling -= 1;
        self.change(Kind::Deployments, |truth| {
            truth.deployments[revision].asked = size;
            truth.deployments[revision].observed = false;
        });
    }

    pub(super) fn delete(&mut self, child: Child) {
        self.left.meddling -= 1;
        match child {
            Child::Revision(revision) => self.stored[revision] = Stored::default(),
            Child::Deployment(revision) => {
                let Deployment { pods, ready, going, .. } = self.truth.deployments[revision];
                self.unpublished[revision] += ready;
                let left = Deployment { going: going || pods > 0, ..Deployment::default() };
                self.change(Kind::Deployments, |truth| truth.deployments[revision] = left);
            }
            Child::Service => self.service = Points::Nowhere,
            Child::Preview => self.preview = Preview::Absent,
            Child::Route => {
                self.route = None;
                if let Some(known) = self.status.route.as_mut() {
                    known.current = false;
                }
            }
            Child::Job => self.change(Kind::Jobs, |truth| {
                if let Some(job) = truth.jobs.job.as_mut() {
                    job.terminating = true;
                }
            }),
        }
    }
}
