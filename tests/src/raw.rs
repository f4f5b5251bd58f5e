//! A small WebSocket client that can send what no library would: unmasked frames, wrong opcodes,
//! half a handshake. The numbers are those of [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455#section-5.2).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::journal::shortened;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The opcode of a frame that goes on with the message before it.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text message.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xA;

/// No honest test needs longer frames from a server.
const MAX_FRAME: u64 = 64 * 1024 * 1024;

/// The longest head of an HTTP answer that is read.
const MAX_HEAD: usize = 64 * 1024;

/// The mask is there against caches in between, not for secrecy: a fixed one serves a test.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last one of its message.
    pub fin: bool,
    /// The three reserved bits, 0 where no extension was agreed on.
    pub rsv: u8,
    /// What kind of frame it is.
    pub opcode: u8,
    /// Whether the payload is masked, as that of every client must be.
    pub masked: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole frame as a client should send it.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, masked: true, payload: payload.into() }
    }

    /// A text message in one frame.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(TEXT, text.into())
    }

    /// A binary message in one frame.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(BINARY, payload)
    }

    /// A ping.
    pub fn ping(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(PING, payload)
    }

    /// A close frame.
    pub fn close(code: u16) -> Self {
        Self::new(CLOSE, code.to_be_bytes())
    }

    /// The same frame, with more of its message to follow.
    #[must_use]
    pub fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    /// The same frame without a mask, which only a server may send.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self { masked: false, ..self }
    }

    /// The same frame with reserved bits set.
    #[must_use]
    pub fn with_rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    /// The code of a close frame, if it has one.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>().copied().map(u16::from_be_bytes);
        code.filter(|_| self.opcode == CLOSE)
    }

    /// The bytes of the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header(self.payload.len() as u64);
        if self.masked {
            bytes.extend(masked(&self.payload));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// The header alone, for a payload of any length: a promise that need not be kept.
    pub fn header(&self, length: u64) -> Vec<u8> {
        let mut bytes =
            vec![(u8::from(self.fin) << 7) | ((self.rsv & 7) << 4) | (self.opcode & 15)];
        let mask_bit = u8::from(self.masked) << 7;
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => bytes.push(mask_bit | short),
            (_, Ok(middle)) => {
                bytes.push(mask_bit | 126);
                bytes.extend(middle.to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
        }
        bytes
    }

    /// What the frame is, for people.
    pub fn describe(&self) -> String {
        let text = String::from_utf8_lossy(&self.payload);
        let length = self.payload.len();
        let more = if self.fin { "" } else { " (more to follow)" };
        match (self.opcode, self.close_code()) {
            (TEXT, _) => format!("{}{more}", shortened(&text)),
            (BINARY, _) => format!("a binary message of {length} bytes{more}"),
            (CONTINUATION, _) => format!("a continuation frame of {length} bytes{more}"),
            (PING, _) => format!("a ping with \"{text}\""),
            (PONG, _) => format!("a pong with \"{text}\""),
            (CLOSE, Some(code)) => format!("a close frame with code {code}"),
            (CLOSE, None) => "a close frame without a code".to_owned(),
            (opcode, _) => format!("a frame with opcode {opcode}"),
        }
    }
}

fn masked(payload: &[u8]) -> impl Iterator<Item = u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

/// An HTTP answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 404.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, of everything but an upgrade.
    pub body: String,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header that may come more than once.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn parse(head: &str) -> io::Result<Self> {
        let mut lines = head.lines();
        let status = lines
            .next()
            .filter(|line| line.starts_with("HTTP/1."))
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not an HTTP answer: {head}")))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self { status, headers, body: String::new() })
    }
}

/// Sends an HTTP request without an upgrade and reads the whole answer.
///
/// # Errors
/// No connection, or what came is no HTTP.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    request_with(address, method, path, headers, "").await
}

/// The same with a body. Its `Content-Type` is among the headers, its length is not.
///
/// # Errors
/// No connection, or what came is no HTTP.
pub async fn request_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    request_on(TcpStream::connect(address).await?, address, method, path, headers, body).await
}

/// The same on a connection that is there already.
///
/// # Errors
/// The connection ends, or what came is no HTTP.
pub async fn request_on(
    stream: TcpStream,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let length = body.len().to_string();
    let mut own = vec![("Connection", "close")];
    if !body.is_empty() {
        own.push(("Content-Length", &length));
    }
    let head = head(method, path, address, &[&own, headers].concat());
    let (mut answer, rest, mut stream) = begin_on(stream, &format!("{head}{body}")).await?;
    answer.body = read_body(&mut stream, rest, &answer).await?;
    Ok(answer)
}

/// Sends a request and reads the head of the answer; the body is still to come, but for its
/// beginning.
///
/// # Errors
/// No connection, or what came is no HTTP.
pub async fn begin(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<(Answer, Vec<u8>, TcpStream)> {
    let head = head(method, path, address, headers);
    begin_on(TcpStream::connect(address).await?, &format!("{head}{body}")).await
}

async fn begin_on(
    mut stream: TcpStream,
    request: &str,
) -> io::Result<(Answer, Vec<u8>, TcpStream)> {
    stream.write_all(request.as_bytes()).await?;
    let (answer, rest) = read_head(&mut stream).await?;
    Ok((answer, rest, stream))
}

/// Connects from an address of one's own: on Linux all of 127.0.0.0/8 is this machine, so that many
/// clients can come from many addresses.
///
/// # Errors
/// No connection, or this machine has no such address.
pub async fn connect_from(from: Ipv4Addr, address: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// The head of a request.
fn head(method: &str, path: &str, address: &str, headers: &[(&str, &str)]) -> String {
    let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or(address, |(_, host)| host);
    let others = headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    let others: String = others.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{others}\r\n")
}

/// Reads an answer up to the empty line, and gives what came behind it as well.
async fn read_head(stream: &mut TcpStream) -> io::Result<(Answer, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((Answer::parse(&String::from_utf8_lossy(&bytes))?, rest));
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            let got = String::from_utf8_lossy(&bytes).into_owned();
            let what = if got.is_empty() { "the connection ended without an answer" } else { &got };
            return Err(io::Error::other(what.to_owned()));
        }
    }
}

