use super::*;
use crate::{Context, InstallError, Outcome, Page};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use althing_protocol::{Answers, Batch, Decision, Request, RequestAuth, RequestKind};
use althing_types::{ClientId, Epoch, Instant, RequestNumber, View};

/// A page for each operation, which gives itself back.
#[derive(Default)]
struct Shelf {
    pages: BTreeMap<u32, Page>,
    takes_nothing: bool,
}

impl Service for Shelf {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        self.pages.insert(context.seq.0 as u32, operation.into());
        operation.to_vec().into()
    }

    fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
        None
    }

    fn save(&mut self, pages: &mut Pages) {
        for (index, page) in &self.pages {
            pages.set(*index, page.clone());
        }
    }

    fn install(&mut self, pages: &Pages, _: &[u32]) -> Result<(), InstallError> {
        if self.takes_nothing && pages.iter().next().is_none() {
            return Err(InstallError { page: 0, reason: "it is never empty" });
        }
        self.pages = pages.iter().map(|(index, page)| (index, page.clone())).collect();
        Ok(())
    }
}

fn decision(seq: u64, client: u64, number: u64) -> Decision {
    let request = Request {
        client: ClientId(client),
        number: RequestNumber(number),
        kind: RequestKind::Service,
        epoch: Epoch(0),
        // As long as it takes to be spilled.
        operation: vec![seq as u8; if client == 2 { 60_000 } else { 10 }],
        answers: Answers::All,
        auth: RequestAuth::Macs(althing_crypto::Authenticator(vec![])),
        is_authentic: true,
    };
    let batch = Arc::new(Batch { time: Instant(seq), requests: vec![request] });
    let (digest, view) = (batch.digest(), View(0));
    Decision { seq: Seq(seq), view, digest, batch, is_checkpoint: true, is_eager: false }
}

/// Executes these, of which some were executed before.
fn execute(state: &mut State<Shelf>, seqs: core::ops::RangeInclusive<u64>) -> Vec<(ClientId, RequestNumber)> {
    let mut done = vec![];
    for seq in seqs {
        let effects = state.execute(&decision(seq, seq % 3, seq / 2), 1 << 20);
        done.extend(effects.iter().map(|effect| (effect.client, effect.number)));
    }
    done
}

fn executor() -> State<Shelf> {
    State::new(Shelf::default(), None)
}

fn witness() -> State<Shelf> {
    let mut witness = executor();
    witness.is_hollow = true;
    witness
}

#[test]
fn a_witness_takes_down_what_executors_execute() {
    let (mut executor, mut witness) = (executor(), witness());
    assert_eq!(execute(&mut executor, 1..=20), execute(&mut witness, 1..=20));
    assert_eq!(executor.table.executed(), witness.table.executed());
    assert!(witness.service.pages.is_empty());
    let bytes = |tree: &PageTree| tree.pages().iter().map(|(_, page)| page.len()).sum::<usize>();
    let (large, small) = (bytes(&executor.checkpoint().1), bytes(&witness.checkpoint().1));
    assert_eq!(executor.header, witness.header);
    assert!(small < 300 && large > 60_000, "{small} and {large}");
}

#[test]
fn it_goes_on_from_a_state_of_the_group_and_from_its_own() {
    let (mut executor, mut first) = (executor(), witness());
    execute(&mut executor, 1..=10);
    let (_, of_the_group) = executor.checkpoint();
    first.install(Seq(10), &of_the_group).unwrap();
    assert!(first.service.pages.is_empty());
    let (digest, own) = first.checkpoint();
    let mut again = witness();
    again.install(Seq(10), &named(&own, Digest([7; 32]))).unwrap();
    assert_eq!(again.checkpoint().0, digest, "what lies on disk beside it is not its own");
    let mut through = witness();
    execute(&mut through, 1..=10);
    assert_eq!(through.checkpoint().0, digest, "as if it had been there from the start");
    let done = execute(&mut executor, 11..=20);
    for witness in [&mut first, &mut again] {
        assert_eq!(execute(witness, 11..=20), done);
    }
    assert_eq!(first.install(Seq(11), &own), Err(StateError::Seq { actual: Seq(10), expected: Seq(11) }));
}

#[test]
fn who_becomes_a_witness_lets_go_of_the_state_and_who_ceases_to_be_one_has_nothing() {
    for takes_nothing in [false, true] {
        let mut state = executor();
        state.service.takes_nothing = takes_nothing;
        execute(&mut state, 1..=10);
        let (root, whole) = state.checkpoint();
        state.set_hollow(true);
        assert_eq!(state.service.pages.is_empty(), !takes_nothing);
        assert_eq!((state.executed(), state.table.len()), (Seq(10), 3));
        let mut other = witness();
        execute(&mut other, 1..=10);
        assert_eq!(state.checkpoint().0, other.checkpoint().0);
        assert_eq!(execute(&mut state, 11..=12), execute(&mut other, 11..=12));
        state.set_hollow(false);
        assert_eq!((state.executed(), state.table.len()), (Seq(0), 0));
        state.install(Seq(10), &whole).unwrap();
        assert_eq!(state.checkpoint().0, root);
        assert_eq!(state.service.pages.len(), 10);
    }
}

#[test]
fn pages_on_disk_say_whose_they_are() {
    let (mut executor, mut witness) = (executor(), witness());
    execute(&mut executor, 1..=4);
    execute(&mut witness, 1..=4);
    let (root, whole) = executor.checkpoint();
    assert_eq!(name_of(&whole), None);
    assert_eq!(name_of(&named(&witness.checkpoint().1, root)), Some(root));
}
