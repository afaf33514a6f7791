//! The identity of the pods: without a token in them, unless their nodes list their peers at the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::api::{ValidatedApp, labels, names};

/// The `ServiceAccount` of the app. Made even when the user names another, so that going back needs nothing.
pub fn service_account(app: &ValidatedApp) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(app, names::service_account(&app.name), labels::of_app(&app.name)),
        automount_service_account_token: Some(false),
        image_pull_secrets: None,
        secrets: None,
    }
}
