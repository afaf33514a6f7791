//! Names: of the app and of everything made for it.
//!
//! An app's name has at most 40 characters, so that each name below stays within the 63 that a DNS label has.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::migrations::Stage;

/// Longest DNS label, and so the longest name of a Service and value of a label.
const LABEL_LENGTH: usize = 63;

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NameError {
    text: String,
    what: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(NameError { text, what: $what }) }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                text.to_owned().try_into()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                text.try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a `PhoenixApp`: DNS-1035, because Services bear it.
    AppName,
    "a name of at most 40 lowercase letters, digits and '-' that starts with a letter and does not end in '-'",
    |text| text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
name!(
    /// The namespace of the app, and of everything it refers to.
    Namespace,
    "a namespace",
    |text| !text.is_empty() && text.len() <= LABEL_LENGTH
);
name!(
    /// What tells an app from an earlier one of the same name.
    Uid,
    "a UID",
    |text| !text.is_empty()
);
name!(
    /// The state of an object in which a write was planned; opaque.
    ResourceVersion,
    "a resourceVersion",
    |text| !text.is_empty()
);
name!(
    /// Name of a revision: the first ten hexadecimal digits of a hash.
    RevisionName,
    "the name of a revision, which is ten hexadecimal digits such as 7f3a9c1d2e",
    |text| text.len() == 10 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);

/// The active Service: named as the app.
pub fn active_service(app: &AppName) -> String {
    app.to_string()
}

/// The headless Service, by which nodes find each other: of all revisions, or of one that is isolated.
pub fn headless_service(app: &AppName, isolated: Option<&RevisionName>) -> String {
    match isolated {
        None => format!("{app}-headless"),
        Some(revision) => format!("{app}-{revision}-nodes"),
    }
}

/// The Service that leads to a blue-green candidate.
pub fn preview_service(app: &AppName) -> String {
    format!("{app}-preview")
}

/// The HTTPRoute: named as the app.
pub fn http_route(app: &AppName) -> String {
    app.to_string()
}

/// The Ingress: named as the app.
pub fn ingress(app: &AppName) -> String {
    app.to_string()
}

/// The headless Service's full name in the cluster's DNS.
pub fn headless_fqdn(
    app: &AppName,
    isolated: Option<&RevisionName>,
    namespace: &Namespace,
    cluster_domain: &str,
) -> String {
    format!("{}.{namespace}.svc.{cluster_domain}", headless_service(app, isolated))
}

/// The id of an Erlang cluster, value of the label: the app for all revisions, the revision for one that is isolated.
pub fn cluster(app: &AppName, isolated: Option<&RevisionName>) -> String {
    isolated.map_or_else(|| app.to_string(), RevisionName::to_string)
}

/// The Deployment of a revision.
pub fn deployment(app: &AppName, revision: &RevisionName) -> String {
    format!("{app}-{revision}")
}

/// The Deployment of a worker in a revision: `<app>-<worker>-<revision>`.
///
/// Where that is longer than a label may be, the app's part is cut, and a hash of its name tells apps apart.
pub fn worker_deployment(app: &AppName, worker: &str, revision: &RevisionName) -> String {
    let rest = format!("-{worker}-{revision}");
    if app.as_str().len() + rest.len() <= LABEL_LENGTH {
        return format!("{app}{rest}");
    }
    let room = LABEL_LENGTH.saturating_sub(rest.len() + 9).min(app.as_str().len());
    format!("{}-{:08x}{rest}", app.as_str()[..room].trim_end_matches('-'), short_hash(app.as_str()))
}

/// The `ControllerRevision` that holds a revision: named as its Deployment.
pub fn controller_revision(app: &AppName, revision: &RevisionName) -> String {
    deployment(app, revision)
}

/// The `ConfigMap` of weak defaults of a revision.
pub fn defaults_config_map(app: &AppName, revision: &RevisionName) -> String {
    format!("{app}-{revision}-env")
}

