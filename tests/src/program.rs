//! Starts a server program, waits until it accepts, and looks at how it ends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

/// How long a program may take from its start to its `listening on …` line.
const START: Duration = Duration::from_secs(20);

/// How many of a program's last lines on stderr are kept: all that a scenario with a detailed log makes.
const KEPT_LINES: usize = 5000;

/// A server program that can be started, as often as one likes.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    how: How,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// Where the program comes from.
#[derive(Debug, Clone)]
enum How {
    /// A package of this workspace, built before its first start.
    Package(String),
    /// Anything that can be run.
    Command { program: PathBuf, arguments: Vec<String> },
}

impl Program {
    /// The program of a package of this workspace, such as `step01-echo`.
    pub fn cargo_package(package: &str) -> Self {
        Self::new(package, How::Package(package.to_owned()))
    }

    /// A package's program, begun by a line of shell that ends with `exec "$0"`.
    ///
    /// # Errors
    /// It cannot be built.
    pub async fn by_shell(&self, line: &str) -> Result<Self> {
        let program = self.path().await?.display().to_string();
        let shell = Self::command("sh", ["-c".to_owned(), line.to_owned(), program]);
        Ok(Self { env: self.env.clone(), arguments: self.arguments.clone(), ..shell })
    }

    /// Any program, with its arguments.
    pub fn command<A: Into<String>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let program = program.into();
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let name = program.file_name().unwrap_or(program.as_os_str());
        let name = format!("{} {}", name.to_string_lossy(), arguments.join(" "));
        Self::new(name.trim(), How::Command { program, arguments })
    }

    /// A Node program, by its path in this workspace, such as `tests/peers/step01.js`.
    pub fn node(script: &str) -> Self {
        let path = workspace().join(script).to_string_lossy().into_owned();
        Self { name: format!("node {script}"), ..Self::command("node", [path]) }
    }

    fn new(name: &str, how: How) -> Self {
        Self { name: name.to_owned(), how, env: Vec::new(), arguments: Vec::new() }
    }

    /// Sets an environment variable. Without that, a program listens on 127.0.0.1 and any free
    /// ports, and keeps its data in a directory that goes with it.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it with one more argument, such as `--check`.
    #[must_use]
    pub fn arg(mut self, argument: impl ToString) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// From milestone 5 on a server has limits. Scenarios about something else play without them.
    #[must_use]
    pub fn unlimited(self) -> Self {
        self.env("RATE_LIMIT", "off")
            .env("MAX_CONNECTIONS_PER_ADDRESS", "10000")
            .env("MAX_CONNECTIONS_PER_USER", "1000")
    }

    /// Whether it was told to keep everything in Redis.
    pub fn is_in_redis(&self) -> bool {
        self.env.iter().any(|(name, _)| name == "REDIS_URL")
    }

    /// What this program is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds the program if it is a package; otherwise there is nothing to do.
    ///
    /// # Errors
    /// What the compiler said.
    pub async fn build(&self) -> Result<()> {
        self.path().await.map(drop)
    }

    /// Starts the program and waits until it accepts connections.
    ///
    /// # Errors
    /// It cannot be built or started, ends at once, or does not say `listening on …` in time.
    pub async fn start(&self) -> Result<Running> {
        let data = Scratch::new();
        let mut child = self.spawn(&data).await?;
        let (said_urls, urls) = oneshot::channel();
        let stdout = child.stdout.take().context("the program has no stdout")?;
        tokio::spawn(find_urls(stdout, said_urls));
        let stderr = Lines::read(child.stderr.take().context("the program has no stderr")?);
        let name = self.name.clone();
        let mut running = Running { name, urls: Urls::default(), child, stderr, _data: data };

        match timeout(START, urls).await {
            Ok(Ok(urls)) => running.urls = urls,
            Ok(Err(_stdout_ended)) => {
                let status = running.wait_exit(START).await?;
                bail!(
                    "{} ended ({status}) before it said \"listening on …\"\n{}",
                    self.name,
                    running.stderr()
                );
            }
            Err(_elapsed) => bail!(
                "{} did not print \"listening on ws://…\" or \"listening on http://…\" on stdout within {START:?}\n{}",
                self.name,
                running.stderr()
            ),
        }
        Ok(running)
    }

    /// Runs the program to its end, as one does that should refuse to start.
    ///
    /// # Errors
    /// It cannot be built or started, or is still running after `limit` (and is then killed).
    pub async fn run_to_end(&self, limit: Duration) -> Result<Ended> {
        let data = Scratch::new();
        let mut child = self.spawn(&data).await?;
        let stdout = Lines::read(child.stdout.take().context("the program has no stdout")?);
        let stderr = Lines::read(child.stderr.take().context("the program has no stderr")?);
        let status = timeout(limit, child.wait())
            .await
            .map_err(|_| anyhow!("{} was still running after {limit:?}", self.name))??;
        stdout.ended(limit).await;
        stderr.ended(limit).await;
        Ok(Ended { code: status.code(), stdout: stdout.text(), stderr: stderr.text() })
    }

    async fn spawn(&self, data: &Scratch) -> Result<Child> {
        let path = self.path().await?;
        let arguments: &[String] = match &self.how {
            How::Package(_) => &[],
            How::Command { arguments, .. } => arguments,
        };
        Command::new(&path)
            .args(arguments)
            .args(&self.arguments)
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("ADMIN_PORT", "0")
            .env("RUST_LOG", "info")
            .env("DATA_DIR", data.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", path.display()))
    }

    /// The file to run, built if it has to be.
    ///
    /// # Errors
    /// What the compiler said.
    pub async fn path(&self) -> Result<PathBuf> {
        match &self.how {
            How::Package(package) => built(package).await,
            How::Command { program, .. } => Ok(program.clone()),
        }
    }
}

