//! Invariants of the builders. What a whole app looks like is in the golden files of `src/cli`.

mod annotations;
mod children;
mod cluster;
mod env;
mod purity;
mod revision;
mod route;
mod shutdown;
mod smoke_job;
mod worker;

use crate::{
    api::{RevisionName, ValidatedApp, testing::app},
    build::{Revision, Settings, render},
};

/// An app with this spec and its first revision.
pub(crate) fn rendered(spec: &str) -> (ValidatedApp, Revision) {
    let app = app(spec);
    let name = app.canonical.name_for(|_| false).unwrap();
    let revision = render(&app, &name, &Settings::default());
    (app, revision)
}

fn revision_name() -> RevisionName {
    "7f3a9c1d2e".parse().unwrap()
}
