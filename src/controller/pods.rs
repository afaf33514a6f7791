//! What a pod says about itself, in one sentence that stays the same while nothing real changes.
//!
//! A crashing container is by turns terminated, waiting and running; image pulls fail by turns with two reasons. The
//! sentence is the same for all of them, and holds no counts or times, so that the status is not written each time.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};

use super::events::cut;

/// Longest part of a sentence that comes from elsewhere, in bytes.
const LONGEST_QUOTE: usize = 300;
/// Exit code of a process that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;

/// What an exception quoted in a sentence begins with.
const EXCEPTION_QUOTE: &str = ": ** (";
/// What stands in sentences before a line of a container's log: of a migration or a smoke test, and an exception.
pub const QUOTES: [&str; 2] = [crate::plan::LOG_QUOTE, EXCEPTION_QUOTE];

/// The cure where the image's files are not for whoever runs them.
const DENIED: &str =
    "; if the image's files belong to a USER of its own, set spec.security.runAsUser to that UID";
/// A container that is started again though it ended well.
const RETURNED: &str = "ends with exit code 0 and is started again: its command has to stay in the foreground, and a web \
                        pod has to listen on spec.port on all addresses, with server: true, before its startup probe \
                        gives up";
/// Exit codes of a shell that could not start a program, or did not find it.
const NOT_STARTED: [i32; 2] = [126, 127];

/// A known trap: what gives it away, and its cure.
const TRAPS: [(&str, &str); 7] = [
    (
        ":eafnosupport",
        "the endpoint binds IPv6 and the pod has none: bind {0, 0, 0, 0} in config/runtime.exs, or unset ECTO_IPV6",
    ),
    (
        "variable SECRET_KEY_BASE is missing",
        "SECRET_KEY_BASE is missing: it comes from the generated Secret unless env or envFrom sets it to nothing; \
         remove that, or set spec.secrets.secretKeyBase",
    ),
    (
        "variable DATABASE_URL is missing",
        "DATABASE_URL is missing: set spec.database.urlFrom to the Secret that holds it",
    ),
    ("no match of right hand side value: {:error, :enoent}", "a file is missing in the image"),
    ("Could not check origin for Phoenix.Socket", "add the host to check_origin in config/runtime.exs"),
    (
        "Hostname not fully qualified",
        "the release sets short names in rel/env.sh.eex: remove RELEASE_DISTRIBUTION and RELEASE_NODE from it",
    ),
    (
        "the name \"-@",
        "rel/env.sh.eex makes the node's name from variables of another platform: remove RELEASE_NODE from it",
    ),
];

/// What is wrong with a pod; worse ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// 0 is the worst.
    rank: u8,
    /// The pod.
    pod: String,
    /// What is wrong with it.
    what: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pod {} {}", self.pod, self.what)
    }
}

/// What is wrong with a pod, if anything is; a line of its log is quoted only where that is wanted.
pub fn trouble(pod: &Pod, quoting: bool) -> Option<Trouble> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    let (rank, what) = containers(pod)
        .filter_map(|status| container(status, quoting))
        .min()
        .or_else(|| evicted(pod))
        .or_else(|| unschedulable(pod))
        .or_else(|| unready(pod))?;
    Some(Trouble { rank, pod: name, what })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let own = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(own).flatten()
}

fn container(status: &ContainerStatus, quoting: bool) -> Option<(u8, String)> {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    match reason {
        "ImagePullBackOff" | "ErrImagePull" => {
            Some((0, format!("cannot pull image {}{}", status.image, pull_cause(message))))
        }
        "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => {
            Some((0, format!("cannot pull image {}: {reason}", status.image)))
        }
        "CreateContainerConfigError" | "CreateContainerError" => {
            Some((1, format!("cannot start: {reason}: {}", cut(message, LONGEST_QUOTE))))
        }
        "RunContainerError" => Some((1, cannot_start(message))),
        _ => match ended(status) {
            Some(end) if end.reason.as_deref() == Some("StartError") => {
                Some((1, cannot_start(end.message.as_deref().unwrap_or_default())))
            }
            Some(end) => Some((2, crash(end, quoting))),
            None => returned(status).then(|| (2, RETURNED.to_owned())),
        },
    }
}

