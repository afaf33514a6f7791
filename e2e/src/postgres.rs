//! A real `PostgreSQL` for tests: Debian's server binaries on a directory of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long a server may take until it accepts connections, or until it is gone.
const DEADLINE: Duration = Duration::from_mins(1);
/// The role that the release logs in with, its databases' owner.
const ROLE: &str = "roost";
/// Not a secret: the server lives as long as a test and holds nothing.
const PASSWORD: &str = "roost-e2e";

/// A running server. Dropped, it is stopped at once, by its own process id, unless it is to be kept.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    account: Option<Account>,
    /// An environment variable of the server of one that is kept: whoever looks for it ends the server.
    kept_for: Option<(String, String)>,
    server: Mutex<Option<Child>>,
}

/// The unprivileged account that the server runs as when this process is root: it refuses root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Makes a new cluster in `dir` and starts it on a free port of `listen`.
    ///
    /// A server that a crashed run left in `dir` is stopped, and its data is removed. Errors when
    /// Debian's `postgresql` is missing, `dir` cannot be reached by the account `postgres`, or the
    /// server does not come up within a minute (its log is quoted).
    pub async fn start(listen: IpAddr, dir: &Path) -> Result<Self> {
        Self::start_for(listen, dir, None).await
    }

    /// As [`start`](Self::start), but the server goes on after this process: whoever ends the processes that carry
    /// the environment variable `mark`, as a cluster that is taken down does, ends it too.
    pub async fn start_kept(listen: IpAddr, dir: &Path, mark: (String, String)) -> Result<Self> {
        Self::start_for(listen, dir, Some(mark)).await
    }

    async fn start_for(listen: IpAddr, dir: &Path, kept_for: Option<(String, String)>) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let postgres = Self {
            bin: binaries()?,
            data: dir.join("data"),
            log: dir.join("postgres.log"),
            address: free_address(listen)?,
            account: account()?,
            kept_for,
            server: Mutex::new(None),
        };
        if let Some(Account { uid, gid }) = postgres.account {
            chown(dir, Some(uid), Some(gid))?;
        }
        if postgres.data.exists() {
            // Fails when nothing runs there, which is as good.
            let _ = run(postgres.control(&["stop", "-m", "immediate"])).await;
            fs::remove_dir_all(&postgres.data)?;
        }
        postgres.initialise(dir).await?;
        postgres.start_again().await?;
        let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        postgres.query("postgres", &role).await?;
        Ok(postgres)
    }

    /// The URL of a database as a release takes it in `DATABASE_URL`; its host is the address
    /// that the server was told to listen on.
    pub fn url(&self, db: &str) -> String {
        format!("ecto://{ROLE}:{PASSWORD}@{}/{db}", self.address)
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file whose first line is the server's process id while it runs.
    pub fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// Makes a database that the release's role owns. Errors with the server's words.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        self.query("postgres", &format!("CREATE DATABASE {name} OWNER {ROLE}")).await.map(drop)
    }

    /// Runs one statement as superuser; rows are lines, columns are divided by `|`.
    pub async fn query(&self, db: &str, sql: &str) -> Result<String> {
        let mut psql = self.command("psql");
        psql.env("PGPASSWORD", PASSWORD)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", db, "-c", sql])
            .args(["-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string()]);
        run(psql).await
    }

    /// Stops the server for a test of what happens without it; its clients are disconnected.
    pub async fn stop(&self) -> Result<()> {
        run(self.control(&["stop", "-w", "-m", "fast"])).await?;
        self.reap();
        Ok(())
    }

    /// Starts a stopped server on the same address and data.
    pub async fn start_again(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut server = self.command("postgres");
        if let Some((name, value)) = &self.kept_for {
            // A group of its own: an interrupt at the terminal is not meant for it.
            server.env(name, value).process_group(0);
        }
        server.arg("-D").arg(&self.data).stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let child = server.spawn().with_context(|| format!("cannot run {server:?}"))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        self.wait_ready().await
    }

    /// Passwords are checked by MD5: Debian's Erlang client has SCRAM only together with an XMPP library.
    async fn initialise(&self, dir: &Path) -> Result<()> {
        let password = dir.join("password");
        fs::write(&password, PASSWORD)?;
        let mut initdb = self.command("initdb");
        initdb
            .args(["-U", "postgres", "-A", "md5", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pwfile")
            .arg(&password)
            .arg("-D")
            .arg(&self.data);
        run(initdb).await?;

        let settings = format!(
            "listen_addresses = '{}'\nport = {}\nmax_connections = 200\nunix_socket_directories = ''\n\
             password_encryption = md5\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\n",
            self.address.ip(),
            self.address.port(),
        );
        append(&self.data.join("postgresql.conf"), &settings)?;
        let anywhere = "host all all 0.0.0.0/0 md5\nhost all all ::/0 md5\n";
        append(&self.data.join("pg_hba.conf"), anywhere)
    }

    async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = self.query("postgres", "SELECT 1").await {
            let ended = self
                .server
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_mut()
                .map_or(Ok(None), Child::try_wait)?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(error.context(format!("PostgreSQL did not come up; its log:\n{log}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut control = self.command("pg_ctl");
        control.args(arguments).arg("-D").arg(&self.data);
        control
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // The account must be able to enter the working directory.
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn reap(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = server {
            // Killing is for a server that outlived its stop; otherwise it is gone already.
            if !matches!(child.try_wait(), Ok(Some(_))) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.kept_for.is_some() {
            return;
        }
        if self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let _ = self.control(&["stop", "-w", "-m", "immediate"]).output();
            self.reap();
        }
    }
}

async fn run(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = tokio::process::Command::from(command)
        .output()
        .await
        .with_context(|| format!("cannot run {shown}"))?;
    ensure!(
        output.status.success(),
        "{shown} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options().append(true).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Free when asked; nothing keeps another process from taking it before the server does.
fn free_address(listen: IpAddr) -> Result<SocketAddr> {
    let socket = TcpListener::bind((listen, 0)).with_context(|| format!("cannot listen on {listen}"))?;
    Ok(socket.local_addr()?)
}

/// Debian keeps the server's programs apart by version and off the path; the newest is taken.
fn binaries() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .max()
        .context("no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
}

/// The account to run as; none unless this process is root.
fn account() -> Result<Option<Account>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let postgres = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = postgres.context("there is no account `postgres`")?.split(':').skip(2);
    let mut id = || fields.next()?.parse().ok();
    let (uid, gid) = id().zip(id()).context("the account `postgres` has no numeric ids")?;
    Ok(Some(Account { uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[ignore = "needs Debian's PostgreSQL"]
    async fn comes_back_after_a_stop_with_its_data() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("e2e-postgres-{}", std::process::id()));
        let postgres = Postgres::start(IpAddr::from([127, 0, 0, 1]), &dir).await?;
        postgres.create_database("shop").await?;
        postgres.stop().await?;
        assert!(postgres.query("shop", "SELECT 1").await.is_err());
        postgres.start_again().await?;
        assert_eq!(postgres.query("shop", "SELECT 1").await?, "1");

        let pid_file = postgres.pid_file();
        assert!(pid_file.exists());
        drop(postgres);
        assert!(!pid_file.exists(), "the server outlived its owner");
        fs::remove_dir_all(dir)?;
        Ok(())
    }
}
