//! A proxy that runs the configuration of `step05-production/deploy/` in front of two nodes.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::load::process::wait_until;
use tests::program::{Scratch, find, workspace};
use tests::raw;

/// How long a proxy may take to start, to reload, or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// The proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `nginx.conf`.
    Nginx,
    /// `Caddyfile`.
    Caddy,
    /// `haproxy.cfg`.
    Haproxy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Caddy, Self::Haproxy];

    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
        }
    }

    /// The file of its configuration.
    pub fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Caddy => "Caddyfile",
            Self::Haproxy => "haproxy.cfg",
        }
    }
}

/// Other text for some of the configuration.
pub type Change = (&'static str, &'static str);

/// The addresses of one trial: a street of its own on this machine, so that every server can have the
/// ports that the configuration names.
#[derive(Debug, Clone, Copy)]
pub struct Street(u8, u8);

impl Street {
    /// One where nobody else is, as far as chance can tell.
    pub fn new() -> Self {
        let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
        // 127.0 to 127.29 are used by other tests.
        Self(30 + high % 220, low)
    }

    fn house(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, number)
    }

    /// Where a node lives: 0 or 1.
    pub fn node(self, number: u8) -> Ipv4Addr {
        self.house(1 + number)
    }

    /// Where the proxy lives.
    pub fn proxy(self) -> Ipv4Addr {
        self.house(10)
    }

    /// Where a client lives.
    pub fn client(self, number: u8) -> Ipv4Addr {
        self.house(100 + number)
    }
}

/// The port of a node, its admin port, the proxy's, and the one that Caddy is told what to do by.
pub const NODE: u16 = 3005;
pub const HEALTH: u16 = 9005;
const FRONT: u16 = 8080;
const CADDY_ADMIN: u16 = 2019;

/// Which nodes the two upstream lines of the configuration name.
#[derive(Debug, Clone, Copy)]
pub struct Upstream(pub [Ipv4Addr; 2]);

/// A proxy that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Front {
    kind: Kind,
    street: Street,
    folder: Scratch,
    env: Vec<(&'static str, String)>,
    child: Child,
}

impl Front {
    /// Starts a proxy with its configuration as shipped, but for these changes, and waits until it
    /// answers.
    ///
    /// # Errors
    /// A change is about something that is not there, or the proxy does not start.
    pub async fn start(
        kind: Kind,
        street: Street,
        upstream: Upstream,
        changes: &[Change],
    ) -> Result<Self> {
        let folder = Scratch::new();
        fs::create_dir_all(folder.path())?;
        let config = configuration(kind, street, upstream, changes)?;
        fs::write(folder.path().join(kind.file()), config)?;
        let env = environment(kind, street, upstream, folder.path());
        let child = spawn(kind, folder.path(), &env)?;
        let mut front = Self { kind, street, folder, env, child };
        front.wait().await?;
        Ok(front)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{FRONT}", self.street.proxy())
    }

    /// Waits until it passes requests on.
    async fn wait(&mut self) -> Result<()> {
        let address = self.address();
        let is_up = wait_until(PATIENCE, async || {
            let page = raw::request(&address, "GET", "/", &[]);
            tokio::time::timeout(PATIENCE, page)
                .await
                .is_ok_and(|page| page.is_ok_and(|page| page.status == 200))
        });
        let is_up = is_up.await;
        ensure!(is_up, "{} has no page for us:\n{}", self.kind.program(), self.said());
        Ok(())
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        let read = |file| fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        format!("{}{}", read("stdout"), read("stderr"))
    }

    /// Has it read its configuration again, as after an edit, and waits until it has.
    ///
    /// # Errors
    /// It does not.
    pub async fn reload(&self) -> Result<()> {
        if self.kind == Kind::Caddy {
            return self.reload_caddy();
        }
        let workers = self.workers();
        self.signal(if self.kind == Kind::Nginx { "-HUP" } else { "-USR2" })?;
        let is_done = async || self.workers().iter().any(|worker| !workers.contains(worker));
        ensure!(wait_until(PATIENCE, is_done).await, "no new worker:\n{}", self.said());
        Ok(())
    }