/// The Job that migrates for a revision in an attempt.
///
/// Its name is a label of its pods, so at a length beyond 63 (40 characters and more than 999 attempts) the app's
/// part is shortened; the revision and the attempt still tell Jobs apart.
pub fn migration_job(app: &AppName, revision: &RevisionName, attempt: i64) -> String {
    let rest = format!("-migrate-{revision}-{attempt}");
    let room = LABEL_LENGTH.saturating_sub(rest.len()).min(app.as_str().len());
    format!("{}{rest}", app.as_str()[..room].trim_end_matches('-'))
}

/// The Job of a stage of a migration in an attempt; shortened as that of a migration.
pub fn stage_job(app: &AppName, revision: &RevisionName, stage: Stage, attempt: i64) -> String {
    let Some(word) = stage.text() else { return migration_job(app, revision, attempt) };
    let rest = format!("-{word}-{revision}-{attempt}");
    let room = LABEL_LENGTH.saturating_sub(rest.len()).min(app.as_str().len());
    format!("{}{rest}", app.as_str()[..room].trim_end_matches('-'))
}

/// The stage that the Job of this name is of; the other way round.
pub fn stage_of_job(name: &str) -> Stage {
    // what comes before the revision and the attempt
    let Some(rest) = name.rsplitn(3, '-').nth(2) else { return Stage::Migrate };
    let Some((front, last)) = rest.rsplit_once('-') else { return Stage::Migrate };
    match last.parse::<usize>() {
        Ok(_) if front.ends_with("-before") => Stage::of(Some(&format!("before-{last}"))),
        _ => Stage::of(Some(last)),
    }
}

/// The Job of a smoke test in an attempt; a hash tells its tests, and the spans they are made for, apart.
///
/// Shortened as that of a migration.
pub fn smoke_job(app: &AppName, revision: &RevisionName, attempt: i64, span: &str, test: &str) -> String {
    let number = short_hash(&format!("{span}/{test}"));
    let rest = format!("-smoke-{revision}-{attempt}-{number:08x}");
    let room = LABEL_LENGTH.saturating_sub(rest.len()).min(app.as_str().len());
    format!("{}{rest}", app.as_str()[..room].trim_end_matches('-'))
}

fn short_hash(text: &str) -> u32 {
    Sha256::digest(text).iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
}

/// The Secret that is generated once.
pub fn generated_secret(app: &AppName) -> String {
    format!("{app}-generated")
}

/// The ServiceAccount made for the app.
pub fn service_account(app: &AppName) -> String {
    app.to_string()
}

/// The `RoleBinding` that lets nodes list their peers.
pub fn peers_binding(app: &AppName) -> String {
    format!("{app}-peers")
}