/// A directory for a server's data. Dropping this removes it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A name of its own among the temporary files. Nothing is made yet: that is up to the server.
    #[expect(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        Self(std::env::temp_dir().join(format!("chat-tests-{}", Uuid::new_v4().simple())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _nothing_was_made = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, if no signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// A signal to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM, as from Docker, systemd or Kubernetes.
    Term,
    /// SIGINT, as from Ctrl-C.
    Int,
    /// SIGSTOP: the program stands still, and its connections stay open.
    Freeze,
    /// SIGCONT: a frozen program goes on.
    Thaw,
}

/// Where a program says that it listens.
#[derive(Debug, Clone, Default)]
struct Urls {
    /// For everyone.
    public: String,
    /// For who operates it, from milestone 5 on.
    admin: Option<String>,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    urls: Urls,
    child: Child,
    stderr: Lines,
    /// Its data, unless it was told to keep them elsewhere.
    _data: Scratch,
}

impl Running {
    /// What the program printed: `ws://127.0.0.1:PORT` or `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.urls.public
    }

    /// The WebSocket URL of a path, such as `/ws`.
    pub fn ws_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// The host and the port, as in `127.0.0.1:3001`.
    pub fn address(&self) -> &str {
        without_scheme(&self.urls.public)
    }

    /// The host and the port of the admin address, if the program has one.
    pub fn admin_address(&self) -> Option<&str> {
        self.urls.admin.as_deref().map(without_scheme)
    }

    /// The process id, while the program runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How much memory the process occupies, in KiB. Known on Linux only.
    pub fn rss_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    /// The last lines the program wrote to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The lines of its stderr that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        self.stderr.panics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// It has ended already, or this system has no such signals.
    pub async fn signal(&self, stop: Stop) -> Result<()> {
        if !cfg!(unix) {
            bail!("only Unix has such signals");
        }
        let pid = self.pid().with_context(|| format!("{} has ended already", self.name))?;
        let signal = match stop {
            Stop::Term => "-TERM",
            Stop::Int => "-INT",
            Stop::Freeze => "-STOP",
            Stop::Thaw => "-CONT",
        };
        let status = Command::new("kill").args([signal, &pid.to_string()]).status().await?;
        if !status.success() {
            bail!("kill {signal} {pid}: {status}");
        }
        Ok(())
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Errors
    /// It is still running after `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_elapsed) => bail!("{} was still running after {limit:?}", self.name),
        }
    }

    /// Whether the program still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the program and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, address)| address)
}

