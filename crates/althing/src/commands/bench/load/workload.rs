use super::schedule::unit;
use althing_services::{KvOperation, KvResult, MAX_VALUE_BYTES};
use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum ServiceKind {
    /// Does nothing
    Null,
    /// The key-value store: puts and gets
    Kv,
}

/// What clients ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Workload {
    pub(in super::super) service: ServiceKind,
    /// Of the null service's operation, or of the value that is put.
    pub(in super::super) request_bytes: usize,
    /// Of the null service's result.
    pub(in super::super) reply_bytes: usize,
    /// Share of operations that only read, from 0 to 1.
    pub(in super::super) read_share: f64,
    /// Keys of the store that are used, each as often as the next.
    pub(in super::super) keys: u64,
}

/// An operation to be asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) is_read: bool,
    pub(super) operation: Vec<u8>,
}

impl Workload {
    /// The longest value of `request_bytes` that the service takes.
    pub(in super::super) fn max_request_bytes(&self) -> usize {
        match self.service {
            ServiceKind::Null => usize::MAX,
            ServiceKind::Kv => MAX_VALUE_BYTES,
        }
    }

    /// The operations that give the keys of one of several equal parts their first values: without, the
    /// reads of a store would be of nothing.
    pub(super) fn filling(&self, part: u64, of: u64) -> impl Iterator<Item = Asked> + '_ {
        let keys = match self.service {
            ServiceKind::Null => 0,
            ServiceKind::Kv => self.keys,
        };
        (0..keys).filter(move |key| key % of == part).map(|key| self.update(key))
    }

    /// Why `result` is not what an operation has to give; `None` where it is.
    pub(super) fn complaint(&self, is_read: bool, result: &[u8]) -> Option<String> {
        match self.service {
            ServiceKind::Null if result.len() == self.reply_bytes => None,
            ServiceKind::Null => {
                Some(format!("a result of {} bytes instead of {}", result.len(), self.reply_bytes))
            }
            ServiceKind::Kv => match KvResult::decode(result) {
                Ok(KvResult::Stored) if !is_read => None,
                Ok(KvResult::Value(Some(value))) if is_read && value.len() == self.request_bytes => None,
                Ok(KvResult::Refused(refusal)) => Some(format!("refused: {refusal}")),
                Ok(other) => Some(format!("a {} gave {other:?}", if is_read { "get" } else { "put" })),
                Err(error) => Some(format!("a result that is none: {error}")),
            },
        }
    }

    fn update(&self, key: u64) -> Asked {
        let operation = match self.service {
            ServiceKind::Null => vec![0; self.request_bytes],
            ServiceKind::Kv => {
                KvOperation::Put { key: key_bytes(key), value: vec![0; self.request_bytes] }.encode()
            }
        };
        Asked { is_read: false, operation }
    }

    fn read(&self, key: u64) -> Asked {
        let operation = match self.service {
            ServiceKind::Null => vec![0; self.request_bytes],
            ServiceKind::Kv => KvOperation::Get { key: key_bytes(key) }.encode(),
        };
        Asked { is_read: true, operation }
    }
}

fn key_bytes(key: u64) -> Vec<u8> {
    format!("key-{key:010}").into_bytes()
}

/// The operations of a workload at random, as its seed says.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    workload: Workload,
    random: ChaCha8Rng,
}

impl Mix {
    /// One of many mixes that differ by their number.
    pub(super) fn new(workload: &Workload, seed: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        Self { workload: workload.clone(), random }
    }

    pub(super) fn next(&mut self) -> Asked {
        let is_read = unit(&mut self.random) < self.workload.read_share;
        // The bias is below keys / 2^64.
        let key = self.random.next_u64() % self.workload.keys.max(1);
        if is_read { self.workload.read(key) } else { self.workload.update(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_replica::{Context, Service};
    use althing_services::Kv;
    use althing_types::{ClientId, Instant, RequestNumber, Seq};

    fn workload(service: ServiceKind, read_share: f64) -> Workload {
        Workload { service, request_bytes: 10, reply_bytes: 4, read_share, keys: 50 }
    }

    #[test]
    fn the_share_of_reads_is_kept_and_its_ends_are_exact() {
        for (share, least, most) in [(0.0, 0, 0), (0.9, 8_800, 9_200), (1.0, 10_000, 10_000)] {
            let mut mix = Mix::new(&workload(ServiceKind::Null, share), 3, 0);
            let reads = (0..10_000).filter(|_| mix.next().is_read).count();
            assert!((least..=most).contains(&reads), "{reads} reads of 10000 at {share}");
        }
    }

    #[test]
    fn mixes_follow_from_seed_and_number() {
        let take = |seed, number| {
            let mut mix = Mix::new(&workload(ServiceKind::Kv, 0.5), seed, number);
            (0..50).map(|_| mix.next()).collect::<Vec<_>>()
        };
        assert_eq!(take(1, 2), take(1, 2));
        assert_ne!(take(1, 2), take(1, 3));
        assert_ne!(take(1, 2), take(2, 2));
    }

    /// The store itself answers: whatever a workload asks, it has to find right.
    #[test]
    fn a_filled_store_gives_what_the_workload_expects_and_an_empty_one_does_not() {
        let workload = workload(ServiceKind::Kv, 0.5);
        let context = Context {
            client: ClientId(1),
            number: RequestNumber(1),
            seq: Seq(1),
            time: Instant(1),
            seed: [0; 32],
        };
        let mut store = Kv::default();
        let read = workload.read(7);
        assert!(workload.complaint(true, &store.execute(&read.operation, &context).result).is_some());
        for part in 0..3 {
            for asked in workload.filling(part, 3) {
                let result = store.execute(&asked.operation, &context).result;
                assert_eq!(workload.complaint(false, &result), None);
            }
        }
        let mut mix = Mix::new(&workload, 1, 0);
        for asked in (0..500).map(|_| mix.next()) {
            let result = store.execute(&asked.operation, &context).result;
            assert_eq!(workload.complaint(asked.is_read, &result), None);
            assert!(workload.complaint(!asked.is_read, &result).is_some());
        }
    }

    #[test]
    fn a_null_result_has_to_have_its_length() {
        let workload = workload(ServiceKind::Null, 0.0);
        assert_eq!(workload.complaint(false, &[0; 4]), None);
        assert!(workload.complaint(false, &[0; 5]).is_some());
        assert_eq!(workload.filling(0, 1).count(), 0);
    }
}
