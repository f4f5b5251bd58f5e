//! A load balancer as small as can be: it leads each connection to the node that has the fewest.
//!
//! It carries bytes and reads none of them, so it knows no cookies and sends nobody back to where he
//! was: any node must do. That also means that a node sees the balancer's address as everyone's.

use std::cmp::Reverse;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How long a node may take to accept a connection. They are all on this machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait where no connection can be accepted: out of open files, as a rule.
const BREATH: Duration = Duration::from_millis(50);

/// The way to one node.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    is_open: AtomicBool,
    taken: AtomicUsize,
}

impl Door {
    /// A way that is closed until somebody opens it.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, is_open: AtomicBool::new(false), taken: AtomicUsize::new(0) }
    }

    /// Whether new connections may be led there. Those that are there stay.
    pub fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }

    /// Where it leads.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been led there and are open.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// A running load balancer. Dropping it ends its connections.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Accepts connections, and leads each to a node.
    ///
    /// # Errors
    /// It has no address.
    pub fn start(listener: TcpListener, doors: Vec<Arc<Door>>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, doors)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts until the task is aborted, which ends the connections as well: it owns their tasks.
async fn accept(listener: TcpListener, doors: Vec<Arc<Door>>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            // The place is taken here and not in the task: two that come at once take two doors.
            Ok((client, _)) => drop(connections.spawn(lead(client, places(&doors)))),
            Err(_) => sleep(BREATH).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// A connection's place at a node, for as long as this value lives.
#[derive(Debug)]
struct Place(Arc<Door>);

impl Place {
    fn at(door: &Arc<Door>) -> Self {
        door.taken.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(door))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The place for a connection, and where else it could go; the best comes last.
struct Places {
    first: Option<Place>,
    others: Vec<Arc<Door>>,
}

fn places(doors: &[Arc<Door>]) -> Places {
    let is_open = |door: &&Arc<Door>| door.is_open.load(Ordering::SeqCst);
    let mut others: Vec<Arc<Door>> = doors.iter().filter(is_open).cloned().collect();
    // Of two that have the same, the first is the better one: so it stands later.
    others.reverse();
    others.sort_by_key(|door| Reverse(door.taken()));
    let first = others.pop().as_ref().map(Place::at);
    Places { first, others }
}

/// Carries one connection to a node and back until both sides are done. If the node does not take it,
/// another one may; if none does, the connection ends.
async fn lead(mut client: TcpStream, places: Places) {
    let Places { first, mut others } = places;
    let mut next = first;
    while let Some(place) = next {
        if let Ok(Ok(mut node)) = timeout(PATIENCE, TcpStream::connect(place.0.address)).await {
            let _ = client.set_nodelay(true);
            let _ = node.set_nodelay(true);
            // An end that is none of ours: both will notice.
            let _ = copy_bidirectional(&mut client, &mut node).await;
            return;
        }
        next = others.pop().as_ref().map(Place::at);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// No step of these tests takes longer, unless something is wrong.
    const LIMIT: Duration = Duration::from_secs(5);

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// A node that says its number to everyone, and then what they have said.
    async fn node(number: u8) -> Arc<Door> {
        let listener = listener().await;
        let door = Door::to(listener.local_addr().unwrap());
        door.open(true);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_u8(number).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Arc::new(door)
    }

    /// A node that is dead, and nobody has noticed.
    async fn dead() -> Arc<Door> {
        let door = Door::to(listener().await.local_addr().unwrap());
        door.open(true);
        Arc::new(door)
    }

    async fn before(doors: &[&Arc<Door>]) -> Balancer {
        Balancer::start(listener().await, doors.iter().copied().cloned().collect()).unwrap()
    }

    /// Connects, and gives the number of the node; none, if the connection ends.
    async fn connect(balancer: &Balancer) -> (TcpStream, Option<u8>) {
        let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
        let number = timeout(LIMIT, stream.read_u8()).await.expect("in time").ok();
        (stream, number)
    }

    #[tokio::test]
    async fn each_connection_goes_to_the_node_with_the_fewest() {
        let (one, two) = (node(1).await, node(2).await);
        let balancer = before(&[&one, &two]).await;
        let mut open = Vec::new();
        for wanted in [1, 2, 1, 2] {
            let (stream, number) = connect(&balancer).await;
            assert_eq!(number, Some(wanted));
            open.push(stream);
        }
        assert_eq!((one.taken(), two.taken()), (2, 2));

        drop(open.remove(1));
        let freed = async {
            while two.taken() > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, freed).await.expect("in time");
        assert_eq!(connect(&balancer).await.1, Some(2));
    }

    #[tokio::test]
    async fn a_dead_node_and_a_closed_door_are_passed_by() {
        let (dead, closed, alive) = (dead().await, node(2).await, node(3).await);
        closed.open(false);
        let balancer = before(&[&dead, &closed, &alive]).await;
        for _ in 0..3 {
            assert_eq!(connect(&balancer).await.1, Some(3));
        }
        assert_eq!(dead.taken(), 0);
    }

    #[tokio::test]
    async fn a_closed_door_keeps_who_is_inside() {
        let one = node(1).await;
        let balancer = before(&[&one]).await;
        let (mut inside, number) = connect(&balancer).await;
        assert_eq!(number, Some(1));
        one.open(false);
        assert_eq!(connect(&balancer).await.1, None);
        inside.write_u8(7).await.unwrap();
        assert_eq!(timeout(LIMIT, inside.read_u8()).await.expect("in time").unwrap(), 7);
    }

    #[tokio::test]
    async fn without_any_node_a_connection_ends() {
        let balancer = before(&[&dead().await]).await;
        assert_eq!(connect(&balancer).await.1, None);
    }
}