/// Reports the URLs of the `admin on …` and `listening on …` lines, then reads on so that the program never
/// waits for us.
async fn find_urls(stdout: impl AsyncRead + Unpin, found: oneshot::Sender<Urls>) {
    let mut lines = BufReader::new(stdout).lines();
    let mut found = Some(found);
    let mut admin = None;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(url) = url_after("admin on ", &line) {
            admin = Some(url);
        } else if let Some(public) = url_after("listening on ", &line)
            && let Some(found) = found.take()
        {
            let _nobody_waits = found.send(Urls { public, admin: admin.take() });
        }
    }
}

fn url_after(start: &str, line: &str) -> Option<String> {
    let url = line.strip_prefix(start)?.trim();
    let is_url = url.starts_with("ws://") || url.starts_with("http://");
    is_url.then(|| url.trim_end_matches('/').to_owned())
}

/// The last lines of a stream, read in the background.
#[derive(Debug, Clone)]
struct Lines {
    kept: Arc<Mutex<VecDeque<String>>>,
    /// Those that tell of a panic, however long ago.
    panics: Arc<Mutex<Vec<String>>>,
    ended: Arc<tokio::sync::Notify>,
}

impl Lines {
    fn read(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Self { kept: Arc::default(), panics: Arc::default(), ended: Arc::default() };
        let reader = lines.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                reader.keep(line);
            }
            reader.ended.notify_one();
        });
        lines
    }

    fn keep(&self, line: String) {
        if line.contains("panicked at") {
            let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
            panics.push(line.clone());
            panics.truncate(KEPT_LINES);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// Waits until the stream has been read to its end.
    async fn ended(&self, limit: Duration) {
        let _ = timeout(limit, self.ended.notified()).await;
    }

    fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where an installed program is: in a folder of `PATH`, or in one that Debian keeps out of the `PATH` of
/// those who are not root, as it does with servers.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A package's program, built at most once in the life of this process.
async fn built(package: &str) -> Result<PathBuf> {
    type Once = Arc<OnceCell<PathBuf>>;
    static BUILT: LazyLock<Mutex<HashMap<String, Once>>> = LazyLock::new(Mutex::default);
    let once = {
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(built.entry(package.to_owned()).or_default())
    };
    once.get_or_try_init(|| build(package)).await.cloned()
}

/// Builds a package as this program was built, and finds what came of it.
async fn build(package: &str) -> Result<PathBuf> {
    let mut cargo = cargo_build(workspace());
    cargo.args(["--package", package]);
    if let Some(target) = own_target_dir() {
        cargo.arg("--target-dir").arg(target);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    executable(cargo).await.with_context(|| format!("can't build {package}"))
}

/// `cargo build` in a folder, with messages for programs on stdout and for people on stderr.
pub fn cargo_build(folder: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bins", "--message-format=json-render-diagnostics"]);
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a [`cargo_build`] and gives the program it made.
///
/// # Errors
/// What the compiler said, or that there is no program.
pub async fn executable(mut cargo_build: Command) -> Result<PathBuf> {
    let output = cargo_build.output().await.context("can't run cargo")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .context("it has no program: is there a src/main.rs?")
}

/// The target folder in which the program that runs this was built.
pub fn own_target_dir() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let profile =
        me.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"))?;
    profile.parent().map(Path::to_owned)
}
