use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_replica::{Context, InstallError, Outcome, Service};
use althing_types::{ClientId, decode, encode};

/// Answers every operation with the same number of zero bytes, and counts the ordered ones: what is
/// left is the cost of replication (the 0/0, 0/4 and 4/0 benchmarks of PBFT §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Null {
    reply_bytes: usize,
    executed: u64,
    dirty: BTreeSet<u32>,
}

impl Null {
    /// A service whose replies have `reply_bytes` bytes. Equal at all replicas of a group.
    #[must_use]
    pub fn new(reply_bytes: usize) -> Self {
        Self { reply_bytes, executed: 0, dirty: BTreeSet::from([0]) }
    }

    /// Operations executed.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.executed
    }
}

impl Service for Null {
    fn execute(&mut self, _operation: &[u8], _context: &Context) -> Outcome {
        self.executed += 1;
        self.dirty.insert(0);
        alloc::vec![0; self.reply_bytes].into()
    }

    fn query(&self, _operation: &[u8], _client: ClientId) -> Option<Vec<u8>> {
        Some(alloc::vec![0; self.reply_bytes])
    }

    fn page_count(&self) -> u32 {
        1
    }

    fn page(&self, _index: u32) -> Vec<u8> {
        encode(&self.executed)
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.dirty).into_iter().collect()
    }

    fn install(&mut self, pages: &[&[u8]]) -> Result<(), InstallError> {
        let broken = |reason| InstallError { page: 0, reason };
        let [page] = pages else {
            return Err(broken("the state has one page"));
        };
        self.executed = decode(page, size_of::<u64>()).map_err(|_| broken("it is no number"))?;
        self.dirty.insert(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::{Instant, Seq};

    #[test]
    fn counts_replies_and_installs() {
        let context = Context { client: ClientId(1), seq: Seq(1), time: Instant(1), seed: [0; 32] };
        let mut null = Null::new(3);
        assert_eq!(null.execute(b"anything", &context).result, [0; 3]);
        assert_eq!(null.query(b"", ClientId(1)), Some(alloc::vec![0; 3]));
        let mut other = Null::new(3);
        other.install(&[&null.page(0)]).unwrap();
        assert_eq!(other, null);
        assert!(other.install(&[]).is_err());
        assert!(other.install(&[&[1]]).is_err());
        assert_eq!(other.executed(), 1);
    }
}
