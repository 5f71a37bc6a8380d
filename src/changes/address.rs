//! Addresses of webhooks. An organisation chooses them, so they must not lead into our own networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why an address cannot be a webhook's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no address of the web.
    #[error("write an address that begins with https://")]
    NotAnAddress,
    /// It is not secure.
    #[error("the address must begin with https://, so that nobody reads along")]
    NotHttps,
    /// It has a password in it.
    #[error("leave the name and password out of the address: each call is signed")]
    Password,
    /// It leads into a network of our own.
    #[error("{0} leads to no public address: webhooks are called on the public internet only")]
    Private(String),
    /// It is too long.
    #[error("the address is longer than 2000 characters")]
    TooLong,
}

/// Checks the address of a webhook. What its name leads to is checked at each call.
///
/// # Errors
/// See [`AddressError`].
pub fn check(address: &str, private_too: bool) -> Result<Url, AddressError> {
    if address.len() > 2000 {
        return Err(AddressError::TooLong);
    }
    let url = Url::parse(address).map_err(|_| AddressError::NotAnAddress)?;
    match url.scheme() {
        "https" => {}
        "http" if private_too => {}
        "http" => return Err(AddressError::NotHttps),
        _ => return Err(AddressError::NotAnAddress),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Password);
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            if !private_too && (name == "localhost" || name.ends_with(".localhost")) {
                return Err(AddressError::Private(name.to_owned()));
            }
            None
        }
        None => return Err(AddressError::NotAnAddress),
    };
    match literal {
        Some(ip) if !private_too && !is_public(ip) => Err(AddressError::Private(ip.to_string())),
        _ => Ok(url),
    }
}

/// Whether an address belongs to the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        // Shared by the customers of a provider; of protocols; for benchmarks; reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // Other ways to write an IPv4 address: mapped, translated (NAT64), 6to4.
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let octets = ip.octets();
    let v4_at =
        |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    let segments = ip.segments();
    match segments {
        // The rest of that range is for networks of one's own (RFC 8215), and not below 2000::/3.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(v4_at(12)),
        [0x2002, ..] => is_public_v4(v4_at(2)),
        // Teredo, benchmarks, ORCHID, documentation.
        [0x2001, 0 | 2 | 0x10..0x40 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // What is given out: 2000::/3.
        [first, ..] => (first & 0xe000) == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_called() {
        for public in
            ["1.1.1.1", "100.63.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
            "100::1",
            "64:ff9b:1:a00:0:100:808:808",
            "2001:2::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn an_address_is_checked_before_it_is_kept() {
        use AddressError::{NotAnAddress, NotHttps, Password, Private, TooLong};
        assert!(check("https://example.com/hook?key=1", false).is_ok());
        let private = |text: &str| Err(Private(text.to_owned()));
        for (address, expected) in [
            ("example.com", Err(NotAnAddress)),
            ("ftp://example.com", Err(NotAnAddress)),
            ("http://example.com", Err(NotHttps)),
            ("https://anna:secret@example.com", Err(Password)),
            ("https://127.0.0.1/", private("127.0.0.1")),
            // Other ways to write it.
            ("https://2130706433/", private("127.0.0.1")),
            ("https://0x7f.1/", private("127.0.0.1")),
            ("https://[::ffff:10.0.0.1]/", private("::ffff:10.0.0.1")),
            ("https://localhost:8443/", private("localhost")),
            ("https://db.localhost./", private("db.localhost")),
        ] {
            assert_eq!(check(address, false).map(|_| ()), expected, "{address}");
        }
        assert_eq!(check(&format!("https://e.com/{}", "x".repeat(2000)), false), Err(TooLong));
        assert!(check("http://127.0.0.1:8080/", true).is_ok());
    }
}
