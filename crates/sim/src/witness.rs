use althing_crypto::{Hasher, hash};
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::{ClientId, Digest, Seq, encode};
use std::collections::BTreeMap;

/// What was executed, as the service saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witnessed {
    pub(crate) seq: Seq,
    pub(crate) client: ClientId,
    pub(crate) operation: Vec<u8>,
    /// The digest of the context and the outcome.
    pub(crate) outcome: Digest,
}

/// Stands between the engine and a service, and takes down what is executed: the oracles go by what
/// really reached the service and not by what the engine says of itself.
///
/// An operation starts with a label that makes it unique, so that it can be seen whether it was
/// executed twice; the service gets what follows.
#[derive(Debug, Clone)]
pub(crate) struct Witness<S> {
    inner: S,
    /// What the present state has come from, since it was last installed.
    witnessed: BTreeMap<Seq, Vec<Witnessed>>,
    /// The service's pages, after each operation.
    pages: Pages,
}

/// Bytes of the label.
pub(crate) const LABEL_BYTES: usize = 8;

/// The operation that carries `label`.
pub(crate) fn labelled(label: u64, operation: &[u8]) -> Vec<u8> {
    [&label.to_le_bytes(), operation].concat()
}

fn unlabelled(operation: &[u8]) -> &[u8] {
    operation.get(LABEL_BYTES..).unwrap_or(operation)
}

impl<S: Service> Witness<S> {
    pub(crate) fn new(mut inner: S) -> Self {
        let mut pages = Pages::default();
        inner.save(&mut pages);
        Self { inner, witnessed: BTreeMap::new(), pages }
    }

    /// What was executed at `seq`.
    pub(crate) fn at(&self, seq: Seq) -> &[Witnessed] {
        self.witnessed.get(&seq).map_or(&[], Vec::as_slice)
    }

    /// The digest of the service's whole state.
    pub(crate) fn state(&self) -> Digest {
        let mut hasher = Hasher::new("witnessed state");
        for (index, page) in self.pages.iter() {
            hasher.value(&index);
            hasher.bytes(page);
        }
        hasher.finish()
    }
}

impl<S: Service> Service for Witness<S> {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        let outcome = self.inner.execute(unlabelled(operation), context);
        let seen = encode(&(context.time, context.seed, &outcome.result));
        self.witnessed.entry(context.seq).or_default().push(Witnessed {
            seq: context.seq,
            client: context.client,
            operation: operation.to_vec(),
            outcome: hash("witnessed outcome", &seen),
        });
        self.inner.save(&mut self.pages);
        outcome
    }

    fn foresee(&mut self, operation: &[u8], client: ClientId) {
        self.inner.foresee(unlabelled(operation), client);
    }

    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        self.inner.query(unlabelled(operation), client)
    }

    fn save(&mut self, pages: &mut Pages) {
        *pages = self.pages.clone();
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        let installed = self.inner.install(pages, changed);
        if installed.is_ok() {
            self.pages = pages.clone();
            self.witnessed.clear();
        }
        self.inner.save(&mut self.pages);
        installed
    }
}
