use std::collections::VecDeque;
use std::time::Duration;

use althing_types::Principal;
use bytes::Bytes;
use tokio::time::Instant;

/// Bytes that are held back, at most; more are dropped, as by any slow network.
const MAX_BYTES: usize = 64 << 20;

/// What a slow forwarder holds back, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Late {
    held: VecDeque<(Instant, Principal, Bytes)>,
    bytes: usize,
}

impl Late {
    /// Holds something back for so long.
    pub(super) fn push(&mut self, to: Principal, bytes: Bytes, delay: Duration) {
        if self.bytes + bytes.len() <= MAX_BYTES {
            self.bytes += bytes.len();
            self.held.push_back((Instant::now() + delay, to, bytes));
        }
    }

    /// When the next of it leaves.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.front().map(|(at, ..)| *at)
    }

    /// The next of it, if it leaves by now.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Principal, Bytes)> {
        let (_, to, bytes) = self.held.pop_front_if(|(at, ..)| *at <= now)?;
        self.bytes -= bytes.len();
        Some((to, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::ReplicaId;

    #[test]
    fn what_is_late_leaves_in_order_when_it_is_due_and_is_bounded() {
        let to = |id| Principal::Replica(ReplicaId(id));
        let mut late = Late::default();
        let before = Instant::now();
        assert!(late.next().is_none() && late.due(before).is_none());
        late.push(to(0), Bytes::from_static(b"first"), Duration::from_millis(50));
        late.push(to(1), Bytes::from_static(b"second"), Duration::from_millis(50));
        assert!(late.due(before + Duration::from_millis(49)).is_none());
        assert!(late.next().is_some_and(|at| at >= before + Duration::from_millis(50)));
        let after = Instant::now() + Duration::from_millis(50);
        assert_eq!(late.due(after), Some((to(0), Bytes::from_static(b"first"))));
        assert_eq!(late.due(after), Some((to(1), Bytes::from_static(b"second"))));
        assert!(late.due(after).is_none());
        late.push(to(0), vec![0; MAX_BYTES].into(), Duration::ZERO);
        late.push(to(0), Bytes::from_static(b"no room"), Duration::ZERO);
        assert_eq!(late.due(after).map(|(_, bytes)| bytes.len()), Some(MAX_BYTES));
        assert!(late.due(after).is_none());
    }
}
