use alloc::vec::Vec;
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::{ClientId, decode, encode};

/// Answers every operation with the same number of zero bytes, and counts the ordered ones: what is
/// left is the cost of replication (the 0/0, 0/4 and 4/0 benchmarks of PBFT §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Null {
    reply_bytes: usize,
    executed: u64,
}

impl Null {
    /// A service whose replies have `reply_bytes` bytes. Equal at all replicas of a group.
    #[must_use]
    pub fn new(reply_bytes: usize) -> Self {
        Self { reply_bytes, executed: 0 }
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
        alloc::vec![0; self.reply_bytes].into()
    }

    fn query(&self, _operation: &[u8], _client: ClientId) -> Option<Vec<u8>> {
        Some(alloc::vec![0; self.reply_bytes])
    }

    fn save(&mut self, pages: &mut Pages) {
        pages.set(0, encode(&self.executed));
    }

    fn install(&mut self, pages: &Pages, _changed: &[u32]) -> Result<(), InstallError> {
        self.executed = decode(pages.sole()?, size_of::<u64>())
            .map_err(|_| InstallError { page: 0, reason: "it is no number" })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::{Instant, RequestNumber, Seq};

    #[test]
    fn counts_replies_and_installs() {
        let context = Context {
            client: ClientId(1),
            number: RequestNumber(1),
            seq: Seq(1),
            time: Instant(1),
            seed: [0; 32],
        };
        let mut null = Null::new(3);
        assert_eq!(null.execute(b"anything", &context).result, [0; 3]);
        assert_eq!(null.query(b"", ClientId(1)), Some(alloc::vec![0; 3]));
        let mut other = Null::new(3);
        let mut pages = Pages::default();
        null.save(&mut pages);
        other.install(&pages, &[0]).unwrap();
        assert_eq!(other, null);
        assert!(other.install(&Pages::default(), &[0]).is_err());
        pages.set(0, [1].as_slice());
        assert!(other.install(&pages, &[0]).is_err());
        assert_eq!(other.executed(), 1);
    }
}
