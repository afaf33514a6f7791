//! Who leads, as a machine without a client or a clock: told what the API server said and when, it says what to do.
//!
//! The rules are those of client-go's `leaderelection`. No time written into the Lease is ever compared with a clock
//! here: a Lease counts from the moment its last change was *seen*, and one's own renewal from the moment it was
//! *sent*. As nobody sees a renewal before it was sent, a leader stops `lease - renew` before another may begin,
//! however far their clocks are apart, as long as they run at about the same speed.

use std::time::Duration;

/// Time since an instant of this process. Never compared with that of another.
pub type Clock = Duration;

/// How long what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// A Lease that nobody renews may be taken after this long.
    pub lease: Duration,
    /// A leader whose last renewal was sent this long ago leads no more. Shorter than `lease`.
    pub renew: Duration,
    /// Between two renewals, and between two looks at another's Lease.
    pub retry: Duration,
}

/// client-go's defaults (`LeaseDuration`, `RenewDeadline`, `RetryPeriod`), which Kubernetes' own controllers use.
pub const TERMS: Terms =
    Terms { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) };

/// A Lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Whose it is; none: it was given back.
    pub holder: Option<String>,
    /// How long it lasts from its last change.
    pub lasts: Duration,
    /// Its resourceVersion.
    pub version: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nothing until then.
    Wait(Clock),
    /// Read the Lease.
    Look,
    /// Write one's own name: into the Lease of this version, or into a new one.
    Claim(Option<String>),
    /// Stop: another may lead.
    Lost(Loss),
}

/// How leading ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// It could not be renewed in time.
    Overdue,
    /// The Lease names another; none: nobody.
    Taken(Option<String>),
    /// It was given back.
    Resigned,
}

/// The Lease as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    holder: Option<String>,
    lasts: Duration,
    /// None: it is not there, or not any more.
    version: Option<String>,
    /// When its last change was seen.
    at: Clock,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Candidate,
    /// When the last renewal that succeeded was sent.
    Leader(Clock),
    Out(Loss),
}

/// One who stands for election.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    identity: String,
    terms: Terms,
    standing: Standing,
    seen: Option<Seen>,
    /// What was seen last is known to be old.
    doubt: bool,
    /// Nothing is done before.
    due: Clock,
}

impl Election {
    /// A candidate; no two may have the same identity, nor one of them twice in a row.
    pub const fn new(identity: String, terms: Terms) -> Self {
        let standing = Standing::Candidate;
        Self { identity, terms, standing, seen: None, doubt: true, due: Clock::ZERO }
    }

    /// One's own name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Until when one may write; none: one does not lead.
    pub fn until(&self) -> Option<Clock> {
        match self.standing {
            Standing::Leader(renewed) => Some(renewed + self.terms.renew),
            Standing::Candidate | Standing::Out(_) => None,
        }
    }