/// In the container runtime's words, which are the same while it is tried and between two tries.
fn cannot_start(message: &str) -> String {
    let cure = if message.contains("permission denied") { DENIED } else { "" };
    format!("cannot start: {}{cure}", cut(message, LONGEST_QUOTE))
}

/// It ended well, was started again, and is not up, or not again.
fn returned(status: &ContainerStatus) -> bool {
    let well = last_end(status).is_some_and(|end| end.exit_code == 0);
    well && status.started != Some(true) && status.restart_count > 0
}

/// How a container last ended, if badly and it is not up again.
fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    last_end(status).filter(|end| end.exit_code != 0)
}

/// How a container last ended, unless it is up again.
fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now_and_before = [status.state.as_ref(), status.last_state.as_ref()];
    let mut ends = now_and_before.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ends.next().filter(|_| !status.ready)
}

/// One cause out of a message that changes with every try.
fn pull_cause(message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["not found", "manifest unknown", "does not exist"]) {
        ": it does not exist"
    } else if says(&["unauthorized", "denied", "forbidden", "authentication required"]) {
        ": access denied; set spec.imagePullSecrets"
    } else if says(&["no such host", "connection refused", "i/o timeout", "deadline exceeded"]) {
        ": the registry cannot be reached"
    } else {
        ""
    }
}

fn crash(end: &ContainerStateTerminated, quoting: bool) -> String {
    let message = end.message.as_deref().unwrap_or_default();
    let reason = end.reason.as_deref().filter(|reason| *reason != "Error");
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let code = end.exit_code;
    let why = if end.reason.as_deref() == Some("OOMKilled") {
        "; raise resources.limits.memory".to_owned()
    } else if let Some(cure) = cure(message) {
        format!(": {cure}")
    } else if NOT_STARTED.contains(&code) {
        let line = message.lines().map(str::trim).rfind(|line| !line.is_empty()).filter(|_| quoting);
        let line = line.map(|line| format!("{}{}", crate::plan::LOG_QUOTE, cut(line, LONGEST_QUOTE)));
        let cure = if message.contains("ermission denied") { DENIED } else { "" };
        format!("{cure}{}", line.unwrap_or_default())
    } else {
        let quote = exception(message).filter(|_| quoting);
        quote.map_or_else(String::new, |line| format!(": {line}"))
    };
    format!("crashes with exit code {code}{reason}{why}")
}

/// The cure of a known trap that a log gives away.
pub fn cure(log: &str) -> Option<&'static str> {
    TRAPS.iter().find(|(sign, _)| log.contains(sign)).map(|(_, cure)| *cure)
}

/// The line on which Elixir prints an exception, without what differs from run to run.
fn exception(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).find(|line| line.starts_with("** ("))?;
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find("#PID<").or_else(|| rest.find("#Reference<")) {
        let end = rest[start..].find('>').map_or(rest.len(), |end| start + end + 1);
        text.push_str(&rest[..start]);
        text.push_str("#PID<...>");
        rest = &rest[end..];
    }
    text.push_str(rest);
    Some(cut(&text, LONGEST_QUOTE).to_owned())
}

fn evicted(pod: &Pod) -> Option<(u8, String)> {
    let status = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Failed"))?;
    let reason = status.reason.as_deref()?;
    let message = status.message.as_deref().unwrap_or_default();
    Some((3, format!("failed: {reason}: {}", cut(message, LONGEST_QUOTE))))
}

fn unschedulable(pod: &Pod) -> Option<(u8, String)> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let message = scheduled.message.as_deref().unwrap_or_default();
    Some((4, format!("cannot be scheduled: {}", cut(message, LONGEST_QUOTE))))
}

/// Up, as far as its startup probe goes, and yet not ready.
fn unready(pod: &Pod) -> Option<(u8, String)> {
    let unready = containers(pod).find(|status| status.started == Some(true) && !status.ready)?;
    let running = unready.state.as_ref().is_some_and(|state| state.running.is_some());
    running.then(|| (5, "runs, but its readiness probe does not pass".to_owned()))
}

/// A pod's condition of this type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Gets requests, where a Service selects it.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// A container of it ended badly, was started again, and ended badly again.
pub fn crashes(pod: &Pod) -> bool {
    !is_ready(pod)
        && containers(pod).any(|status| {
            let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
            !running && status.restart_count > 0 && ended(status).is_some()
        })
}

