use super::Planted;
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_services::{Kv, KvOperation, KvResult};
use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq};

/// The key-value store with a bug around it.
pub(crate) struct FlawedService {
    bug: Planted,
    me: ReplicaId,
    inner: Kv,
    executed: u64,
}

impl FlawedService {
    pub(super) fn new(bug: Planted, me: ReplicaId) -> Self {
        Self { bug, me, inner: Kv::new(), executed: 0 }
    }

    /// Changes the state behind everybody's back.
    fn smuggle(&mut self, value: Vec<u8>) {
        let context = Context {
            client: ClientId(0),
            number: RequestNumber(1),
            seq: Seq(0),
            time: Instant(0),
            seed: [0; 32],
        };
        self.inner.execute(&KvOperation::Put { key: b"smuggled".to_vec(), value }.encode(), &context);
    }
}

impl Service for FlawedService {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        self.executed += 1;
        if self.bug == Planted::Nondeterminism && self.executed.is_multiple_of(10) {
            self.smuggle(self.me.0.to_le_bytes().to_vec());
        }
        let outcome = self.inner.execute(operation, context);
        match KvResult::decode(&outcome.result) {
            Ok(KvResult::Value(Some(_))) if self.bug == Planted::LostRead => {
                KvResult::Value(None).encode().into()
            }
            _ => outcome,
        }
    }

    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        // With the bug in reads, all reads have to take the way that has it.
        if self.bug == Planted::LostRead { None } else { self.inner.query(operation, client) }
    }

    fn save(&mut self, pages: &mut Pages) {
        self.inner.save(pages);
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        self.inner.install(pages, changed)?;
        if self.bug == Planted::WrongInstall {
            self.smuggle(Vec::new());
        }
        Ok(())
    }
}
