//! nginx, with the configuration that milestone 5 ships.

use std::net::SocketAddr;
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::program::{Scratch, workspace};
use crate::redis::lasting_port;

/// Where the configuration is.
const SHIPPED: &str = "step05-production/deploy/nginx.conf";

/// How long nginx may take to listen, and to end.
const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A running nginx. Dropping it ends it with all its workers.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    port: u16,
    _data: Scratch,
}

impl Nginx {
    /// Starts one in front of servers.
    ///
    /// # Errors
    /// nginx is missing or does not start, or the shipped configuration can't be fitted to this machine.
    pub async fn start(servers: &[String]) -> Result<Self> {
        let data = Scratch::new();
        std::fs::create_dir_all(data.path())?;
        let port = lasting_port()?;
        let shipped = std::fs::read_to_string(workspace().join(SHIPPED)).context(SHIPPED)?;
        let config = data.path().join("nginx.conf");
        std::fs::write(&config, fitted(&shipped, servers, port)?)?;
        let pid = format!("daemon off; pid {};", data.path().join("pid").display());
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(data.path()).arg("-c").arg(&config).args(["-g", &pid]);
        let said = std::fs::File::create(data.path().join("said"))?;
        nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = nginx.spawn().context("needs nginx: apt-get install nginx")?;
        let mut nginx = Self { child, port, _data: data };
        nginx.listens().await?;
        Ok(nginx)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Lets it read its configuration again: new workers take in who comes.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn reload(&self) -> Result<()> {
        let pid = self.child.id().context("nginx has ended")?.to_string();
        let status = Command::new("kill").args(["-HUP", &pid]).status().await?;
        ensure!(status.success(), "kill -HUP {pid}: {status}");
        Ok(())
    }

    async fn listens(&mut self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address()).await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > START {
                let said = std::fs::read_to_string(self._data.path().join("said"));
                bail!("nginx does not listen: {}", said.unwrap_or_default());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Nginx {
    /// Killed, it would leave its workers behind.
    fn drop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        let _gone = Blocking::new("kill").args(["-TERM", &pid.to_string()]).status();
        let began = std::time::Instant::now();
        while began.elapsed() < START && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
    }
}

/// The shipped configuration for these servers and this port. All clients of a test come from one
/// address, so what one address may do is more here.
fn fitted(shipped: &str, servers: &[String], port: u16) -> Result<String> {
    let mut lines = Vec::new();
    let mut named = 0;
    for line in shipped.lines() {
        let text = line.trim();
        if text.starts_with("server ") && text.contains(":3005") {
            named += 1;
            if let [_, options @ ..] = text.split(":3005").collect::<Vec<_>>().as_slice()
                && named == 1
            {
                let options = options.concat();
                lines.extend(servers.iter().map(|server| format!("server {server}{options}")));
            }
        } else if text.starts_with("access_log ") {
            lines.push("access_log off;".to_owned());
        } else {
            lines.push(line.to_owned());
        }
    }
    let mut config = lines.join("\n");
    let changes = [
        ("listen 80;", format!("listen 127.0.0.1:{port};")),
        ("limit_conn connections 200;", "limit_conn connections 20000;".to_owned()),
        ("rate=100r/s", "rate=10000r/s".to_owned()),
        ("burst=500", "burst=20000".to_owned()),
    ];
    for (old, new) in changes {
        ensure!(config.contains(old), "{SHIPPED} has no `{old}` any more");
        config = config.replace(old, &new);
    }
    ensure!(named > 0, "{SHIPPED} names no `server …:3005` any more");
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_fitted_to_servers_and_port() {
        let shipped = std::fs::read_to_string(workspace().join(SHIPPED)).unwrap();
        let servers = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let config = fitted(&shipped, &servers, 3).unwrap();
        assert_eq!(config.matches("server 127.0.0.1:").count(), 2, "{config}");
        assert!(config.contains("listen 127.0.0.1:3;") && !config.contains(":3005"));
    }
}
