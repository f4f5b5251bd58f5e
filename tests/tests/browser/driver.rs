//! Real browsers: Chromium, driven through chromedriver by the WebDriver protocol.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long anything on a page may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The first of these programs that is on the `PATH`, or the one that `variable` names.
fn find(variable: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Some(PathBuf::from(named));
    }
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Where the browser and its driver are.
#[derive(Debug, Clone)]
pub struct Programs {
    chromium: PathBuf,
    chromedriver: PathBuf,
}

impl Programs {
    /// Finds them, or says what is missing and how to get it.
    pub fn find() -> Result<Self, String> {
        let chromium = find("CHROME", &["chromium", "chromium-browser", "google-chrome"]);
        let chromedriver = find("CHROMEDRIVER", &["chromedriver"]);
        match (chromium, chromedriver) {
            (Some(chromium), Some(chromedriver)) => Ok(Self { chromium, chromedriver }),
            (None, _) => Err("needs Chromium: apt-get install chromium, or set CHROME".to_owned()),
            (_, None) => {
                Err("needs chromedriver: apt-get install chromium-driver, or set CHROMEDRIVER"
                    .to_owned())
            }
        }
    }
}

/// A running chromedriver. It ends, and its browsers with it, when this is dropped.
pub struct Driver {
    process: Child,
    url: String,
    chromium: PathBuf,
}

impl Driver {
    /// Starts it on a free port.
    pub async fn start(programs: &Programs) -> Result<Self> {
        let mut process = Command::new(&programs.chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("could not start chromedriver")?;
        let stdout = process.stdout.take().context("chromedriver has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let port = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Ok(port.trim_end_matches('.').to_owned());
                }
            }
            bail!("chromedriver ended before it listened")
        })
        .await??;
        // What it says later must go somewhere, or it would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            chromium: programs.chromium.clone(),
        })
    }

    /// Opens a page in a browser of its own, with an empty profile.
    pub async fn open(&self, url: &str, screen: Screen) -> Result<Page> {
        self.open_after("", url, screen).await
    }

    /// The same, with a script that runs before those of the page.
    pub async fn open_after(&self, script: &str, url: &str, screen: Screen) -> Result<Page> {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ];
        let wanted = json!({
            "goog:chromeOptions": { "binary": self.chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(wanted) = wanted else { bail!("capabilities are an object") };
        let wanted: Capabilities = wanted.into_iter().collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client =
            builder.capabilities(wanted).connect(&self.url).await.context("no browser started")?;
        let page = Page { client };
        page.show_on(screen).await?;
        let before = json!({ "source": script });
        page.devtools("Page.addScriptToEvaluateOnNewDocument", before).await?;
        page.client.goto(url).await?;
        Ok(page)
    }

    /// Ends chromedriver.
    pub async fn stop(mut self) -> Result<()> {
        self.process.kill().await.context("could not end chromedriver")
    }
}

/// What a page is looked at on.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    width: u32,
    height: u32,
    dark: bool,
}

impl Screen {
    /// A laptop's window.
    pub const WIDE: Self = Self { width: 1280, height: 720, dark: false };
    /// A phone held upright.
    pub const PHONE: Self = Self { width: 390, height: 844, dark: false };

    /// The same, set to dark.
    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// A page in a browser.
pub struct Page {
    client: Client,
}

impl Page {
    /// Changes what the page is looked at on.
    pub async fn show_on(&self, screen: Screen) -> Result<()> {
        let Screen { width, height, dark } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Asks the browser itself for something: <https://chromedevtools.github.io/devtools-protocol/>.
    async fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let command = Devtools { command: command.to_owned(), parameters };
        self.client.issue_cmd(command).await.context("the browser refused a command")
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.context("can't reload the page")
    }

    /// Types into the field that a selector finds.
    pub async fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        self.find(selector)
            .await?
            .send_keys(text)
            .await
            .with_context(|| format!("can't type into {selector}"))
    }

    /// Clicks on what a selector finds.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.find(selector)
            .await?
            .click()
            .await
            .with_context(|| format!("can't click on {selector}"))
    }

    async fn find(&self, selector: &str) -> Result<fantoccini::elements::Element> {
        let wait = self.client.wait().at_most(PATIENCE);
        wait.for_element(Locator::Css(selector))
            .await
            .with_context(|| format!("there is no {selector}"))
    }

    /// Waits until a condition, an expression in JavaScript, is true on the page.
    pub async fn wait_for(&self, what: &str, condition: &str) -> Result<()> {
        // The browser looks by itself after each change, so nobody polls.
        let script = "
            const done = arguments[arguments.length - 1];
            const holds = new Function('return (' + arguments[0] + ')');
            const observer = new MutationObserver(look);
            function look() { if (holds()) { observer.disconnect(); done(true); } }
            observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
            look();";
        let seen =
            timeout(PATIENCE, self.client.execute_async(script, vec![json!(condition)])).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error).with_context(|| format!("waiting for: {what}")),
            Err(_) => bail!(
                "{what}: not after {PATIENCE:?}; the page shows: {}",
                self.text("body").await?
            ),
        }
    }

    /// Waits until the text of what a selector finds holds a part.
    pub async fn wait_for_text(&self, selector: &str, part: &str) -> Result<()> {
        let condition = format!(
            "(document.querySelector({}) || {{}}).textContent?.includes({})",
            json!(selector),
            json!(part)
        );
        self.wait_for(&format!("{selector} should show {part:?}"), &condition).await
    }

    /// What an expression in JavaScript gives on the page.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        Ok(self.client.execute(&format!("return ({expression})"), vec![]).await?)
    }

    /// The text of what a selector finds.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let text = self
            .evaluate(&format!("document.querySelector({})?.textContent ?? ''", json!(selector)))
            .await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// The rules of axe-core that the page breaks, each with the elements that break it.
    pub async fn broken_rules(&self, axe: &str) -> Result<Vec<String>> {
        // Through the debugger, because the page's own policy would not run a foreign script.
        let run = format!(
            "{axe};axe.run().then((result) => result.violations.map((rule) =>
                rule.id + ': ' + rule.nodes.map((node) => node.target.join(' ')).join(', ')))"
        );
        let asked = json!({ "expression": run, "awaitPromise": true, "returnByValue": true });
        let answer = self.devtools("Runtime.evaluate", asked).await?;
        let broken = answer.pointer("/result/value").and_then(Value::as_array);
        let broken = broken.with_context(|| format!("axe said: {answer}"))?;
        Ok(broken.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Takes a picture of what is to be seen.
    pub async fn picture(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, self.client.screenshot().await?)?;
        Ok(())
    }

    /// What the page has complained about in the browser's console.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.client.issue_cmd(Log).await?;
        let entries = log.as_array().cloned().unwrap_or_default();
        let complaints =
            entries.iter().filter(|entry| entry.get("level") == Some(&json!("SEVERE")));
        Ok(complaints.filter_map(|entry| entry.get("message")).map(Value::to_string).collect())
    }

    /// Closes the browser.
    pub async fn close(self) -> Result<()> {
        self.client.close().await.context("the browser did not close")
    }
}

/// A command of the DevTools protocol, through chromedriver.
#[derive(Debug)]
struct Devtools {
    command: String,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (http::Method::POST, Some(body.to_string()))
    }
}

/// The browser's console, through chromedriver.
#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
