use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};

use super::config::Peer;

/// Addresses from which members call, as far as that is known: where the replicas are, and from where a
/// member has called lately and proven its key. An address proves nothing; it decides only at whose expense
/// a handshake is computed, which can't be known before.
pub(super) struct Callers {
    known: Mutex<Known>,
}

struct Known {
    replicas: HashSet<IpAddr>,
    /// With when they were last seen.
    lately: HashMap<IpAddr, u64>,
    seen: u64,
}

/// The most addresses that are remembered.
const MOST: usize = 4096;

impl Callers {
    pub(super) fn new(peers: &[Peer]) -> Self {
        let known = Known { replicas: origins(peers), lately: HashMap::new(), seen: 0 };
        Self { known: Mutex::new(known) }
    }

    /// The replicas are there from now on.
    pub(super) fn configure(&self, peers: &[Peer]) {
        self.lock().replicas = origins(peers);
    }

    /// A member has called from there.
    pub(super) fn has_proven(&self, address: IpAddr) {
        let mut known = self.lock();
        known.seen += 1;
        let (origin, seen) = (origin(address), known.seen);
        if known.lately.len() >= MOST
            && !known.lately.contains_key(&origin)
            && let Some(oldest) =
                known.lately.iter().min_by_key(|(_, seen)| **seen).map(|(origin, _)| *origin)
        {
            known.lately.remove(&oldest);
        }
        known.lately.insert(origin, seen);
    }

    /// Whether members call from there.
    pub(super) fn are_known(&self, address: IpAddr) -> bool {
        let (known, origin) = (self.lock(), origin(address));
        known.replicas.contains(&origin) || known.lately.contains_key(&origin)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder panics")
    }
}

fn origins(peers: &[Peer]) -> HashSet<IpAddr> {
    peers.iter().map(|peer| origin(peer.address.ip())).collect()
}

/// What counts as one address: whoever has one of IPv6 has all that differ from it in the last half only.
pub(super) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn who_has_proven_a_key_is_known_until_many_others_have() {
        let callers = Callers::new(&[]);
        assert!(!callers.are_known(address(1)));
        callers.has_proven(address(1));
        callers.has_proven(address(2));
        (0..MOST as u32).for_each(|i| {
            callers.has_proven(address(1));
            callers.has_proven(address(10 + i));
        });
        assert!(callers.are_known(address(1)), "it calls again and again");
        assert!(!callers.are_known(address(2)));
        assert_eq!(callers.lock().lately.len(), MOST);
    }

    #[test]
    fn half_of_an_address_tells_whose_it_is() {
        let of = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
