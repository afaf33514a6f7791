//! How a container is told to stop: the hook, and the script of it on real processes.

use std::{
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{LifecycleHandler, SleepAction};

use crate::{
    api::testing::app,
    build::shutdown::{pre_stop, signal_vm},
};

fn hook(spec: &str) -> Option<LifecycleHandler> {
    pre_stop(&app(&format!("{{image: x, {spec}}}")).spec.shutdown)?.pre_stop
}

#[test]
fn the_method_decides_how_it_waits() {
    let sleeps = hook("shutdown: {endpointLag: 15s}").unwrap();
    assert_eq!((sleeps.sleep, sleeps.exec), (Some(SleepAction { seconds: 15 }), None));
    assert_eq!(hook("shutdown: {endpointLag: 0s}"), None);
    for (lag, wait) in [("15s", "nap 15\n"), ("0s", "nap 0\n")] {
        let handler = hook(&format!("shutdown: {{method: SignalVM, endpointLag: {lag}}}")).unwrap();
        let command = handler.exec.unwrap().command.unwrap();
        assert_eq!(command[..2], ["/bin/sh", "-c"]);
        assert!(command[2].contains(wait) && command[2].contains("= beam.smp"), "{}", command[2]);
        assert_eq!(handler.sleep, None, "a hook has one handler");
    }
}

/// A program that sleeps, under a name that no other process here has.
struct Stand {
    name: String,
    dir: std::path::PathBuf,
}

impl Stand {
    fn new(tag: &str) -> Self {
        let name = format!("{tag}{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        let sleep = ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| fs::metadata(path).is_ok());
        // No copy: while another thread starts a process, a file that has just been written may be busy.
        symlink(sleep.unwrap(), dir.join(&name)).unwrap();
        Self { name, dir }
    }

    fn start(&self) -> Child {
        // returns once it has become that program
        Command::new(self.dir.join(&self.name)).arg("60").spawn().unwrap()
    }

    fn script(&self, lag: u32) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &signal_vm(lag, &self.name)]).stdout(Stdio::null());
        shell
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn it_terminates_what_bears_the_name_and_waits_for_its_end() {
    let stand = Stand::new("vma");
    let mut one = stand.start();
    let mut other = stand.start();
    let began = Instant::now();
    // unwaited for until the script has ended: zombies are no reason to go on
    assert!(stand.script(1).status().unwrap().success());
    assert!(began.elapsed() >= Duration::from_secs(1), "it waits first");
    for child in [&mut one, &mut other] {
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}

#[test]
fn it_ends_at_once_when_there_is_nothing_to_stop() {
    let stand = Stand::new("vmb");
    assert!(stand.script(0).status().unwrap().success());
}

#[test]
fn it_needs_no_program_but_the_shell() {
    let stand = Stand::new("vmc");
    let mut child = stand.start();
    let began = Instant::now();
    let mut script = stand.script(1);
    assert!(script.env("PATH", "/nowhere").status().unwrap().success());
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}