/// Reads a body as long as it says, or to the end of the connection.
pub(crate) async fn read_body(
    stream: &mut TcpStream,
    rest: Vec<u8>,
    answer: &Answer,
) -> io::Result<String> {
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let mut body = rest;
    while length.is_none_or(|length: usize| body.len() < length) {
        if stream.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// What came of a handshake.
#[derive(Debug)]
pub enum Opened {
    /// The server speaks WebSocket with us.
    Socket(Socket),
    /// It answered with something other than 101.
    Refused(Answer),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    reading: Reading<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Socket {
    /// Shakes hands, with the headers of a proper client and those given here.
    ///
    /// # Errors
    /// No connection, or what came is no HTTP, or the handshake was answered wrongly.
    pub async fn open(address: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Opened> {
        Self::open_on(TcpStream::connect(address).await?, address, path, headers).await
    }

    /// The same on a connection that is there already.
    ///
    /// # Errors
    /// The connection ends, or what came is no HTTP, or the handshake was answered wrongly.
    pub async fn open_on(
        mut stream: TcpStream,
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Opened> {
        stream.set_nodelay(true)?;
        let key = generate_key();
        let own = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key.as_str()),
        ];
        let head = head("GET", path, address, &[own.as_slice(), headers].concat());
        stream.write_all(head.as_bytes()).await?;
        let (mut answer, rest) = read_head(&mut stream).await?;
        if answer.status != 101 {
            answer.body = read_body(&mut stream, rest, &answer).await?;
            return Ok(Opened::Refused(answer));
        }
        if answer.header("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str())
        {
            return Err(io::Error::other("a 101 with a wrong Sec-WebSocket-Accept"));
        }
        let (reading, writing) = stream.into_split();
        Ok(Opened::Socket(Self { reading: Reading { stream: reading, waiting: rest }, writing }))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.writing.write_all(&frame.encode()).await
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writing.write_all(bytes).await
    }

    /// The next frame, or `None` at the orderly end of the TCP connection.
    ///
    /// # Errors
    /// The connection was reset, or ended within a frame.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        self.reading.next().await
    }

    /// The connection, and what was read of it and not given out.
    ///
    /// # Errors
    /// Never: the halves are of one connection.
    pub fn into_stream(self) -> io::Result<(TcpStream, Vec<u8>)> {
        let Reading { stream, waiting } = self.reading;
        Ok((stream.reunite(self.writing).map_err(io::Error::other)?, waiting))
    }

    /// The two halves, for tasks of their own.
    pub fn split(self) -> (Reading<OwnedReadHalf>, OwnedWriteHalf) {
        (self.reading, self.writing)
    }
}

/// Sends a frame on a half of its own.
///
/// # Errors
/// The connection is gone.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    stream.write_all(&frame.encode()).await
}

/// The reading half of a WebSocket.
#[derive(Debug)]
pub struct Reading<R> {
    stream: R,
    waiting: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    /// The next frame, or `None` at the orderly end of the TCP connection.
    ///
    /// Safe to drop half-way: what was read stays here.
    ///
    /// # Errors
    /// The connection was reset, or ended within a frame.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = parse(&self.waiting)? {
                self.waiting.drain(..length);
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.waiting).await? == 0 {
                let within = !self.waiting.is_empty();
                return if within { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }
}

/// The first frame in these bytes and its length, if it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Frame, usize)>> {
    let Some((head, payload, end)) = first_frame(bytes)? else { return Ok(None) };
    Ok(Some((Frame { payload: payload.to_vec(), ..head }, end)))
}

/// The same without a copy: the frame without its payload, the payload, and the length of both.
///
/// # Errors
/// No server may send this.
pub fn first_frame(bytes: &[u8]) -> io::Result<Option<(Frame, &[u8], usize)>> {
    let Some(&[first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    let (length, start) = match second & 0x7f {
        126 => match bytes.get(2..4).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from(u16::from_be_bytes(length)), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from_be_bytes(length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if second & 0x80 != 0 || length > MAX_FRAME {
        return Err(io::Error::other("a frame that no server may send: masked, or far too long"));
    }
    let end = usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(start));
    let Some(payload) = bytes.get(start..end) else { return Ok(None) };
    let (fin, rsv, opcode) = (first & 0x80 != 0, (first >> 4) & 7, first & 0x0f);
    Ok(Some((Frame { fin, rsv, opcode, masked: false, payload: Vec::new() }, payload, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_each_length_is_read_as_it_was_written() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = Frame::binary(vec![7; length]).unmasked();
            let bytes = frame.encode();
            assert_eq!(parse(&bytes).unwrap(), Some((frame, bytes.len())));
            assert_eq!(parse(&bytes[..bytes.len() - 1]).unwrap(), None);
        }
    }

    #[test]
    fn a_header_can_promise_any_length() {
        let header = Frame::text("").header(1 << 63);
        assert_eq!(header[..10], [0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_close_frame_tells_its_code() {
        assert_eq!(Frame::close(4008).close_code(), Some(4008));
        assert_eq!(Frame::new(CLOSE, []).close_code(), None);
        assert_eq!(Frame::text("hi").close_code(), None);
    }
}
