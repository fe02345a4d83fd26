use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use tokio::task::AbortHandle;

use super::callers::origin;

/// The connections in the middle of their handshake.
///
/// Their number is bounded, and a new one pushes out the oldest of the address that has most of
/// them. Were the new ones refused instead, a few silent connections would lock everybody out for
/// as long as somebody renews them; this way one must open connections faster than a handshake
/// takes, and from many addresses.
pub(super) struct HalfOpen {
    max: usize,
    /// In the order of arrival.
    connections: Mutex<Vec<Entry>>,
}

struct Entry {
    number: u64,
    address: IpAddr,
    task: AbortHandle,
}

impl HalfOpen {
    pub(super) fn new(max: usize) -> Self {
        Self { max, connections: Mutex::default() }
    }

    /// Adds the `number`th connection. Returns whether another was closed for it.
    pub(super) fn insert(&self, number: u64, address: IpAddr, task: AbortHandle) -> bool {
        let mut connections = self.connections.lock().expect("no holder panics");
        let evicted = connections.len() >= self.max;
        if evicted {
            let oldest = oldest_of_the_most_frequent(&connections);
            connections.remove(oldest).task.abort();
        }
        connections.push(Entry { number, address: origin(address), task });
        evicted
    }

    /// Removes the `number`th connection: its handshake is over. False if it was closed for
    /// another and is about to end.
    pub(super) fn remove(&self, number: u64) -> bool {
        let mut connections = self.connections.lock().expect("no holder panics");
        let found = connections.iter().position(|entry| entry.number == number);
        found.map(|at| connections.remove(at)).is_some()
    }
}

fn oldest_of_the_most_frequent(connections: &[Entry]) -> usize {
    let mut counts = HashMap::new();
    for entry in connections {
        *counts.entry(entry.address).or_insert(0_usize) += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    connections.iter().position(|entry| counts[&entry.address] == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_from_one_address_pushes_out_its_own() {
        let half_open = HalfOpen::new(3);
        let task = || tokio::spawn(std::future::pending::<()>());
        let (flooder, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = task();
        assert!(!half_open.insert(0, other, first.abort_handle()));
        let flood: Vec<_> = (1..=3).map(|_| task()).collect();
        assert!(!half_open.insert(1, flooder, flood[0].abort_handle()));
        assert!(!half_open.insert(2, flooder, flood[1].abort_handle()));
        assert!(half_open.insert(3, flooder, flood[2].abort_handle()));
        assert!(!half_open.remove(1));
        assert!(half_open.remove(0) && half_open.remove(2) && half_open.remove(3));
        let mut flood = flood.into_iter();
        assert!(flood.next().unwrap().await.unwrap_err().is_cancelled());
        assert!(!first.is_finished());
    }
}
