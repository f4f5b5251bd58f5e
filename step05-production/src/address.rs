// ANCHOR: all
//! Where a request comes from. Behind a proxy that is harder to know than it looks: the connection
//! comes from the proxy, and what stands in a header can be written by anybody.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;

/// The other end of a connection, as the system knows it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The header in which proxies say for whom they ask.
const FORWARDED_FOR: &str = "x-forwarded-for";

// ANCHOR: client
/// A filter that gives the address of the client, by way of these proxies or without.
pub fn client(
    proxies: Arc<[IpNet]>,
) -> impl Filter<Extract = (IpAddr,), Error = Infallible> + Clone {
    warp::ext::optional().and(warp::header::headers_cloned()).map(
        move |peer: Option<Peer>, headers: HeaderMap| {
            let Peer(peer) = peer.unwrap_or(Peer(Ipv6Addr::UNSPECIFIED.into()));
            behind(&proxies, peer, &headers)
        },
    )
}

/// A filter that tells whether a request comes by way of one of these proxies.
pub fn by_proxy(proxies: Arc<[IpNet]>) -> BoxedFilter<(bool,)> {
    let is_proxy = move |Peer(peer)| proxies.iter().any(|proxy| proxy.contains(&peer));
    warp::ext::optional().map(move |peer: Option<Peer>| peer.is_some_and(&is_proxy)).boxed()
}

// ANCHOR: behind
/// The last address in the header that is none of our own proxies. Each proxy adds the address it
/// was asked from at the end, so what stands before that is hearsay.
fn behind(proxies: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    // There may be several lines: HAProxy adds a line of its own below the client's.
    let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let said: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut address = peer.to_canonical();
    for next in said.into_iter().rev() {
        if !proxies.iter().any(|proxy| proxy.contains(&address)) {
            break;
        }
        let Ok(next) = next.parse::<IpAddr>() else { break };
        address = next.to_canonical();
    }
    address
}
// ANCHOR_END: behind
// ANCHOR_END: client

/// Addresses that count as one: with IPv6, whoever has one address has 2^64 of them.
pub fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, lines: &[&str]) -> String {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let lines =
            lines.iter().map(|line| (FORWARDED_FOR.parse().unwrap(), line.parse().unwrap()));
        behind(&proxies, peer.parse().unwrap(), &lines.collect()).to_string()
    }

    #[test]
    fn strangers_are_not_believed() {
        assert_eq!(from("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(from("192.0.2.1", &["203.0.113.7"]), "192.0.2.1");
    }

    #[test]
    fn proxies_are_believed_up_to_the_first_stranger() {
        assert_eq!(from("10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(from("::1", &["8.8.8.8, 203.0.113.7, 10.1.2.3"]), "203.0.113.7");
        assert_eq!(from("10.0.0.1", &["8.8.8.8", "203.0.113.7"]), "203.0.113.7");
        assert_eq!(from("10.0.0.1", &["8.8.8.8, nonsense"]), "10.0.0.1");
        assert_eq!(from("::ffff:10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn a_network_of_version_6_counts_as_one() {
        let group = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(group("2001:db8:1:2::"), group("2001:db8:1:2:ffff::1"));
        assert_eq!(group("192.0.2.1"), "192.0.2.1");
    }
}
// ANCHOR_END: all
