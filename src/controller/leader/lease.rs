//! The Lease as an object, in client-go's words, so that whoever reads Leases reads this one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::election::Record;

/// What is in a Lease for people; nothing here decides by it.
#[derive(Clone, Copy, Debug)]
pub struct Annals {
    /// When its holder took it.
    pub acquired: Timestamp,
    /// How often it went from one to another.
    pub transitions: i32,
}

/// A Lease with everything that is wanted in it. With no holder it is one that is given back: it ends after a second
/// even for those who look at nothing but the times.
pub fn new(name: &str, holder: Option<String>, lasts: Duration, annals: Annals) -> Lease {
    let lasts = if holder.is_some() { lasts } else { Duration::from_secs(1) };
    Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.unwrap_or_default()),
            lease_duration_seconds: Some(i32::try_from(lasts.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(annals.acquired)),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(annals.transitions),
            ..LeaseSpec::default()
        }),
    }
}

/// How often a Lease went from one to another.
pub fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

/// What matters of a Lease; `usual` is how long one lasts that does not say it.
pub fn read(lease: &Lease, usual: Duration) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        lasts: seconds.filter(|seconds| *seconds > 0).map_or(usual, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(15);
    const ANNALS: Annals = Annals { acquired: Timestamp::UNIX_EPOCH, transitions: 3 };

    #[test]
    fn what_is_written_is_read() {
        let mut lease = new("operator", Some("me".to_owned()), Duration::from_secs(20), ANNALS);
        assert_eq!(transitions(&lease), 3);
        lease.metadata.resource_version = Some("7".to_owned());
        let record = read(&lease, USUAL);
        let holder = Some("me".to_owned());
        assert_eq!(record, Record { holder, lasts: Duration::from_secs(20), version: "7".to_owned() });
    }

    #[test]
    fn a_lease_that_is_given_back_names_nobody() {
        let lease = new("operator", None, USUAL, ANNALS);
        assert_eq!(lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds), Some(1));
        assert_eq!(read(&lease, USUAL).holder, None);
    }

    #[test]
    fn a_lease_of_any_make_is_understood() {
        let record = read(&Lease::default(), USUAL);
        assert_eq!((record.holder, record.lasts), (None, USUAL));
        let mut odd = new("operator", Some("you".to_owned()), USUAL, ANNALS);
        odd.spec.as_mut().unwrap().lease_duration_seconds = Some(-1);
        assert_eq!(read(&odd, USUAL).lasts, USUAL);
    }
}
