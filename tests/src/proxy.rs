//! A TCP proxy on loopback that can cut, stall, slow and refuse, as bad networks do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How much is carried at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// A slow wire carries a portion this often.
const BEAT: Duration = Duration::from_millis(50);

/// What is wrong with the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing: bytes pass as they come.
    #[default]
    None,
    /// Connections are accepted and stay open, but no byte passes in either direction. None is lost:
    /// they are delivered once the fault is over.
    Stall,
    /// So many bytes a second pass, in each direction.
    Slow {
        /// At least 1.
        bytes_per_second: u32,
    },
    /// New connections are reset at once; those that are open go on.
    Refuse,
}

/// A running proxy. Dropping it stops listening and ends its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    fault: watch::Sender<Fault>,
    swallowing: watch::Sender<bool>,
    losing: watch::Sender<Option<String>>,
    upstream: watch::Sender<Option<SocketAddr>>,
    cuts: watch::Sender<u64>,
    open: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on `listen` (port 0 takes any free one) and carries each connection to `upstream`.
    ///
    /// # Errors
    /// The address to listen on is taken.
    pub async fn start(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::None);
        let (swallowing, swallows) = watch::channel(false);
        let (losing, loses) = watch::channel(None);
        let (upstream, upstreams) = watch::channel(Some(upstream));
        let (cuts, cut) = watch::channel(0);
        let open = Arc::new(AtomicUsize::new(0));
        let open_here = Arc::clone(&open);
        let wire = Wire { upstream: upstreams, faults, swallows, loses, cut, open: open_here };
        let accepting = tokio::spawn(accept(listener, wire));
        Ok(Self { addr, fault, swallowing, losing, upstream, cuts, open, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes the wire bad, or good again with [`Fault::None`].
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// What is wrong with the wire now.
    pub fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Loses what the server sends, acks for instance, while what the client sends arrives. A
    /// connection that has lost bytes ends when this ends.
    pub fn swallow(&self, on: bool) {
        self.swallowing.send_replace(on);
    }

    /// Loses each piece that the server sends with this text in it, and nothing else: the connection
    /// goes on. What a quiet server sends at once comes as one piece.
    pub fn lose(&self, text: Option<&str>) {
        self.losing.send_replace(text.map(str::to_owned));
    }

    /// Carries new connections to another server, as after a restart; to none, they are reset.
    pub fn lead_to(&self, upstream: Option<SocketAddr>) {
        self.upstream.send_replace(upstream);
    }

    /// Ends all connections at once, without a goodbye. New ones are accepted.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What each connection needs to know.
#[derive(Clone)]
struct Wire {
    upstream: watch::Receiver<Option<SocketAddr>>,
    faults: watch::Receiver<Fault>,
    swallows: watch::Receiver<bool>,
    loses: watch::Receiver<Option<String>>,
    cut: watch::Receiver<u64>,
    open: Arc<AtomicUsize>,
}

/// Accepts until the task is aborted, which ends the connections as well: it owns their tasks.
async fn accept(listener: TcpListener, wire: Wire) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) if *wire.faults.borrow() == Fault::Refuse => reset(&client),
            Ok((client, _)) => {
                // Counted here and not in the task: who has connected has been counted.
                let counted = Counted::new(&wire.open);
                connections.spawn(carry(client, wire.clone(), counted));
            }
            // Out of file descriptors, as a rule: to try again at once would only burn the CPU.
            Err(_) => sleep(BEAT).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One open connection, for as long as this value lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries one connection until both sides are done, or it is cut.
async fn carry(mut client: TcpStream, mut wire: Wire, _counted: Counted) {
    // Only cuts from now on count.
    wire.cut.mark_unchanged();
    let upstream = *wire.upstream.borrow();
    let Some(upstream) = upstream else { return reset(&client) };
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return reset(&client);
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);

    let was_cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, wire.faults.clone(), None);
        let loss = Loss { swallows: wire.swallows.clone(), loses: wire.loses.clone() };
        let down = pump(from_server, to_client, wire.faults.clone(), Some(loss));
        tokio::select! {
            cut = wire.cut.changed() => cut.is_ok(),
            ended = async { tokio::try_join!(up, down) } => ended.is_err(),
        }
    };
    // Where one side broke off, the other sees a break too, not an orderly end.
    if was_cut {
        reset(&client);
        reset(&server);
    }
}

/// Makes the kernel end a connection with a reset as soon as it is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// What the way down loses.
struct Loss {
    swallows: watch::Receiver<bool>,
    loses: watch::Receiver<Option<String>>,
}