/// Neither running nor about to run any more.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A container of it has run, or runs.
pub fn has_run(pod: &Pod) -> bool {
    let ran = |state: Option<&ContainerState>| {
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    is_terminal(pod)
        || containers(pod).any(|status| ran(status.state.as_ref()) || ran(status.last_state.as_ref()))
}

/// A pod misses this Secret.
pub fn misses_secret(pod: &Pod, secret: &str) -> bool {
    let quoted = format!("secret \"{secret}\" not found");
    containers(pod).any(|status| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            waiting.reason.as_deref() == Some("CreateContainerConfigError")
                && waiting.message.as_deref().is_some_and(|message| message.contains(&quoted))
        })
    })
}

/// How the container that failed last ended, for a Job's pod.
pub fn failure(pod: &Pod) -> Option<&ContainerStateTerminated> {
    containers(pod)
        .filter_map(|status| status.state.as_ref()?.terminated.as_ref())
        .filter(|end| end.exit_code != 0)
        .max_by(|one, other| {
            let at = |end: &ContainerStateTerminated| end.finished_at.as_ref().map(|time| time.0);
            at(one).cmp(&at(other))
        })
}

/// A container of it has run without a break since before then.
pub fn started_before(pod: &Pod, then: Timestamp) -> bool {
    containers(pod).any(|status| {
        let running = status.state.as_ref().and_then(|state| state.running.as_ref());
        running.and_then(|running| running.started_at.as_ref()).is_some_and(|start| start.0 < then)
    })
}

