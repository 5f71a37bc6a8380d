//! The address of a client, and the network that is counted as one client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{extract::ConnectInfo, http::HeaderMap};

use super::Service;
use crate::access::Networks;

/// The networks that tries to log in are counted for: that of the client, and the wider one that a
/// customer of a provider may have as a whole.
pub(super) fn networks(address: IpAddr) -> Networks {
    let narrow = network(address);
    let wide = match narrow {
        // Neighbours in IPv4 are other customers. They must not lock each other out.
        IpAddr::V4(_) => narrow,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 80 << 80).into(),
    };
    Networks { narrow, wide }
}

/// An IPv6 address is reduced to its /64 network, because one client usually has all of it.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

/// The client's address.
pub(super) fn address(
    service: &Service,
    headers: &HeaderMap,
    peer: ConnectInfo<SocketAddr>,
) -> IpAddr {
    seen(service.config.behind_https, headers, peer.0.ip())
}

/// The client's address: that of the peer or, behind a proxy (`behind_https`), the last one in
/// `X-Forwarded-For`.
pub(super) fn seen(behind_https: bool, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let said = || {
        // A proxy may add a header line of its own. The last word of the last line is the proxy's.
        let line = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        let word = line.rsplit(',').next()?.trim();
        word.parse::<IpAddr>().ok().or_else(|| Some(word.parse::<SocketAddr>().ok()?.ip()))
    };
    behind_https.then(said).flatten().unwrap_or(peer)
}
