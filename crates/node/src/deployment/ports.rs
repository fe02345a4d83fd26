use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports from here on are free for everybody.
const FIRST: u16 = 10_000;

/// Where the system's own choice usually begins.
const USUAL_EPHEMERAL: u16 = 32_768;

/// There are not as many free ports as asked for.
#[derive(Debug, thiserror::Error)]
#[error("found no {wanted} free ports on the loopback address: {source}")]
pub struct PortsError {
    /// Ports asked for.
    pub wanted: usize,
    /// Why the last one tried was not free.
    pub source: io::Error,
}

/// Loopback addresses that nobody listens at.
///
/// They lie below the range from which the system takes ports for outgoing connections: one from that
/// range could be gone when the process that owns it restarts, or connect to itself while it is down.
///
/// # Errors
/// When there are not as many.
pub fn free_ports(wanted: usize) -> Result<Vec<SocketAddr>, PortsError> {
    let end = ephemeral_start().clamp(FIRST + 1, u16::MAX);
    let span = end - FIRST;
    let offset = random_offset(span).map_err(|source| PortsError { wanted, source })?;
    let mut free = BTreeSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    // Held until all are found, so that none is found twice.
    let mut held = Vec::new();
    for step in 0..span {
        if free.len() >= wanted {
            break;
        }
        let port = FIRST + (offset + step) % span;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                free.insert(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                held.push(listener);
            }
            Err(error) => last = error,
        }
    }
    if free.len() < wanted {
        return Err(PortsError { wanted, source: last });
    }
    Ok(free.into_iter().collect())
}

fn ephemeral_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let start = range.split_whitespace().next().and_then(|start| start.parse().ok());
    // Where the system takes nearly all ports for itself there is nothing to keep out of.
    start.filter(|start| *start > FIRST + 1000).unwrap_or(USUAL_EPHEMERAL)
}

fn random_offset(span: u16) -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // Two deployments made at once would otherwise find the same ports.
    Ok(u16::from_le_bytes(bytes) % (span / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ports = free_ports(30).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 30);
        assert!(!ports.contains(&taken.local_addr().unwrap()));
        // Others may take ports meanwhile, but hardly all of these.
        assert!(ports.iter().any(|port| TcpListener::bind(port).is_ok()));
    }
}