    /// Who holds the Lease, as last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.holder.as_deref()
    }

    /// What is to be done now.
    pub fn step(&self, now: Clock) -> Step {
        if let Standing::Out(loss) = &self.standing {
            return Step::Lost(loss.clone());
        }
        if self.until().is_some_and(|until| until <= now) {
            return Step::Lost(Loss::Overdue);
        }
        match &self.seen {
            // A leader wakes at its end, even when nothing is to be done before.
            _ if now < self.due => Step::Wait(self.until().unwrap_or(self.due).min(self.due)),
            Some(seen) if !self.doubt => Step::Claim(seen.version.clone()),
            _ => Step::Look,
        }
    }

    /// A look showed this; none: there is no Lease.
    pub fn saw(&mut self, record: Option<Record>, now: Clock) {
        let before = self.seen.take();
        let seen = match (record, before) {
            // Nothing has happened since.
            (Some(record), Some(seen)) if seen.version.as_ref() == Some(&record.version) => seen,
            (Some(Record { holder, lasts, version }), _) => {
                Seen { holder, lasts, version: Some(version), at: now }
            }
            // Somebody deleted it. Whoever held it may not know yet, and may have renewed it until now.
            (None, Some(seen)) if seen.version.is_some() => Seen { version: None, at: now, ..seen },
            (None, Some(seen)) => seen,
            (None, None) => Seen { holder: None, lasts: Duration::ZERO, version: None, at: now },
        };
        let mine = seen.holder.as_ref() == Some(&self.identity);
        let free = mine || seen.holder.is_none() || seen.at + seen.lasts <= now;
        if matches!(self.standing, Standing::Leader(_)) && !mine {
            self.standing = Standing::Out(Loss::Taken(seen.holder.clone()));
        }
        self.doubt = !free;
        self.due = if free { now } else { (seen.at + seen.lasts).min(now + self.terms.retry) };
        self.seen = Some(seen);
    }

    /// A claim that was sent then has succeeded.
    pub fn won(&mut self, record: Record, sent: Clock) {
        if matches!(self.standing, Standing::Out(_)) {
            return;
        }
        let Record { holder, lasts, version } = record;
        self.seen = Some(Seen { holder, lasts, version: Some(version), at: sent });
        self.standing = Standing::Leader(sent);
        self.doubt = false;
        self.due = sent + self.terms.retry;
    }

    /// A claim was refused: the Lease is not what was seen.
    pub const fn refused(&mut self, now: Clock) {
        self.doubt = true;
        self.due = now;
    }

    /// No answer came, or none that says how the Lease is. What was asked for may have been done.
    pub fn failed(&mut self, now: Clock) {
        self.doubt = true;
        self.due = now + self.terms.retry;
    }

    /// Leads no more, by choice. The version in which the Lease is to be given back; none: it is not one's own.
    pub fn resign(&mut self) -> Option<String> {
        let led = matches!(self.standing, Standing::Leader(_));
        if !matches!(self.standing, Standing::Out(_)) {
            self.standing = Standing::Out(Loss::Resigned);
        }
        self.seen.as_ref().filter(|seen| led && seen.holder.as_ref() == Some(&self.identity))?.version.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(holder: &str, version: &str) -> Record {
        let holder = Some(holder.to_owned()).filter(|name| !name.is_empty());
        Record { holder, lasts: TERMS.lease, version: version.to_owned() }
    }

    fn me() -> Election {
        Election::new("me".to_owned(), TERMS)
    }

    fn leader() -> Election {
        let mut election = me();
        election.saw(None, s(0));
        election.won(record("me", "1"), s(0));
        election
    }

    #[test]
    fn a_lease_that_is_not_there_is_made_and_one_that_was_given_back_is_taken_at_once() {
        let mut election = me();
        assert_eq!(election.step(s(0)), Step::Look);
        election.saw(None, s(1));
        assert_eq!(election.step(s(1)), Step::Claim(None));
        election.saw(Some(record("", "7")), s(2));
        assert_eq!(election.step(s(2)), Step::Claim(Some("7".to_owned())));
        assert_eq!(election.until(), None, "asking is not having");
    }

    #[test]
    fn another_is_waited_for_from_the_last_change_that_was_seen() {
        let mut election = me();
        election.saw(Some(record("other", "1")), s(100));
        assert_eq!(election.step(s(100)), Step::Wait(s(102)));
        assert_eq!(election.step(s(102)), Step::Look);
        election.saw(Some(record("other", "2")), s(110));
        election.saw(Some(record("other", "2")), s(124));
        assert_eq!(election.step(s(124)), Step::Wait(s(125)), "not a whole retry longer than needed");
        election.saw(Some(record("other", "2")), s(125));
        assert_eq!(election.step(s(125)), Step::Claim(Some("2".to_owned())));
    }

    #[test]
    fn a_lease_lasts_as_long_as_its_holder_says() {
        let mut election = me();
        election.saw(Some(Record { lasts: s(60), ..record("other", "1") }), s(0));
        election.saw(Some(Record { lasts: s(60), ..record("other", "1") }), s(59));
        assert_eq!(election.step(s(59)), Step::Wait(s(60)));
    }

    #[test]
    fn a_leader_renews_and_counts_from_the_sending() {
        let mut election = leader();
        assert_eq!((election.step(s(1)), election.until()), (Step::Wait(s(2)), Some(s(10))));
        assert_eq!(election.step(s(2)), Step::Claim(Some("1".to_owned())));
        election.won(record("me", "2"), s(2));
        assert_eq!((election.step(s(5)), election.until()), (Step::Claim(Some("2".to_owned())), Some(s(12))));
        assert_eq!(election.step(s(12)), Step::Lost(Loss::Overdue));
    }

    #[test]
    fn a_refused_renewal_is_looked_into() {
        let mut election = leader();
        election.refused(s(2));
        assert_eq!(election.step(s(2)), Step::Look);
        // A label was put on it, or a renewal without an answer was carried out.
        election.saw(Some(record("me", "5")), s(3));
        assert_eq!(election.step(s(3)), Step::Claim(Some("5".to_owned())));
        assert_eq!(election.until(), Some(s(10)), "seeing one's name renews nothing");
        election.saw(Some(record("other", "6")), s(4));
        assert_eq!(election.step(s(4)), Step::Lost(Loss::Taken(Some("other".to_owned()))));
        assert_eq!(election.until(), None);
        election.won(record("me", "7"), s(4));
        assert_eq!(election.until(), None, "what is lost stays lost");
    }

    #[test]
    fn a_failure_is_tried_again_until_it_is_overdue() {
        let mut election = leader();
        for at in [2, 4, 6, 8] {
            assert!(matches!(election.step(s(at)), Step::Look | Step::Claim(_)), "{at}");
            election.failed(s(at));
            assert_eq!(election.step(s(at)), Step::Wait(s(at + 2)));
        }
        assert_eq!(election.step(s(10)), Step::Lost(Loss::Overdue));
    }

    #[test]
    fn a_deleted_lease_is_made_anew_by_its_holder_and_waited_out_by_others() {
        let mut holder = leader();
        holder.refused(s(2));
        holder.saw(None, s(2));
        assert_eq!(holder.step(s(2)), Step::Claim(None));
        let mut other = me();
        other.saw(Some(record("other", "1")), s(0));
        other.saw(None, s(2));
        assert_eq!(other.step(s(2)), Step::Wait(s(4)));
        other.saw(None, s(16));
        assert_eq!(other.step(s(16)), Step::Wait(s(17)));
        other.saw(None, s(17));
        assert_eq!(other.step(s(17)), Step::Claim(None));
    }

    #[test]
    fn who_resigns_gives_back_only_what_is_its_own() {
        let mut election = leader();
        assert_eq!(election.resign(), Some("1".to_owned()));
        assert_eq!((election.step(s(0)), election.until()), (Step::Lost(Loss::Resigned), None));
        let mut candidate = me();
        candidate.saw(Some(record("other", "1")), s(0));
        assert_eq!(candidate.resign(), None);
        let mut deposed = leader();
        deposed.saw(Some(record("other", "2")), s(2));
        assert_eq!(deposed.resign(), None);
    }

    #[test]
    fn the_leader_stops_well_before_another_may_begin() {
        assert!(TERMS.renew + TERMS.retry < TERMS.lease && TERMS.retry * 2 < TERMS.renew);
    }
}
