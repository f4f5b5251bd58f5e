//! The [protocol of Redis](https://redis.io/docs/latest/develop/reference/protocol-spec/): as much of
//! it as a test asks. The tests share no client with the servers they test.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest text that is read, in bytes.
const LONGEST: i64 = 64 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A text, or bytes that are taken for one.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing there.
    Nothing,
    /// Several answers.
    List(Vec<Reply>),
}

impl Reply {
    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }

    /// The text, if it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number that it is or says.
    ///
    /// # Errors
    /// It is none, or less than nothing.
    pub fn number(&self) -> Result<u64> {
        match self {
            Self::Number(number) => Ok(u64::try_from(*number)?),
            Self::Text(text) => Ok(text.parse()?),
            other => bail!("{other:?} where a number is due"),
        }
    }

    /// The texts in a list.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::List(all) => all.into_iter().filter_map(Self::text).collect(),
            _ => Vec::new(),
        }
    }
}

/// Connects, sends a command, and reads the answer.
///
/// # Errors
/// No connection, or an error came.
pub async fn ask(address: SocketAddr, command: &[&str]) -> Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_mut().write_all(&encode(command)).await?;
    read(&mut stream).await
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Sends commands, all of them at once, and reads as many answers.
    ///
    /// # Errors
    /// The connection is gone, or an error came.
    pub async fn ask_all(&mut self, commands: &[Vec<String>]) -> Result<Vec<Reply>> {
        let texts = |command: &Vec<String>| {
            encode(&command.iter().map(String::as_str).collect::<Vec<&str>>())
        };
        let bytes: Vec<u8> = commands.iter().flat_map(texts).collect();
        self.0.get_mut().write_all(&bytes).await?;
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(read(&mut self.0).await?);
        }
        Ok(replies)
    }

    /// Reads one more answer, or something that comes unasked.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn next(&mut self) -> Result<Reply> {
        read(&mut self.0).await
    }
}

/// A command as it travels: a list of texts.
fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        bytes.extend(format!("${}\r\n{part}\r\n", part.len()).into_bytes());
    }
    bytes
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'a>>;

/// Reads one answer, lists within lists included.
fn read<R: AsyncBufRead + Unpin + Send>(stream: &mut R) -> Reading<'_> {
    Box::pin(async move {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line).await? > 0, "Redis has closed the connection");
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).context("an empty line from Redis")?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => bail!("Redis says: {rest}"),
            ":" => Ok(Reply::Number(rest.parse()?)),
            "$" => bulk(stream, rest.parse()?).await,
            "*" => {
                let length: i64 = rest.parse()?;
                let mut all = Vec::new();
                for _ in 0..length {
                    all.push(read(stream).await?);
                }
                Ok(if length < 0 { Reply::Nothing } else { Reply::List(all) })
            }
            _ => bail!("Redis says: {line}"),
        }
    })
}

async fn bulk(stream: &mut (impl AsyncBufRead + Unpin), length: i64) -> Result<Reply> {
    let Ok(length) = usize::try_from(length) else { return Ok(Reply::Nothing) };
    ensure!(length as i64 <= LONGEST, "Redis sends {length} bytes");
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(bytes: &str) -> Result<Reply> {
        read(&mut bytes.as_bytes()).await
    }

    #[tokio::test]
    async fn answers_of_all_kinds_are_read() {
        let text = |text: &str| Reply::Text(text.to_owned());
        assert_eq!(reply("+OK\r\n").await.unwrap(), text("OK"));
        assert_eq!(reply(":42\r\n").await.unwrap().number().unwrap(), 42);
        assert_eq!(reply("$4\r\na\r\nb\r\n").await.unwrap(), text("a\r\nb"));
        assert_eq!(reply("$-1\r\n").await.unwrap(), Reply::Nothing);
        let nested = reply("*2\r\n*1\r\n$1\r\na\r\n*-1\r\n").await.unwrap();
        assert_eq!(nested, Reply::List(vec![Reply::List(vec![text("a")]), Reply::Nothing]));
        assert!(reply("-ERR no\r\n").await.unwrap_err().to_string().contains("ERR no"));
    }

    #[test]
    fn a_command_is_a_list_of_texts() {
        assert_eq!(encode(&["GET", "ä"]), b"*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xa4\r\n");
    }
}
