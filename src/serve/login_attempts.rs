//! Counts login attempts, so that passwords cannot be guessed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{extract::ConnectInfo, http::HeaderMap};

use super::Service;

/// Maximum number of login attempts within 15 minutes: from one address, for one account from one
/// address, and for one account from anywhere. The last is high, so that a stranger cannot easily
/// lock a user out.
const TRIES_MAX: [u32; 3] = [50, 10, 500];
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Maximum number of counters. When it is reached, addresses without a counter are refused.
const REMEMBERED_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    Account(String, IpAddr),
    AccountAnywhere(String),
}

/// Counts attempts to log in, so that passwords cannot be guessed. docs/decisions/0036 says why no
/// library does it.
#[derive(Debug, Default)]
pub(super) struct LoginAttempts(Mutex<HashMap<Who, (Instant, u32)>>);

impl LoginAttempts {
    /// Counts an attempt before it is made. `false`: there were too many.
    pub(super) fn may_try(&self, address: IpAddr, account: &str) -> bool {
        let address = network(address);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > REMEMBERED_MAX {
            known.retain(|_, (since, _)| since.elapsed() < FORGET_AFTER);
            if known.len() > REMEMBERED_MAX && !known.contains_key(&Who::Address(address)) {
                return false;
            }
        }
        let account = || account.to_owned();
        let whom = [
            Who::Address(address),
            Who::Account(account(), address),
            Who::AccountAnywhere(account()),
        ];
        // `all` stops at the first counter that is full, so a refused attempt does not fill the
        // others.
        whom.into_iter().zip(TRIES_MAX).all(|(who, most)| {
            let (since, tries) = known.entry(who).or_insert((Instant::now(), 0));
            if since.elapsed() >= FORGET_AFTER {
                (*since, *tries) = (Instant::now(), 0);
            }
            *tries += 1;
            *tries <= most
        })
    }

    /// Resets the counter of an account from this address, after a successful login.
    pub(super) fn succeeded(&self, address: IpAddr, account: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&Who::Account(account.to_owned(), network(address)));
    }
}

/// An IPv6 address is reduced to its /64 network, because one client usually has all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

/// The client's address. Behind a proxy (`behind_https`), the last one in `X-Forwarded-For`.
pub(super) fn address(
    service: &Service,
    headers: &HeaderMap,
    peer: ConnectInfo<SocketAddr>,
) -> IpAddr {
    let said = || {
        // A proxy may add a header line of its own. The last word of the last line is the proxy's.
        let line = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        let word = line.rsplit(',').next()?.trim();
        word.parse::<IpAddr>().ok().or_else(|| Some(word.parse::<SocketAddr>().ok()?.ip()))
    };
    service.config.behind_https.then(said).flatten().unwrap_or_else(|| peer.0.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(attempts: &LoginAttempts, address: [u8; 4], account: &str, most: usize) -> usize {
        (0..most).take_while(|_| attempts.may_try(address.into(), account)).count()
    }

    #[test]
    fn a_successful_login_resets_the_count_of_its_account_and_address_only() {
        let attempts = LoginAttempts::default();
        assert_eq!(tries(&attempts, [10, 0, 0, 1], "anna", 20), 10);
        assert_eq!(tries(&attempts, [10, 0, 0, 2], "anna", 20), 10);

        attempts.succeeded([10, 0, 0, 1].into(), "anna");

        assert_eq!(tries(&attempts, [10, 0, 0, 1], "anna", 20), 10);
        assert_eq!(tries(&attempts, [10, 0, 0, 2], "anna", 20), 0);
    }

    #[test]
    fn an_address_has_50_tries_whatever_the_account() {
        let attempts = LoginAttempts::default();
        let tried = (0..100).take_while(|account| {
            attempts.may_try([10, 0, 0, 1].into(), &format!("{account}@club.example"))
        });
        assert_eq!(tried.count(), 50);
    }
}