/// The `PodDisruptionBudget`.
pub fn pod_disruption_budget(app: &AppName) -> String {
    app.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revision() -> RevisionName {
        "7f3a9c1d2e".parse().unwrap()
    }

    #[test]
    fn a_job_names_its_stage() {
        let stages = [Stage::Migrate, Stage::Before(0), Stage::Before(11), Stage::Contract, Stage::Rollback];
        for app in ["shop", "shop-contract", "my-before-1", "a-rather-long-name-of-an-app-before"] {
            for stage in stages {
                let job = stage_job(&app.parse().unwrap(), &revision(), stage, 12);
                assert_eq!(stage_of_job(&job), stage, "{job}");
            }
        }
        assert_eq!(stage_of_job(""), Stage::Migrate);
    }

    #[test]
    fn app_names_are_dns_1035_labels_of_at_most_40() {
        for good in ["a", "shop", "shop-2", "a23456789-123456789-123456789-123456789x"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in
            ["", "-a", "a-", "2shop", "Shop", "sh.op", "a23456789-123456789-123456789-123456789xy", "é"]
        {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn revision_names_are_ten_hex_digits() {
        assert!("0123456789".parse::<RevisionName>().is_ok());
        for bad in ["", "7f3a9c1d2", "7f3a9c1d2e0", "7F3A9C1D2E", "7f3a9c1d2g"] {
            assert!(bad.parse::<RevisionName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn children_are_named_after_the_app() {
        let app = "shop".parse().unwrap();
        let names = [
            active_service(&app),
            headless_service(&app, None),
            headless_service(&app, Some(&revision())),
            deployment(&app, &revision()),
            controller_revision(&app, &revision()),
            defaults_config_map(&app, &revision()),
            migration_job(&app, &revision(), 7),
            generated_secret(&app),
            service_account(&app),
            pod_disruption_budget(&app),
            peers_binding(&app),
            headless_fqdn(&app, None, &"prod".parse().unwrap(), "cluster.local"),
            cluster(&app, None),
            cluster(&app, Some(&revision())),
        ];
        assert_eq!(
            names,
            [
                "shop",
                "shop-headless",
                "shop-7f3a9c1d2e-nodes",
                "shop-7f3a9c1d2e",
                "shop-7f3a9c1d2e",
                "shop-7f3a9c1d2e-env",
                "shop-migrate-7f3a9c1d2e-7",
                "shop-generated",
                "shop",
                "shop",
                "shop-peers",
                "shop-headless.prod.svc.cluster.local",
                "shop",
                "7f3a9c1d2e"
            ]
        );
    }

    proptest! {
        #[test]
        fn every_name_fits_a_dns_label(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", attempt in 0_i64..=i64::MAX) {
            let app: AppName = name.parse().unwrap();
            for name in [
                headless_service(&app, None),
                headless_service(&app, Some(&revision())),
                deployment(&app, &revision()),
                defaults_config_map(&app, &revision()),
                migration_job(&app, &revision(), attempt),
                stage_job(&app, &revision(), Stage::Before(3), attempt),
                stage_job(&app, &revision(), Stage::Contract, attempt),
                smoke_job(&app, &revision(), attempt, "step-31", "a-test"),
                generated_secret(&app),
            ] {
                prop_assert!(name.len() <= 63, "{name}");
                prop_assert!(!name.ends_with('-'), "{name}");
            }
        }

        #[test]
        fn a_workers_deployment_fits_a_label_and_is_its_own(
            name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
            worker in "[a-z]([-a-z0-9]{0,18}[a-z0-9])?",
        ) {
            let app: AppName = name.as_str().try_into().unwrap();
            let own = worker_deployment(&app, &worker, &revision());
            prop_assert!(own.len() <= LABEL_LENGTH && own.ends_with(&format!("-{worker}-{}", revision())), "{own}");
            prop_assert_ne!(&own, &deployment(&app, &revision()));
            let other: Result<AppName, _> = format!("{}x", &name[..name.len() - 1]).as_str().try_into();
            if let Some(other) = other.ok().filter(|other| *other != app) {
                prop_assert_ne!(own, worker_deployment(&other, &worker, &revision()));
            }
        }

        #[test]
        fn jobs_of_different_tests_never_share_a_name(attempt in 0_i64..1000, span in 0..32, test in "[a-z]{1,8}") {
            let app: AppName = "shop".parse().unwrap();
            let name = |attempt, span: i32, test: &str| {
                smoke_job(&app, &revision(), attempt, &format!("step-{span}"), test)
            };
            let one = name(attempt, span, &test);
            prop_assert_ne!(&one, &name(attempt + 1, span, &test));
            prop_assert_ne!(&one, &name(attempt, span + 1, &test));
            prop_assert_ne!(&one, &name(attempt, span, &format!("{test}x")));
        }

        #[test]
        fn jobs_of_different_attempts_never_share_a_name(
            name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", one in 0_i64..100_000, other in 0_i64..100_000
        ) {
            prop_assume!(one != other);
            let app: AppName = name.parse().unwrap();
            prop_assert_ne!(migration_job(&app, &revision(), one), migration_job(&app, &revision(), other));
        }
    }
}
