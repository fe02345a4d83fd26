//! What a witness has of the state: which request of each client is done, the agreed values, and the members. It
//! follows from the order alone, so the engine takes it down without the service.
//!
//! Its pages are no part of the group's state: clients' slots lie there without what requests gave. On disk another
//! page says what the group's state is at that checkpoint.

use crate::client_table::ClientTable;
use crate::execution::{Header, State, StateError, read_engine};
use crate::kept::KeptState;
use crate::pages::PageTree;
use crate::replica::Replica;
use crate::tentative::History;
use crate::transfer::{Scope, Transfer};
use crate::{MAX_PAGES, Output, Pages, Report, Service};
use alloc::vec::Vec;
use althing_protocol::Protocol;
use althing_types::{Digest, Instant, Seq, decode, encode};

/// Where the digest of the group's state lies among the pages on a witness's disk.
const GROUP_PAGE: u32 = MAX_PAGES + 2;

/// The pages as they lie on disk, at a checkpoint where the group's state has this digest.
pub(crate) fn named(tree: &PageTree, state: Digest) -> PageTree {
    let mut named = tree.clone();
    named.set(GROUP_PAGE, encode(&state));
    named.refresh();
    named
}

/// The digest of the group's state, where these are a witness's pages from its disk.
pub(crate) fn name_of(tree: &PageTree) -> Option<Digest> {
    decode(tree.page(GROUP_PAGE)?, Digest::NULL.0.len()).ok()
}

impl<S: Service> State<S> {
    /// From here on it is a witness's, or not any more: then it holds nothing, as that of one that is new in its epoch,
    /// and is to be fetched before anything is executed.
    pub(crate) fn set_hollow(&mut self, is_hollow: bool) {
        match (self.is_hollow, is_hollow) {
            (false, true) => {
                self.forget_service();
                let (_, engine) = Pages::split(&self.checkpoint().1);
                let table = ClientTable::restore_numbers(&engine, self.table.len());
                self.table = table.expect("the table's pages were just written");
                self.engine = PageTree::default();
            }
            (true, false) => {
                (self.header, self.table) = (Header::default(), ClientTable::default());
                self.engine = PageTree::default();
            }
            (true, true) | (false, false) => {}
        }
        self.is_hollow = is_hollow;
    }

    /// Has the service let go of what it holds. One that does not take an empty state keeps what it has, for nothing.
    fn forget_service(&mut self) {
        self.service.save(&mut self.pages);
        let held: Vec<u32> = self.pages.iter().map(|(index, _)| index).collect();
        let none = Pages::default();
        if !held.is_empty() && self.service.install(&none, &held).is_ok() {
            self.pages = none;
            self.service.save(&mut self.pages);
        }
        self.spoilt.clear();
    }

    /// As [`State::install`] does it for a witness: from the group's pages, or from those of a witness.
    pub(crate) fn install_hollow(&mut self, seq: Seq, tree: &PageTree) -> Result<(), StateError> {
        let (_, engine) = Pages::split(tree);
        let (header, table) = read_engine(seq, &engine, ClientTable::restore_numbers)?;
        let succession = self.read_succession(&engine)?;
        (self.header, self.table, self.succession) = (header, table, succession);
        self.engine = PageTree::default();
        Ok(())
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Whether it agrees on the order and executes nothing: it holds no state of the service.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.protocol.is_witness()
    }

    /// Fetches the whole state, to execute on.
    pub(crate) fn stand_in(&mut self, now: Instant, seq: Seq, state: Digest, outputs: &mut Vec<Output>) {
        match &self.transfer {
            None => {
                let first_ticket = self.next_ticket.max(now.0);
                let (place, timeout) = ((self.me, self.quorums), self.limits.settings().transfer_timeout);
                let (target, base) = ((seq, state), PageTree::default());
                self.transfer =
                    Some(Transfer::within(Scope::Whole, place, timeout, target, base, first_ticket));
                outputs.push(Output::Report(Report::TransferStarted { seq }));
            }
            Some(_) if self.is_about_to_stand_in() => self.retarget(seq, state),
            Some(_) => {}
        }
    }

    /// Whether this witness is fetching the whole state.
    pub(crate) fn is_about_to_stand_in(&self) -> bool {
        let is_whole = |transfer: &Transfer| transfer.scope() == Scope::Whole;
        self.is_witness() && self.transfer.as_ref().is_some_and(is_whole)
    }

    /// Goes for a later checkpoint, if it is one.
    pub(crate) fn retarget(&mut self, seq: Seq, state: Digest) {
        if let Some(transfer) = self.transfer.as_mut().filter(|transfer| seq > transfer.target().0) {
            transfer.retarget(seq, state);
        }
    }

    /// The protocol's instance is another one: in that this replica may be a witness, or not any more.
    pub(crate) fn take_role(&mut self) {
        let is_witness = self.is_witness();
        self.state.set_hollow(is_witness);
        if is_witness {
            // Nothing is tentative here.
            self.history = History::default();
            self.salvaged = None;
        }
    }

    /// Goes on from what was on disk. A witness's pages are worth nothing to who executes: it is as one that was
    /// behind when its epoch began.
    pub(crate) fn resume_state(
        &mut self,
        kept: KeptState,
        (state, tree): (Digest, PageTree),
    ) -> Result<(), StateError> {
        let seq = kept.seq();
        let group = name_of(&tree);
        if group.is_some() && !self.is_witness() {
            self.salvage(kept);
            self.salvaged = None;
            return Ok(());
        }
        self.state.install(seq, &tree)?;
        match group {
            Some(group) => self.checkpoints.reset_hollow(seq, group, tree),
            None => self.checkpoints.reset(seq, state, tree),
        }
        self.kept = Some(kept);
        Ok(())
    }
}

#[cfg(test)]
#[path = "hollow_tests.rs"]
mod tests;
