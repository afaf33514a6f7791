//! One node of the release as a process of this machine.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::postgres::Postgres;

use crate::http::{Answer, get};

/// Far more than anything here takes; only a failing test ever waits for it.
pub const DEADLINE: Duration = Duration::from_mins(1);
pub const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Waits for a condition, not for a time.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the database until it answers as wanted.
pub async fn wait_for_sql(postgres: &Postgres, sql: &str, wanted: &str) {
    let deadline = Instant::now() + DEADLINE;
    while postgres.query("roost", sql).await.unwrap() != wanted {
        assert!(Instant::now() < deadline, "waited in vain for {wanted} from {sql}");
    }
}

pub fn free_port(ip: IpAddr) -> u16 {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port()
}

/// A directory of a test's own, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("e2e-roost-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub async fn postgres(&self) -> Postgres {
        let postgres = Postgres::start(LOCALHOST, &self.0.join("postgres")).await.unwrap();
        postgres.create_database("roost").await.unwrap();
        postgres
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a node is run: the environment of a pod.
#[derive(Clone)]
pub struct Pod {
    pub app: PathBuf,
    pub address: SocketAddr,
    pub env: Vec<(String, String)>,
    /// Where the release is chrooted, as `nobody`.
    pub root: Option<PathBuf>,
}

impl Pod {
    pub fn new(version: &str, ip: IpAddr, database_url: &str) -> Self {
        let address = SocketAddr::new(ip, free_port(ip));
        let epmd = free_port(ip).to_string();
        let pod = Self { app: e2e::image::unpacked(version).unwrap(), address, env: vec![], root: None };
        pod.with("SECRET_KEY_BASE", &"s".repeat(64))
            .with("DATABASE_URL", database_url)
            .with("POOL_SIZE", "2")
            .with("PORT", &address.port().to_string())
            .with("PHX_HOST", "localhost")
            .with("RELEASE_COOKIE", "c0123456789012345678901234567890")
            .with("RELEASE_DISTRIBUTION", "name")
            .with("RELEASE_NODE", &format!("roost@{ip}"))
            .with("RELEASE_TMP", "/tmp")
            .with("ERL_EPMD_PORT", &epmd)
            .with("PHOENIX_REVISION", "shop-1")
            .with("LANG", "C.UTF-8")
            .with("HOME", "/nonexistent")
            .with("PATH", "/usr/bin:/bin")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// A command of the release, such as `bin/migrate`.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = match &self.root {
            None => Command::new(self.app.join(program)),
            Some(root) => {
                let mut chroot = Command::new("/usr/sbin/chroot");
                chroot.arg("--userspec=65534:65534").arg(root).arg(Path::new("/app").join(program));
                chroot
            }
        };
        command.args(arguments).env_clear().envs(self.env.clone()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// Starts `bin/server` and waits until it answers.
    pub fn serve(&self, log: &Path) -> Node {
        let node = self.start(log);
        wait_for("the server", || get(self.address, "/health").ok());
        node
    }

    /// Starts `bin/server`.
    pub fn start(&self, log: &Path) -> Node {
        let out = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.command("bin/server", &[]);
        command.stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        Node { pod: self.clone(), child: command.spawn().unwrap() }
    }
}

/// A running node; its process is killed if a test fails before it ended.
pub struct Node {
    pub pod: Pod,
    pub child: Child,
}

impl Node {
    pub fn get(&self, path: &str) -> Answer {
        get(self.pod.address, path).unwrap()
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path).body).unwrap()
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the exit", || self.child.try_wait().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The release started an epmd of its own, on a port of its own.
        let epmd = self.pod.env.iter().find(|(name, _)| name == "ERL_EPMD_PORT");
        if let Some((_, port)) = epmd {
            let _ = Command::new("epmd").args(["-port", port, "-kill"]).output();
        }
    }
}

pub fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}