/// It was told to end, did not within its grace, and was killed.
pub fn was_killed(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && containers(pod).any(|status| {
            let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
            end.is_some_and(|end| end.exit_code == KILLED && end.reason.as_deref() != Some("OOMKilled"))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "shop-1"}, "status": status})).unwrap()
    }

    fn with(container: &Value) -> Pod {
        let mut full =
            json!({"name": "app", "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0});
        full.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        pod(&json!({"phase": "Pending", "containerStatuses": [full]}))
    }

    fn says(pod: &Pod) -> String {
        trouble(pod, true).map(|trouble| trouble.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_image_that_is_not_there_is_named_in_both_of_its_states() {
        let back_off = with(&json!({"state": {"waiting": {"reason": "ImagePullBackOff",
            "message": "Back-off pulling image \"shop:1\": ErrImagePull: rpc error: shop:1: not found"}}}));
        let error = with(&json!({"state": {"waiting": {"reason": "ErrImagePull",
            "message": "rpc error: code = NotFound desc = shop:1: not found"}}}));
        assert_eq!(says(&back_off), "pod shop-1 cannot pull image shop:1: it does not exist");
        assert_eq!(says(&error), says(&back_off));
    }

    #[test]
    fn a_missing_secret_is_named() {
        let pod = with(&json!({"state": {"waiting": {"reason": "CreateContainerConfigError",
            "message": "secret \"shop-generated\" not found"}}}));
        assert!(says(&pod).ends_with("CreateContainerConfigError: secret \"shop-generated\" not found"));
        assert!(misses_secret(&pod, "shop-generated"));
        assert!(!misses_secret(&pod, "shop"));
    }

    #[test]
    fn a_crash_reads_the_same_in_all_of_its_states() {
        let end = json!({"terminated": {"exitCode": 1, "reason": "Error", "message":
            "starting\n** (RuntimeError) environment variable DATABASE_URL is missing.\n"}});
        let terminated = with(&json!({"state": end, "restartCount": 3}));
        let waiting = with(&json!({"restartCount": 4, "lastState": end, "state": {"waiting":
            {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}}));
        let running = with(&json!({"restartCount": 5, "lastState": end,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}));
        assert_eq!(
            says(&terminated),
            "pod shop-1 crashes with exit code 1: DATABASE_URL is missing: set spec.database.urlFrom to the \
             Secret that holds it"
        );
        assert!(crashes(&terminated) && crashes(&waiting) && !crashes(&running));
        assert!(!crashes(&with(&json!({"state": end, "restartCount": 0}))), "once is no loop");
        assert_eq!(says(&waiting), says(&terminated));
        assert_eq!(says(&running), says(&terminated));
    }

    #[test]
    fn only_the_variable_of_that_very_name_is_missing() {
        let crash = |name: &str| {
            let log = format!("** (RuntimeError) environment variable {name} is missing.");
            says(&with(&json!({"state": {"terminated": {"exitCode": 1, "message": log}}})))
        };
        assert!(crash("DATABASE_URL").contains("set spec.database.urlFrom"));
        assert!(crash("ANALYTICS_DATABASE_URL").contains("variable ANALYTICS_DATABASE_URL is missing"));
        assert!(crash("OTHER_SECRET_KEY_BASE").contains("variable OTHER_SECRET_KEY_BASE is missing"));
    }

    #[test]
    fn a_program_that_cannot_be_started_reads_the_same_in_all_of_its_states() {
        let why = "failed to create task: exec: \"/app/bin/shop\": permission denied";
        let end = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": why}});
        let trying = with(&json!({"restartCount": 1, "lastState": end,
            "state": {"waiting": {"reason": "RunContainerError", "message": why}}}));
        let waiting = with(&json!({"restartCount": 1, "lastState": end,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}));
        assert_eq!(says(&trying), says(&waiting));
        assert!(says(&waiting).starts_with(&format!("pod shop-1 cannot start: {why}; if the image's")));

        let log = "starting\nsh: 1: /app/bin/shop: not found\n\n";
        let shell =
            with(&json!({"state": {"terminated": {"exitCode": 127, "reason": "Error", "message": log}}}));
        assert_eq!(
            says(&shell),
            "pod shop-1 crashes with exit code 127; its log says: sh: 1: /app/bin/shop: not found"
        );
        let silent = trouble(&shell, false).map(|trouble| trouble.to_string());
        assert_eq!(silent.as_deref(), Some("pod shop-1 crashes with exit code 127"));
    }

    #[test]
    fn one_that_ends_well_and_is_started_again_says_so() {
        let end = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let started = |started: bool| {
            with(&json!({"restartCount": 2, "lastState": end, "started": started,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}))
        };
        let waiting = with(&json!({"restartCount": 2, "lastState": end, "started": false,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}));
        assert!(says(&waiting).contains("listen on spec.port"), "{}", says(&waiting));
        assert_eq!(says(&started(false)), says(&waiting));
        assert!(says(&started(true)).contains("readiness"), "up, it is another matter");
        assert!(!crashes(&waiting));
        assert_eq!(trouble(&with(&json!({"state": end})), true), None, "a Job's pod is done");
    }

    #[test]
    fn exceptions_are_quoted_without_process_ids() {
        let log = "09:01 [info] x\n** (EXIT from #PID<0.98.0>) shutdown\n";
        assert_eq!(exception(log).unwrap(), "** (EXIT from #PID<...>) shutdown");
        assert_eq!(exception("all is well"), None);
    }

    #[test]
    fn out_of_memory_has_its_cure() {
        let pod = with(&json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}));
        assert_eq!(
            says(&pod),
            "pod shop-1 crashes with exit code 137 (OOMKilled); raise resources.limits.memory"
        );
        assert!(!was_killed(&pod));
    }

    #[test]
    fn a_pod_no_node_takes_says_why() {
        let pod = pod(&json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory."}]}));
        assert_eq!(
            says(&pod),
            "pod shop-1 cannot be scheduled: 0/3 nodes are available: 3 Insufficient memory."
        );
    }

    #[test]
    fn a_starting_pod_is_no_trouble() {
        assert_eq!(
            trouble(&with(&json!({"state": {"waiting": {"reason": "ContainerCreating"}}})), true),
            None
        );
        assert_eq!(trouble(&pod(&json!({"phase": "Pending"})), true), None);
    }

    #[test]
    fn the_worst_comes_first() {
        let pull = with(&json!({"state": {"waiting": {"reason": "ErrImagePull"}}}));
        let crash = with(&json!({"state": {"terminated": {"exitCode": 1}}}));
        assert!(trouble(&pull, true) < trouble(&crash, true));
    }

    #[test]
    fn every_trap_has_a_cure() {
        assert!(cure("(ErlangError) {:shutdown, :eafnosupport}").unwrap().contains("IPv6"));
        assert_eq!(cure("fine"), None);
    }

    #[test]
    fn killed_after_its_grace() {
        let mut pod = with(&json!({"state": {"terminated": {"exitCode": 137, "reason": "Error"}}}));
        assert!(!was_killed(&pod), "nobody asked it to end");
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(was_killed(&pod));
    }
}
