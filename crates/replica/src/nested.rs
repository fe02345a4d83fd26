//! The engine's state inside the pages of a service: where what is replicated has operations ordered of its own.
//!
//! The pages of a state are numbered up to `u32::MAX`, those of a service below [`MAX_PAGES`]. So both regions of
//! the inner state, that of its service and that of its engine, are moved into smaller ones, and the service
//! around it has one for itself between them.

use crate::client_table::Standing;
use crate::execution::{Effect, State, StateError};
use crate::pages::{Page, PageTree};
use crate::transfer::{Missing, Parts, Want, cut};
use crate::{InstallError, MAX_PAGES, Pages, Service};
use alloc::vec::Vec;
use althing_protocol::Decision;
use althing_types::{ClientId, Digest, Instant, RequestNumber, Seq};
use core::ops::Range;

/// A service that is nested numbers its pages below this.
pub const NESTED_PAGES: u32 = 1 << 29;

/// The pages that the service around it may have for itself.
pub const OWN_PAGES: Range<u32> = NESTED_PAGES..ENGINE_PAGES;

/// Where the pages of the inner engine lie.
const ENGINE_PAGES: u32 = 1 << 30;

/// The state that the batches of an inner protocol are executed on: a service, the exactly-once table of its
/// clients and the agreed values. Its owner is a [`Service`] itself, and keeps it among its own pages.
#[derive(Debug)]
pub struct Nested<S> {
    state: State<S>,
    /// As the owner's pages show it.
    shown: PageTree,
}

impl<S: Service> Nested<S> {
    /// The initial state of `service`.
    pub fn new(service: S) -> Self {
        Self { state: State::new(service, None), shown: PageTree::default() }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &S {
        self.state.service()
    }

    /// The last batch that was executed.
    #[must_use]
    pub fn executed(&self) -> Seq {
        self.state.executed()
    }

    /// The agreed time of that batch.
    #[must_use]
    pub fn time(&self) -> Instant {
        self.state.time()
    }

    /// What this number of a client's means.
    #[must_use]
    pub fn standing(&self, client: ClientId, number: RequestNumber) -> Standing<'_> {
        self.state.table().standing(client, number)
    }

    /// The last request of each client that was executed.
    #[must_use]
    pub fn last_requests(&self) -> Vec<(ClientId, RequestNumber)> {
        self.state.table().executed()
    }

    /// Executes the next batch, and gives back the requests that took effect.
    ///
    /// # Panics
    /// If it is not the next.
    pub fn execute(&mut self, decision: &Decision, max_reply_bytes: usize) -> Vec<Effect> {
        self.state.execute(decision, max_reply_bytes)
    }

    /// The state as it is now, with its digest.
    pub fn checkpoint(&mut self) -> (Digest, StateTree) {
        let (digest, tree) = self.state.checkpoint();
        (digest, StateTree(tree))
    }

    /// Begins to gather the state of this digest, in so far as it differs from the present one.
    pub fn gather(&mut self, state: Digest) -> Gathering {
        let (_, tree) = self.state.checkpoint();
        Gathering { missing: Missing::new(state, tree) }
    }

    /// Becomes the state at `seq` that was gathered.
    ///
    /// # Errors
    /// When it is none of this service; nothing is changed then.
    ///
    /// # Panics
    /// If it is not complete.
    pub fn become_gathered(&mut self, seq: Seq, gathered: &Gathering) -> Result<(), StateError> {
        assert!(gathered.is_complete(), "all of the state has been gathered");
        self.state.install(seq, &gathered.missing.assemble())
    }

    /// As [`Service::save`].
    ///
    /// # Panics
    /// If a page of the service is not below [`NESTED_PAGES`].
    pub fn save(&mut self, pages: &mut Pages) {
        let (_, tree) = self.state.checkpoint();
        self.shown.refresh();
        for index in tree.differing(&self.shown) {
            match tree.page(index) {
                Some(page) => pages.set(outer(index), page.clone()),
                None => pages.remove(outer(index)),
            }
        }
        self.shown = tree;
    }

