use crate::client_table::{ClientTable, Standing};
use crate::frame::ReplyOutcome;
use crate::membership::{ReconfigureOutcome, Refusal, SUCCESSION_PAGE, Succession};
use crate::pages::PageTree;
use crate::{
    Context, Emission, InstallError, LateResult, MAX_PAGE_BYTES, MAX_PAGES, Outcome, Pages, Service,
};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_crypto::Hasher;
use althing_protocol::{Decision, Request, RequestKind};
use althing_types::{ClientId, Digest, Epoch, Instant, RequestNumber, Seq, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// Where the page with the agreed values lies in the index space of the page tree.
const HEADER_PAGE: u32 = MAX_PAGES;

/// How many bits are tried until a service lets one go bad.
const CORRUPTION_ATTEMPTS: u64 = 64;

/// The agreed values that belong to the state beside the service and the client table.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Header {
    executed: Seq,
    time: Instant,
    seed: Digest,
    clients: u32,
}

/// Why pages whose digest is right are no state: a bug of this software or of the service, or a
/// group whose replicas run different services.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// The engine's own pages make no sense.
    #[error("the state's own pages do not fit together: {0}")]
    Engine(&'static str),
    /// The state belongs to another sequence number than the checkpoint that names it.
    #[error("the state says it is at {actual}, not at {expected}")]
    Seq {
        /// Where the state says it is.
        actual: Seq,
        /// The checkpoint.
        expected: Seq,
    },
    /// The service refused its pages.
    #[error(transparent)]
    Service(#[from] InstallError),
    /// The service took its pages and now shows others: they are not canonical.
    #[error("after the installation the service's pages give the digest {actual}, not {expected}")]
    Digest {
        /// The digest of the pages that the service shows.
        actual: Digest,
        /// The digest of those that it was given.
        expected: Digest,
    },
}

/// A request that took effect.
#[derive(Debug)]
pub struct Effect {
    /// Which of its batch, or in which bundle of its batch.
    pub index: usize,
    /// Whose request it is.
    pub client: ClientId,
    /// The client's number for it.
    pub number: RequestNumber,
    /// What it gave; `None` where that comes later.
    pub outcome: Option<ReplyOutcome>,
    /// What requests gave that were deferred, and are the last of their clients.
    pub late: Vec<(ClientId, RequestNumber, ReplyOutcome)>,
    /// What the service emitted.
    pub emissions: Vec<Emission>,
}

/// The replicated state: the service, its clients and the agreed values; and its page tree.
#[derive(Debug)]
pub(crate) struct State<S> {
    pub(crate) service: S,
    pub(crate) table: ClientTable,
    pub(crate) header: Header,
    /// Who belongs to the group, where that changes.
    pub(crate) succession: Option<Succession>,
    /// The service's pages, as of the last checkpoint.
    pub(crate) pages: Pages,
    /// The pages of the client table and of the header, as of the last checkpoint.
    pub(crate) engine: PageTree,
    /// Pages that went bad and are no longer among `pages`. The service may still have them.
    pub(crate) spoilt: BTreeSet<u32>,
    /// Whether it is a witness's ([`hollow`](crate::hollow)).
    pub(crate) is_hollow: bool,
}

impl<S: Service> State<S> {
    pub(crate) fn new(service: S, succession: Option<Succession>) -> Self {
        Self {
            succession,
            service,
            table: ClientTable::default(),
            header: Header::default(),
            pages: Pages::default(),
            engine: PageTree::default(),
            spoilt: BTreeSet::new(),
            is_hollow: false,
        }
    }

    pub(crate) fn service(&self) -> &S {
        &self.service
    }

    pub(crate) fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    pub(crate) fn table(&self) -> &ClientTable {
        &self.table
    }

    /// The epoch that the next batch belongs to.
    pub(crate) fn epoch(&self) -> Epoch {
        self.succession.as_ref().map_or(Epoch(0), |succession| succession.current().epoch)
    }

    /// Whether that epoch ends at the next checkpoint.
    pub(crate) fn is_epoch_ending(&self) -> bool {
        self.succession.as_ref().is_some_and(Succession::is_ending)
    }

    pub(crate) fn executed(&self) -> Seq {
        self.header.executed
    }

    pub(crate) fn time(&self) -> Instant {
        self.header.time
    }

    /// Executes a batch, and gives back the requests that took effect. A batch may hold requests
    /// that were executed before, or twice the same, if its primary is faulty: those are skipped,
    /// by the replicated client table and thus equally everywhere.
    pub(crate) fn execute(&mut self, decision: &Decision, max_reply_bytes: usize) -> Vec<Effect> {
        assert_eq!(decision.seq, self.header.executed.next(), "batches are executed in order");
        self.header.executed = decision.seq;
        // Agreed time strictly grows, whatever the primary proposed (TOCS'02 §6, BFS's time).
        let next = Instant(self.header.time.0.saturating_add(1));
        self.header.time = decision.batch.time.max(next);
        let mut hasher = Hasher::new("althing agreed seed");
        hasher.value(&(self.header.seed, decision.seq, self.header.time, decision.digest));
        self.header.seed = hasher.finish();

        let mut effects = Vec::new();
        for (index, request) in decision.batch.requests.iter().enumerate() {
            let seed = (self.header.seed, index as u64);
            if self.table.standing(request.client, request.number) != Standing::New {
                continue;
            }
            effects.push(self.execute_one(request, index, &seed, max_reply_bytes));
            for (place, bundled) in request.bundled().iter().enumerate() {
                let is_new = self.table.standing(bundled.client, bundled.number) == Standing::New;
                if is_new && bundled.kind == RequestKind::Service {
                    let seed = (seed, place as u64);
                    effects.push(self.execute_one(bundled, index, &seed, max_reply_bytes));
                }
            }
        }
        if let Some(succession) = self.succession.as_mut().filter(|_| decision.is_checkpoint) {
            succession.on_checkpoint();
        }
        effects
    }

    fn execute_one(
        &mut self,
        request: &Request,
        index: usize,
        seed: &impl BorshSerialize,
        max_reply_bytes: usize,
    ) -> Effect {
        let mut hasher = Hasher::new("althing operation seed");
        hasher.value(seed);
        let context = Context {
            client: request.client,
            number: request.number,
            seq: self.header.executed,
            time: self.header.time,
            seed: hasher.finish().0,
        };
        let done = match request.kind {
            RequestKind::Service if self.is_hollow => Outcome { is_deferred: true, ..Outcome::default() },
            RequestKind::Service => self.service.execute(&request.operation, &context),
            RequestKind::Reconfigure => encode(&self.reconfigure(&request.operation)).into(),
            RequestKind::Bundle => Outcome::default(),
        };
        let has_outcome = !done.is_deferred && !self.is_hollow;
        let outcome = has_outcome.then(|| ReplyOutcome::of(done.result, max_reply_bytes));
        self.table.record(request.client, request.number, outcome.clone());
        let mut late = Vec::new();
        for LateResult { client, number, result } in done.late {
            let outcome = ReplyOutcome::of(result, max_reply_bytes);
            if self.table.settle(client, number, outcome.clone()) {
                late.push((client, number, outcome));
            }
        }
        let (client, number) = (request.client, request.number);
        Effect { index, client, number, outcome, late, emissions: done.emissions }
    }

    fn reconfigure(&mut self, operation: &[u8]) -> ReconfigureOutcome {
        self.succession.as_mut().ok_or(Refusal::Fixed)?.execute(operation)
    }

    /// The present state's pages, and their root. Costs what changed since the last call.
    pub(crate) fn checkpoint(&mut self) -> (Digest, PageTree) {
        if !self.is_hollow {
            self.service.save(&mut self.pages);
        }
        self.table.flush(&mut self.engine);
        self.header.clients = self.table.len();
        self.engine.set(HEADER_PAGE, encode(&self.header));
        if let Some(succession) = &self.succession {
            self.engine.set(SUCCESSION_PAGE, succession.to_page());
        }
        self.engine.refresh();
        if self.is_hollow {
            let mut tree = self.engine.clone();
            return (tree.refresh(), tree);
        }
        self.pages.refresh();
        let mut tree = self.pages.under(&self.engine);
        (tree.refresh(), tree)
    }

    /// The present state's pages that are what their digests say, for a replica that has diverged:
    /// its memory may have gone bad. Costs the whole state.
    pub(crate) fn intact(&mut self) -> PageTree {
        self.checkpoint();
        let intact = self.pages.intact();
        self.spoilt.extend(self.pages.iter().map(|(index, _)| index).filter(|i| intact.page(*i).is_none()));
        self.pages = intact;
        self.engine = self.engine.intact();
        let mut tree = self.pages.under(&self.engine);
        tree.refresh();
        tree
    }

    /// These pages of the service may not be what they are thought to be: the service is told of them when a state is
    /// installed, whatever their digests.
    pub(crate) fn doubt(&mut self, pages: impl Iterator<Item = u32>) {
        self.spoilt.extend(pages);
    }

    /// Has a bit of the service's state go bad, and of nothing that the engine has of it, as a fault of the
    /// memory would; says whether there was one that the service lets go bad. `choice` says which.
    pub(crate) fn corrupt(&mut self, choice: u64) -> bool {
        if self.is_hollow {
            return false;
        }
        self.service.save(&mut self.pages);
        let pages: Vec<u32> =
            self.pages.iter().filter(|(_, page)| !page.is_empty()).map(|(index, _)| index).collect();
        for attempt in 0..CORRUPTION_ATTEMPTS.min(CORRUPTION_ATTEMPTS * pages.len() as u64) {
            let choice = choice.wrapping_mul(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let index = pages[(choice >> 8) as usize % pages.len()];
            let page = self.pages.page(index).expect("it was just seen");
            let mut bytes = page.to_vec();
            let at = (choice >> 24) as usize % bytes.len();
            bytes[at] ^= 1;
            let mut bad = self.pages.clone();
            bad.set(index, bytes);
            if self.service.install(&bad, &[index]).is_ok() {
                return true;
            }
        }
        false
    }

    /// Replaces the whole state by the one at checkpoint `seq`, whose digest has been verified. The
    /// service is told in which pages it differs from the present one, and may leave the others.
    ///
    /// # Errors
    /// See [`StateError`]. The state is then unchanged.
    ///
    /// # Panics
    /// If the service does not take back its own pages.
    pub(crate) fn install(&mut self, seq: Seq, tree: &PageTree) -> Result<(), StateError> {
        if self.is_hollow {
            return self.install_hollow(seq, tree);
        }
        let (mut target, engine) = Pages::split(tree);
        let (header, table) = read_engine(seq, &engine, ClientTable::restore)?;
        let succession = self.read_succession(&engine)?;
        self.checkpoint();
        let mut changed = self.pages.differing(&mut target);
        if !self.spoilt.is_empty() {
            // Where the target has no such page either, no comparison shows that the service has one.
            changed.extend(&self.spoilt);
            changed.sort_unstable();
            changed.dedup();
        }
        self.service.install(&target, &changed)?;
        // If a service's pages are not canonical, the replica would diverge at its next checkpoint;
        // better to see it at once.
        let mut shown = target.clone();
        self.service.save(&mut shown);
        let (actual, expected) = (shown.refresh(), target.refresh());
        if actual != expected {
            let back = shown.differing(&mut self.pages);
            self.service.install(&self.pages, &back).expect("a service takes its own pages");
            return Err(StateError::Digest { actual, expected });
        }
        (self.header, self.table, self.succession) = (header, table, succession);
        (self.pages, self.engine) = (target, engine);
        self.spoilt.clear();
        Ok(())
    }

    /// The memberships that lie in the engine's pages.
    pub(crate) fn read_succession(&self, tree: &PageTree) -> Result<Option<Succession>, StateError> {
        match (&self.succession, tree.page(SUCCESSION_PAGE)) {
            (Some(own), Some(page)) => own.restored(page).map(Some).map_err(StateError::Engine),
            (None, None) => Ok(None),
            (Some(_), None) => Err(StateError::Engine("the page of the memberships is missing")),
            (None, Some(_)) => Err(StateError::Engine("the members of this group change, as it says")),
        }
    }
}

/// The agreed values and the client table that lie in the engine's pages.
pub(crate) fn read_engine(
    seq: Seq,
    tree: &PageTree,
    restore: impl FnOnce(&PageTree, u32) -> Result<ClientTable, &'static str>,
) -> Result<(Header, ClientTable), StateError> {
    let bytes = tree.page(HEADER_PAGE).ok_or(StateError::Engine("the header page is missing"))?;
    let header: Header =
        decode(bytes, MAX_PAGE_BYTES).map_err(|_| StateError::Engine("the header page is malformed"))?;
    if header.executed != seq {
        return Err(StateError::Seq { actual: header.executed, expected: seq });
    }
    let table = restore(tree, header.clients).map_err(StateError::Engine)?;
    Ok((header, table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use alloc::vec;
    use althing_protocol::{Answers, Batch, RequestAuth};
    use althing_types::View;

    /// One page: the operations executed. `quirk` is what is wrong with it.
    #[derive(Default)]
    struct Tape {
        tape: Vec<u8>,
        /// Which pages it was told have changed.
        told: Vec<u32>,
        quirk: Quirk,
    }

    #[derive(Default, PartialEq)]
    enum Quirk {
        #[default]
        None,
        RefusesPages,
        /// Shows something else than it was given.
        IsNotCanonical,
    }

    impl Service for Tape {
        fn execute(&mut self, operation: &[u8], _: &Context) -> Outcome {
            self.tape.extend_from_slice(operation);
            Outcome::default()
        }

        fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
            None
        }

        fn save(&mut self, pages: &mut Pages) {
            pages.set(0, self.tape.clone());
        }

        fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
            if self.quirk == Quirk::RefusesPages {
                return Err(InstallError { page: 0, reason: "no" });
            }
            self.told = changed.to_vec();
            self.tape = pages.sole()?.to_vec();
            if self.quirk == Quirk::IsNotCanonical && self.tape.len() > 1 {
                self.tape.sort_unstable();
            }
            Ok(())
        }
    }

    fn execute<S: Service>(state: &mut State<S>, seq: u64, operation: &[u8]) {
        let request = Request {
            client: ClientId(1),
            number: RequestNumber(seq),
            kind: RequestKind::Service,
            epoch: Epoch(0),
            operation: operation.to_vec(),
            answers: Answers::All,
            auth: RequestAuth::Macs(althing_crypto::Authenticator(vec![])),
            is_authentic: true,
        };
        let batch = Arc::new(Batch { time: Instant(seq), requests: vec![request] });
        let (digest, view) = (batch.digest(), View(0));
        let seq = Seq(seq);
        state.execute(&Decision { seq, view, digest, batch, is_checkpoint: true, is_eager: false }, 100);
    }

    fn state(quirk: Quirk, operations: &[&[u8]]) -> State<Tape> {
        let mut state = State::new(Tape { quirk, ..Tape::default() }, None);
        for (seq, operation) in (1..).zip(operations) {
            execute(&mut state, seq, operation);
        }
        state
    }

    #[test]
    fn an_installed_state_goes_on_like_the_original() {
        let mut original = state(Quirk::None, &[b"b", b"a"]);
        let (root, tree) = original.checkpoint();
        let mut copy = state(Quirk::None, &[b"x"]);
        copy.install(Seq(2), &tree).unwrap();
        assert_eq!(copy.service().told, [0]);
        assert_eq!(copy.checkpoint().0, root);
        copy.install(Seq(2), &tree).unwrap();
        assert_eq!(copy.service().told, [], "it has them all");
        for state in [&mut original, &mut copy] {
            execute(state, 3, b"c");
        }
        assert_eq!(copy.checkpoint().0, original.checkpoint().0);
        assert_ne!(copy.checkpoint().0, root);
        assert_eq!(copy.service().tape, b"bac");
    }

    #[test]
    fn what_can_not_be_installed_is_named_and_changes_nothing() {
        let (_, tree) = state(Quirk::None, &[b"b", b"a"]).checkpoint();
        for quirk in [Quirk::RefusesPages, Quirk::IsNotCanonical] {
            let is_refused = quirk == Quirk::RefusesPages;
            let mut own = state(quirk, &[b"x"]);
            let before = own.checkpoint().0;
            match own.install(Seq(2), &tree).unwrap_err() {
                StateError::Service(error) => assert!(is_refused && error.reason == "no"),
                StateError::Digest { expected, .. } => {
                    assert!(!is_refused && expected == Pages::split(&tree).0.refresh());
                }
                other => panic!("unexpected {other}"),
            }
            assert_eq!((own.checkpoint().0, own.executed()), (before, Seq(1)));
        }
        let mut own = state(Quirk::None, &[b"x"]);
        let wrong = StateError::Seq { actual: Seq(2), expected: Seq(3) };
        assert_eq!(own.install(Seq(3), &tree), Err(wrong));
        let mut headless = tree.clone();
        headless.remove(HEADER_PAGE);
        assert!(matches!(own.install(Seq(2), &headless), Err(StateError::Engine(_))));
        let mut without_service = tree;
        without_service.remove(0);
        assert!(matches!(own.install(Seq(2), &without_service), Err(StateError::Service(_))));
        assert_eq!(own.service().tape, b"x");
    }

    /// A page for each key, in memory that it shares with its checkpoints, as the key-value store has it.
    #[derive(Default)]
    struct Drawers {
        drawers: BTreeMap<u32, Page>,
        dirty: BTreeSet<u32>,
    }

    impl Service for Drawers {
        /// Fills a drawer, or empties it.
        fn execute(&mut self, operation: &[u8], _: &Context) -> Outcome {
            let (index, content) = (u32::from(operation[0]), &operation[1..]);
            match content {
                [] => drop(self.drawers.remove(&index)),
                _ => drop(self.drawers.insert(index, content.into())),
            }
            self.dirty.insert(index);
            Outcome::default()
        }

        fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
            None
        }

        fn save(&mut self, pages: &mut Pages) {
            for index in core::mem::take(&mut self.dirty) {
                match self.drawers.get(&index) {
                    Some(page) => pages.set(index, page.clone()),
                    None => pages.remove(index),
                }
            }
        }

        fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
            for index in changed {
                match pages.page(*index) {
                    Some(page) => drop(self.drawers.insert(*index, page.clone())),
                    None => drop(self.drawers.remove(index)),
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_page_that_went_bad_and_that_the_group_has_no_more_goes_from_the_service_too() {
        let mut group = State::new(Drawers::default(), None);
        let mut own = State::new(Drawers::default(), None);
        for state in [&mut group, &mut own] {
            execute(state, 1, b"\x01first");
            execute(state, 2, b"\x02second");
        }
        let (_, tree) = own.checkpoint();
        // Memory goes bad: the service and the checkpoints share it.
        own.pages = Pages::split(&tree.with_corrupted_page(2)).0;
        own.service.drawers.insert(2, own.pages.page(2).unwrap().clone());
        execute(&mut group, 3, b"\x02");
        let (root, target) = group.checkpoint();

        own.intact();
        own.install(Seq(3), &target).unwrap();
        assert_eq!(own.checkpoint().0, root);
        assert_eq!(own.service.drawers, group.service.drawers);
    }
}