    fn reload_caddy(&self) -> Result<()> {
        // It does nothing where nothing has changed, unless it is forced.
        let mut caddy = Command::new("caddy");
        caddy.args(["reload", "--force", "--adapter", "caddyfile", "--config"]);
        caddy.arg(self.folder.path().join(self.kind.file()));
        caddy.arg("--address").arg(format!("{}:{CADDY_ADMIN}", self.street.proxy()));
        caddy.envs(self.env.iter().map(|(name, value)| (name, value)));
        succeeds(&mut caddy)
    }

    /// The processes that it has started.
    fn workers(&self) -> Vec<String> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    fn signal(&self, signal: &str) -> Result<()> {
        succeeds(Command::new("kill").args([signal, &self.child.id().to_string()]))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Its workers would outlive a killed master.
        let _ = self.signal("-TERM");
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with the configurations.
pub fn deploy() -> PathBuf {
    workspace().join("step05-production/deploy")
}

/// A configuration as shipped, but for these changes. Each must be about a text that is there once.
///
/// # Errors
/// It is not.
pub fn changed(file: &str, changes: &[(&str, &str)]) -> Result<String> {
    let path = deploy().join(file);
    let mut config = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (from, to) in changes {
        let count = config.matches(from).count();
        ensure!(count == 1, "{file} has {from:?} {count} times, and should have it once");
        config = config.replacen(from, to, 1);
    }
    Ok(config)
}

/// nginx makes these folders at its start, and those of its package are root's.
const TEMPORARY: &str = "http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
";

/// nginx has no variables for addresses, so there the text is another one.
fn configuration(
    kind: Kind,
    street: Street,
    Upstream([a, b]): Upstream,
    changes: &[Change],
) -> Result<String> {
    if kind != Kind::Nginx {
        return changed(kind.file(), changes);
    }
    let listen = format!("listen {}:{FRONT};", street.proxy());
    let (a, b) = (format!("server {a}:{NODE}"), format!("server {b}:{NODE}"));
    let own = [
        ("listen 80;", listen.as_str()),
        ("server node-a:3005", a.as_str()),
        ("server node-b:3005", b.as_str()),
        ("http {\n", TEMPORARY),
    ];
    // The trial's own changes come first: they are about the text as shipped.
    changed(kind.file(), &[changes, &own].concat())
}

fn environment(
    kind: Kind,
    street: Street,
    Upstream([a, b]): Upstream,
    folder: &Path,
) -> Vec<(&'static str, String)> {
    let front = street.proxy();
    let nodes = [("CHAT_NODE_A", format!("{a}:{NODE}")), ("CHAT_NODE_B", format!("{b}:{NODE}"))];
    let own = match kind {
        Kind::Nginx => return Vec::new(),
        Kind::Haproxy => vec![
            ("CHAT_LISTEN", format!("{front}:{FRONT}")),
            // A developer's system may not allow more files.
            ("CHAT_MAXCONN", "400".to_owned()),
        ],
        Kind::Caddy => vec![
            ("CHAT_SITE", format!("http://:{FRONT}")),
            ("CHAT_BIND", front.to_string()),
            ("CHAT_CADDY_ADMIN", format!("{front}:{CADDY_ADMIN}")),
            ("XDG_DATA_HOME", folder.display().to_string()),
            ("XDG_CONFIG_HOME", folder.display().to_string()),
        ],
    };
    own.into_iter().chain(nodes).chain([("CHAT_HEALTH_PORT", HEALTH.to_string())]).collect()
}

fn spawn(kind: Kind, folder: &Path, env: &[(&'static str, String)]) -> Result<Child> {
    let config = folder.join(kind.file());
    let program = find(kind.program()).with_context(|| format!("no {}", kind.program()))?;
    let mut command = Command::new(program);
    match kind {
        Kind::Nginx => {
            let user = if is_root() { "user root; " } else { "" };
            let here = format!("{user}daemon off; pid {};", folder.join("pid").display());
            command.arg("-p").arg(folder).arg("-c").arg(config).args(["-g", &here]);
        }
        Kind::Caddy => {
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        }
        Kind::Haproxy => {
            command.args(["-W", "-f"]).arg(config);
        }
    }
    command.envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    command.stdout(File::create(folder.join("stdout"))?);
    command.stderr(File::create(folder.join("stderr"))?);
    command.spawn().with_context(|| format!("can't start {}", kind.program()))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Runs a program that must end with exit code 0.
///
/// # Errors
/// What it said.
pub fn succeeds(command: &mut Command) -> Result<()> {
    let what = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| what.clone())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&said))
}