impl Loss {
    /// Whether a piece is to be lost.
    fn takes(&self, piece: &[u8]) -> bool {
        let text = self.loses.borrow();
        let Some(text) = text.as_ref().filter(|text| !text.is_empty()) else { return false };
        piece.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// Carries bytes one way until their end, which it passes on. Only the way down loses some.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Fault>,
    mut loss: Option<Loss>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let portion = portion(*faults.borrow_and_update()).min(CHUNK);
        let length = from.read(chunk.get_mut(..portion).unwrap_or_default()).await?;
        if let Some(loss) = &mut loss
            && length > 0
            && *loss.swallows.borrow()
        {
            return swallow(from, &mut loss.swallows).await;
        }
        if loss.as_ref().is_some_and(|loss| loss.takes(chunk.get(..length).unwrap_or_default())) {
            continue;
        }
        pass(length, &mut faults).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(chunk.get(..length).unwrap_or_default()).await?;
    }
}

/// Takes what comes and passes nothing on, until the fault is over. Then the connection has a hole.
async fn swallow(mut from: ReadHalf<'_>, swallows: &mut watch::Receiver<bool>) -> io::Result<()> {
    let mut lost = vec![0; CHUNK];
    let taking = async {
        while from.read(&mut lost).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        ended = taking => ended?,
        _over = swallows.wait_for(|swallows| !swallows) => {}
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

/// How many bytes may pass in one beat.
fn portion(fault: Fault) -> usize {
    match fault {
        Fault::Slow { bytes_per_second } => {
            let beats_a_second = 1000 / BEAT.as_millis().max(1);
            let portion = u128::from(bytes_per_second) / beats_a_second;
            usize::try_from(portion).unwrap_or(CHUNK).max(1)
        }
        Fault::None | Fault::Stall | Fault::Refuse => CHUNK,
    }
}

/// Waits until so many bytes may pass.
async fn pass(length: usize, faults: &mut watch::Receiver<Fault>) {
    loop {
        let fault = *faults.borrow_and_update();
        let changed = match fault {
            Fault::None | Fault::Refuse => return,
            Fault::Stall => faults.changed().await,
            Fault::Slow { bytes_per_second } => {
                let seconds = length as f64 / f64::from(bytes_per_second.max(1));
                // The fault may change while we wait; then the new one decides.
                match timeout(Duration::from_secs_f64(seconds), faults.changed()).await {
                    Ok(changed) => changed,
                    Err(_time_is_over) => return,
                }
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    /// No step of these tests takes longer, unless something is wrong.
    const PATIENCE: Duration = Duration::from_secs(5);

    const ANY_PORT: &str = "127.0.0.1:0";

    /// A server that sends every byte back, with a proxy before it and a client behind that.
    async fn through_a_proxy() -> (FaultProxy, TcpStream) {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = FaultProxy::start(ANY_PORT.parse().unwrap(), upstream).await.unwrap();
        let client = TcpStream::connect(proxy.addr()).await.unwrap();
        (proxy, client)
    }

    async fn comes_back(client: &mut TcpStream, bytes: &[u8]) {
        client.write_all(bytes).await.unwrap();
        expect(client, bytes).await;
    }

    async fn expect(client: &mut TcpStream, bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        timeout(PATIENCE, client.read_exact(&mut came)).await.expect("in time").unwrap();
        assert!(came == bytes, "{} other bytes came", came.len());
    }

    /// How the connection ends: in order (`true`) or with a reset.
    async fn ends_in_order(client: &mut TcpStream) -> bool {
        match timeout(PATIENCE, client.read(&mut [0; 16])).await.expect("in time") {
            Ok(length) => {
                assert_eq!(length, 0, "bytes came");
                true
            }
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn a_good_wire_carries_every_byte_both_ways() {
        let (proxy, mut client) = through_a_proxy().await;
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        comes_back(&mut client, &bytes).await;
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn a_good_wire_carries_the_end_of_the_stream() {
        let (_proxy, mut client) = through_a_proxy().await;
        client.write_all(b"last words").await.unwrap();
        client.shutdown().await.unwrap();
        expect(&mut client, b"last words").await;
        assert!(ends_in_order(&mut client).await);
    }

    #[tokio::test]
    async fn a_stalled_wire_carries_nothing_and_loses_nothing() {
        let (proxy, mut client) = through_a_proxy().await;
        comes_back(&mut client, b"before").await;
        proxy.set(Fault::Stall);
        let bytes = vec![7; 100_000];
        client.write_all(&bytes).await.unwrap();
        let mut late = TcpStream::connect(proxy.addr()).await.unwrap();
        late.write_all(b"late").await.unwrap();
        let silence = timeout(Duration::from_millis(100), client.read_u8()).await;
        assert!(silence.is_err(), "a byte came through");

        proxy.set(Fault::None);
        expect(&mut client, &bytes).await;
        expect(&mut late, b"late").await;
        assert_eq!(proxy.connections(), 2);
    }

    #[tokio::test]
    async fn a_slow_wire_takes_its_time() {
        let (proxy, mut client) = through_a_proxy().await;
        proxy.set(Fault::Slow { bytes_per_second: 10_000 });
        let start = Instant::now();
        comes_back(&mut client, &[7; 5_000]).await;
        // Half a second up; the way down overlaps with it.
        assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_slow_wire_can_be_mended() {
        let (proxy, mut client) = through_a_proxy().await;
        proxy.set(Fault::Slow { bytes_per_second: 1 });
        client.write_all(&[7; 5_000]).await.unwrap();
        expect(&mut client, &[]).await;
        proxy.set(Fault::None);
        expect(&mut client, &[7; 5_000]).await;
    }

    #[tokio::test]
    async fn a_refusing_proxy_ends_new_connections_and_keeps_old_ones() {
        let (proxy, mut client) = through_a_proxy().await;
        comes_back(&mut client, b"before").await;
        proxy.set(Fault::Refuse);
        let mut refused = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(!ends_in_order(&mut refused).await);
        comes_back(&mut client, b"still here").await;

        proxy.set(Fault::None);
        let mut welcome = TcpStream::connect(proxy.addr()).await.unwrap();
        comes_back(&mut welcome, b"welcome back").await;
    }

    #[tokio::test]
    async fn a_cut_ends_every_connection_with_a_reset() {
        let (proxy, mut client) = through_a_proxy().await;
        let mut other = TcpStream::connect(proxy.addr()).await.unwrap();
        comes_back(&mut client, b"one").await;
        comes_back(&mut other, b"two").await;
        proxy.cut();
        assert!(!ends_in_order(&mut client).await);
        assert!(!ends_in_order(&mut other).await);

        let mut next = TcpStream::connect(proxy.addr()).await.unwrap();
        comes_back(&mut next, b"three").await;
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn a_swallowing_wire_delivers_what_the_client_sends_and_loses_the_answers() {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let proxy = FaultProxy::start(ANY_PORT.parse().unwrap(), upstream).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.swallow(true);
        client.write_all(b"question").await.unwrap();
        expect(&mut server, b"question").await;
        server.write_all(b"answer").await.unwrap();
        let silence = timeout(Duration::from_millis(100), client.read_u8()).await;
        assert!(silence.is_err(), "a byte came through");

        proxy.swallow(false);
        assert!(!ends_in_order(&mut client).await);
    }

    #[tokio::test]
    async fn a_losing_wire_loses_what_has_the_text_in_it_and_goes_on() {
        let (proxy, mut client) = through_a_proxy().await;
        proxy.lose(Some("bad"));
        client.write_all(b"a bad word").await.unwrap();
        let silence = timeout(Duration::from_millis(100), client.read_u8()).await;
        assert!(silence.is_err(), "a byte came through");
        comes_back(&mut client, b"a good word").await;
        proxy.lose(None);
        comes_back(&mut client, b"a bad word").await;
    }

    #[tokio::test]
    async fn a_proxy_can_lead_to_another_server_or_to_none() {
        let (proxy, _client) = through_a_proxy().await;
        proxy.lead_to(None);
        // The reset may come before the connection is reported.
        if let Ok(mut nobody) = TcpStream::connect(proxy.addr()).await {
            assert!(!ends_in_order(&mut nobody).await);
        }
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        proxy.lead_to(listener.local_addr().ok());
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hi").await.unwrap();
        expect(&mut server, b"hi").await;
    }

    #[tokio::test]
    async fn a_cut_also_ends_what_is_stalled() {
        let (proxy, mut client) = through_a_proxy().await;
        comes_back(&mut client, b"before").await;
        proxy.set(Fault::Stall);
        client.write_all(b"held").await.unwrap();
        proxy.cut();
        assert!(!ends_in_order(&mut client).await);
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_reset() {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let proxy = FaultProxy::start(ANY_PORT.parse().unwrap(), nobody).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(!ends_in_order(&mut client).await);
    }

    #[tokio::test]
    async fn a_dropped_proxy_ends_its_connections_and_frees_its_port() {
        let (proxy, mut client) = through_a_proxy().await;
        comes_back(&mut client, b"before").await;
        let addr = proxy.addr();
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            ends_in_order(&mut client).await;
            let _ = ended.send(());
        });
        drop(proxy);
        timeout(PATIENCE, end).await.expect("in time").unwrap();
        assert!(TcpListener::bind(addr).await.is_ok());
    }
}
