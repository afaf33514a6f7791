//! What happens before a container is told to stop.

use k8s_openapi::api::core::v1::{ExecAction, Lifecycle, LifecycleHandler, SleepAction};

use crate::api::{ShutdownMethod, ShutdownSpec};

/// The name of the VM's process, whatever the release is called.
const VM: &str = "beam.smp";

/// Waits, after the pod has left the endpoints, until load balancers have noticed. Only then SIGTERM: Phoenix drains
/// its sockets before the listener closes, and their clients reconnect at once, to where they are sent.
pub(super) fn pre_stop(shutdown: &ShutdownSpec) -> Option<Lifecycle> {
    let lag = shutdown.endpoint_lag.as_secs();
    let handler = match shutdown.method {
        ShutdownMethod::Signal if lag == 0 => return None,
        ShutdownMethod::Signal => LifecycleHandler {
            sleep: Some(SleepAction { seconds: i64::from(lag) }),
            ..LifecycleHandler::default()
        },
        ShutdownMethod::SignalVm => LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), signal_vm(lag, VM)]),
            }),
            ..LifecycleHandler::default()
        },
    };
    Some(Lifecycle { pre_stop: Some(handler), ..Lifecycle::default() })
}

/// A script that waits for `lag` seconds, terminates every process called `vm` once, and ends when the last is gone.
///
/// A shell that is the container's first process ignores SIGTERM while it waits for the VM; under an init such as tini
/// it ends at once, and the VM with it. So the VM is signalled first, and the kubelet's SIGTERM, which follows this
/// script, comes when it has drained. The grace of the pod bounds the wait.
///
/// It takes a shell and nothing else: no `pgrep`, no `kill` program, and where there is no `sleep` either, it counts the
/// seconds in `/proc/uptime`. One that has ended and that nobody has waited for (state Z) counts as gone. It may signal
/// what runs as its own user, which under the profile Restricted is every process of the container.
pub(super) fn signal_vm(lag: u32, vm: &str) -> String {
    format!(
        r#"nap() {{
  sleep "$1" 2>/dev/null && return
  read -r up _ </proc/uptime
  end=$((${{up%.*}} + $1))
  while [ "${{up%.*}}" -lt "$end" ]; do read -r up _ </proc/uptime; done
}}
nap {lag}
told=" "
while :; do
  left=
  for dir in /proc/[0-9]*; do
    {{ read -r name <"$dir/comm"; }} 2>/dev/null || continue
    [ "$name" = {vm} ] || continue
    {{ read -r _ _ state _ <"$dir/stat"; }} 2>/dev/null || continue
    [ "$state" != Z ] || continue
    left=yes
    case "$told" in
      *" $dir "*) ;;
      *) kill -TERM "${{dir#/proc/}}" && told="$told$dir " ;;
    esac
  done
  [ "$left" ] || exit 0
  nap 1
done"#
    )
}