    /// As [`Service::install`]; of the pages that changed, those in [`OWN_PAGES`] are not looked at. `seq` is the
    /// last batch that this state has executed.
    ///
    /// # Errors
    /// When they are no state of this service at `seq`; the state is then unchanged.
    pub fn install(&mut self, seq: Seq, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        // The owner may have found pages to be bad that are thought to be good here.
        let own = changed.iter().copied().filter(|place| *place < NESTED_PAGES);
        self.state.doubt(own);
        let mut tree = self.shown.clone();
        let mut first = None;
        for (index, place) in changed.iter().filter_map(|place| Some((inner(*place)?, *place))) {
            first = first.or(Some(place));
            match pages.page(place) {
                Some(page) => tree.set(index, Page::clone(page)),
                None => tree.remove(index),
            }
        }
        tree.refresh();
        self.state.install(seq, &tree).map_err(|error| match error {
            StateError::Service(error) => error,
            _ => InstallError {
                page: first.unwrap_or_default(),
                reason: "the inner state does not fit together",
            },
        })?;
        self.shown = tree;
        Ok(())
    }
}

/// A state as it was once, for others who have to get there.
#[derive(Debug, Clone)]
pub struct StateTree(PageTree);

impl StateTree {
    /// What is asked for, as far as it fits into an answer; `None` where it is more than one may ask for, or not
    /// there.
    #[must_use]
    pub fn parts(&self, want: &Want) -> Option<Parts> {
        cut(&self.0, want)
    }
}

/// A state that is fetched from others, none of whom has to be trusted: whatever comes is checked against the digest
/// that it has to have.
#[derive(Debug)]
pub struct Gathering {
    missing: Missing,
}

impl Gathering {
    /// The state that is wanted is this one now. What was gathered and is part of it stays.
    pub fn retarget(&mut self, state: Digest) {
        self.missing.retarget(state);
    }

    /// What to ask for next; `None` when all is there. It follows from what has been taken so far.
    #[must_use]
    pub fn want(&self) -> Option<Want> {
        self.missing.share(1, true).map(|share| share.want())
    }

    /// Takes what answers [`Self::want`]; says whether it did.
    pub fn take(&mut self, parts: Parts) -> bool {
        self.missing.share(1, true).is_some_and(|share| self.missing.take(&share, parts))
    }

    /// Whether all is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_complete()
    }
}

/// Where the owner has page `index` of the inner state.
fn outer(index: u32) -> u32 {
    let (place, region) = match index.checked_sub(MAX_PAGES) {
        None => (index, 0..NESTED_PAGES),
        Some(place) => (place.saturating_add(ENGINE_PAGES), ENGINE_PAGES..MAX_PAGES),
    };
    assert!(region.contains(&place), "page {index} of a nested state is beyond its region");
    place
}

/// Which page of the inner state the owner has in this place, if it is one.
fn inner(place: u32) -> Option<u32> {
    match place {
        _ if place < NESTED_PAGES => Some(place),
        _ if OWN_PAGES.contains(&place) => None,
        _ => Some(place - ENGINE_PAGES + MAX_PAGES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Outcome};
    use alloc::sync::Arc;
    use alloc::vec;
    use althing_crypto::Proof;
    use althing_protocol::{Answers, Batch, Request, RequestAuth, RequestKind};
    use althing_types::{Epoch, View};

    /// Page n holds the last operation of client n.
    #[derive(Debug, Default)]
    struct Last(Pages);

    impl Service for Last {
        fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
            let place = u32::try_from(context.client.0).expect("a small number");
            match operation {
                [] => self.0.remove(place),
                _ => self.0.set(place, operation),
            }
            operation.to_vec().into()
        }

        fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
            None
        }

        fn save(&mut self, pages: &mut Pages) {
            *pages = self.0.clone();
        }

        fn install(&mut self, pages: &Pages, _: &[u32]) -> Result<(), InstallError> {
            self.0 = pages.clone();
            Ok(())
        }
    }

    fn execute(nested: &mut Nested<Last>, client: u64, operation: &[u8]) {
        let seq = nested.executed().next();
        let request = Request {
            client: ClientId(client),
            number: RequestNumber(seq.0),
            kind: RequestKind::Service,
            operation: operation.to_vec(),
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(vec![])),
            is_authentic: true,
        };
        let batch = Arc::new(Batch { time: Instant(seq.0), requests: vec![request] });
        let (view, digest) = (View(0), batch.digest());
        nested
            .execute(&Decision { seq, view, digest, batch, is_checkpoint: false, is_eager: false }, 1 << 16);
    }

    /// The owner's pages, with one of its own.
    fn saved(nested: &mut Nested<Last>, pages: &mut Pages) -> Vec<u32> {
        let mut before = pages.clone();
        nested.save(pages);
        pages.set(OWN_PAGES.start, &nested.executed().0.to_le_bytes()[..]);
        pages.differing(&mut before)
    }

    #[test]
    fn a_state_goes_on_from_the_pages_of_its_owner() {
        let (mut original, mut pages) = (Nested::new(Last::default()), Pages::default());
        let (mut copy, mut copied) = (Nested::new(Last::default()), Pages::default());
        saved(&mut copy, &mut copied);
        // A reply so long lies in pages of its own.
        let long = vec![7; 10_000];
        let steps: [&[(u64, &[u8])]; 3] = [&[(1, b"a"), (2, b"b")], &[(2, b""), (3, &long)], &[]];
        for step in steps {
            step.iter().for_each(|(client, operation)| execute(&mut original, *client, operation));
            saved(&mut original, &mut pages);
            let changed = pages.differing(&mut copied);
            assert_eq!(changed.is_empty(), step.is_empty());
            copy.install(original.executed(), &pages, &changed).unwrap();
            copied = pages.clone();
            assert_eq!(saved(&mut copy, &mut copied), [], "they are shown as they were installed");
            assert_eq!(
                (copy.checkpoint().0, copy.last_requests()),
                (original.checkpoint().0, original.last_requests())
            );
            assert_eq!(copy.service().0, original.service().0);
        }
        execute(&mut copy, 1, b"c");
        execute(&mut original, 1, b"c");
        assert_eq!(copy.checkpoint().0, original.checkpoint().0);
    }

    #[test]
    fn what_is_no_state_changes_nothing() {
        let (mut original, mut pages) = (Nested::new(Last::default()), Pages::default());
        execute(&mut original, 1, b"a");
        let changed = saved(&mut original, &mut pages);
        let mut copy = Nested::new(Last::default());
        let before = copy.checkpoint().0;
        assert!(copy.install(Seq(2), &pages, &changed).is_err(), "it is at 1");
        pages.remove(ENGINE_PAGES);
        assert!(copy.install(Seq(1), &pages, &changed).is_err(), "the header is missing");
        assert_eq!((copy.checkpoint().0, copy.executed()), (before, Seq(0)));
    }

    #[test]
    fn a_state_is_gathered_from_parts_and_from_nothing_else() {
        let (mut original, mut copy) = (Nested::new(Last::default()), Nested::new(Last::default()));
        for client in 1..100 {
            execute(&mut original, client, &vec![1; 600 * client as usize]);
        }
        let (digest, tree) = original.checkpoint();
        let mut gathering = copy.gather(digest);
        assert!(!gathering.take(Parts::Unavailable) && !gathering.take(Parts::Pages(vec![vec![1]])));
        let mut questions = 0;
        while let Some(want) = gathering.want() {
            assert!(!gathering.is_complete());
            let parts = tree.parts(&want).expect("it is part of the state");
            assert!(gathering.take(parts.clone()) && !gathering.take(parts), "once");
            questions += 1;
        }
        assert!(questions > 2, "it is more than one answer holds");
        copy.become_gathered(Seq(99), &gathering).unwrap();
        assert_eq!((copy.checkpoint().0, copy.executed()), (digest, Seq(99)));
        assert!(copy.gather(digest).is_complete(), "it has all of it");
    }

    #[test]
    fn each_page_has_its_place() {
        for index in [0, 1, NESTED_PAGES - 1, MAX_PAGES, 0x9000_0000, 0xa000_0000, 0xbfff_ffff] {
            assert_eq!(inner(outer(index)), Some(index));
            assert!(!OWN_PAGES.contains(&outer(index)));
        }
        assert_eq!(inner(OWN_PAGES.start), None);
    }
}
