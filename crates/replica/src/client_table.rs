//! The last request of each client and its reply: part of the replicated state, so that exactly-once
//! execution survives checkpoints, restarts and state transfer (PBFT §4.1).
//!
//! Each client has a slot, given out in the order in which clients first appear, and so equal at
//! all replicas. Slots lie on pages of [`SLOTS_PER_PAGE`]; a reply too long to lie there is spilled to
//! pages that belong to its slot alone. A reply thus dirties its own pages only.

use crate::MAX_PAGE_BYTES;
use crate::frame::ReplyOutcome;
use crate::pages::PageTree;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{ClientId, RequestNumber, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};

const SLOTS_PER_PAGE: u32 = 16;
/// Replies up to here lie in the slot itself: sixteen of them fit on a page.
const MAX_INLINE_BYTES: usize = 3 * 1024;
const CHUNKS_PER_SLOT: u32 = 32;

/// The longest reply that fits into a slot's pages.
pub(crate) const MAX_REPLY_BYTES: usize = CHUNKS_PER_SLOT as usize * MAX_PAGE_BYTES;

/// Where slots lie in the index space of the page tree.
const SLOT_PAGES: u32 = 0x9000_0000;
/// Where spilled replies lie.
const SPILL_PAGES: u32 = 0xa000_0000;
/// As many slots as both regions have room for.
const MAX_SLOTS: u32 = (u32::MAX - SPILL_PAGES) / CHUNKS_PER_SLOT;

/// A slot as it stands on its page.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct SlotRecord {
    client: ClientId,
    number: RequestNumber,
    reply: ReplyRecord,
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
enum ReplyRecord {
    Inline(ReplyOutcome),
    /// A result of so many bytes, on the slot's spill pages.
    Spilled(u32),
    /// It comes later.
    Awaited,
}

#[derive(Debug)]
struct Slot {
    client: ClientId,
    number: RequestNumber,
    /// `None` where it comes later.
    outcome: Option<ReplyOutcome>,
}

/// What a client's number means.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Newer than anything executed.
    New,
    /// The last one executed, and its reply.
    Last(&'a ReplyOutcome),
    /// The last one executed, whose reply comes later.
    Awaited,
    /// Older than the last one executed, which was this.
    Old(RequestNumber),
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct ClientTable {
    slots: Vec<Slot>,
    index: BTreeMap<ClientId, u32>,
    dirty: BTreeSet<u32>,
}

impl ClientTable {
    /// Clients that have had a request executed.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("slots are bounded below u32::MAX")
    }

    /// What `number` means, coming from `client`.
    pub(crate) fn standing(&self, client: ClientId, number: RequestNumber) -> Standing<'_> {
        let Some(slot) = self.index.get(&client) else {
            return Standing::New;
        };
        let slot = &self.slots[*slot as usize];
        match number.cmp(&slot.number) {
            core::cmp::Ordering::Greater => Standing::New,
            core::cmp::Ordering::Equal => slot.outcome.as_ref().map_or(Standing::Awaited, Standing::Last),
            core::cmp::Ordering::Less => Standing::Old(slot.number),
        }
    }

    /// Takes down that `number` was executed.
    pub(crate) fn record(&mut self, client: ClientId, number: RequestNumber, outcome: Option<ReplyOutcome>) {
        let next = self.len();
        let slot = *self.index.entry(client).or_insert(next);
        if slot == next {
            assert!(slot < MAX_SLOTS, "the client table has room for {MAX_SLOTS} clients");
            self.slots.push(Slot { client, number, outcome });
        } else {
            let entry = &mut self.slots[slot as usize];
            entry.number = number;
            entry.outcome = outcome;
        }
        self.dirty.insert(slot);
    }

    /// Takes down what `number` gave, if the client waits for it; says whether it does.
    pub(crate) fn settle(&mut self, client: ClientId, number: RequestNumber, outcome: ReplyOutcome) -> bool {
        let Some(slot) = self.index.get(&client).copied() else { return false };
        let entry = &mut self.slots[slot as usize];
        if entry.number != number || entry.outcome.is_some() {
            return false;
        }
        entry.outcome = Some(outcome);
        self.dirty.insert(slot);
        true
    }

    /// The last request executed of each client.
    pub(crate) fn executed(&self) -> Vec<(ClientId, RequestNumber)> {
        self.index.iter().map(|(client, slot)| (*client, self.slots[*slot as usize].number)).collect()
    }

    /// Brings the table's pages in `tree` up to date.
    pub(crate) fn flush(&mut self, tree: &mut PageTree) {
        let dirty = core::mem::take(&mut self.dirty);
        let pages: BTreeSet<u32> = dirty.iter().map(|slot| slot / SLOTS_PER_PAGE).collect();
        for page in pages {
            tree.set(SLOT_PAGES + page, self.slot_page(page));
        }
        for slot in dirty {
            self.flush_spill(slot, tree);
        }
    }

    fn slot_page(&self, page: u32) -> Vec<u8> {
        let first = (page * SLOTS_PER_PAGE) as usize;
        let records: Vec<SlotRecord> = self.slots[first..]
            .iter()
            .take(SLOTS_PER_PAGE as usize)
            .map(|slot| SlotRecord {
                client: slot.client,
                number: slot.number,
                reply: match (spilled(slot.outcome.as_ref()), &slot.outcome) {
                    (Some(result), _) => {
                        ReplyRecord::Spilled(u32::try_from(result.len()).expect("replies are bounded"))
                    }
                    (None, Some(outcome)) => ReplyRecord::Inline(outcome.clone()),
                    (None, None) => ReplyRecord::Awaited,
                },
            })
            .collect();
        encode(&records)
    }

    fn flush_spill(&self, slot: u32, tree: &mut PageTree) {
        let result = spilled(self.slots[slot as usize].outcome.as_ref()).unwrap_or_default();
        let mut chunks = result.chunks(MAX_PAGE_BYTES);
        for page in spill_pages(slot) {
            match chunks.next() {
                Some(chunk) => tree.set(page, chunk),
                None => tree.remove(page),
            }
        }
    }

    /// The table of `clients` slots that lies in `tree`, or why there is none.
    pub(crate) fn restore(tree: &PageTree, clients: u32) -> Result<Self, &'static str> {
        Self::restore_with(tree, clients, |slot, reply| match reply {
            ReplyRecord::Inline(outcome) => Ok(Some(outcome)),
            ReplyRecord::Spilled(bytes) => Ok(Some(ReplyOutcome::Result(unspill(tree, slot, bytes)?))),
            ReplyRecord::Awaited => Ok(None),
        })
    }

    /// The same without what requests gave: all that lies on the pages of slots alone. It is to be flushed anew.
    pub(crate) fn restore_numbers(tree: &PageTree, clients: u32) -> Result<Self, &'static str> {
        let mut table = Self::restore_with(tree, clients, |_, _| Ok(None))?;
        table.dirty.extend(0..clients);
        Ok(table)
    }

    /// Whether a page of the engine's belongs to the slots, and not to what is spilled from them, or lies before.
    pub(crate) fn is_without_spills(page: u32) -> bool {
        page < SPILL_PAGES
    }

    fn restore_with(
        tree: &PageTree,
        clients: u32,
        outcome: impl Fn(u32, ReplyRecord) -> Result<Option<ReplyOutcome>, &'static str>,
    ) -> Result<Self, &'static str> {
        let mut table = Self::default();
        for page in 0..clients.div_ceil(SLOTS_PER_PAGE) {
            let bytes = tree.page(SLOT_PAGES + page).ok_or("a page of the client table is missing")?;
            let records: Vec<SlotRecord> =
                decode(bytes, MAX_PAGE_BYTES).map_err(|_| "a page of the client table is malformed")?;
            for record in records {
                let slot = table.len();
                let SlotRecord { client, number, reply } = record;
                let outcome = outcome(slot, reply)?;
                if table.index.insert(client, slot).is_some() {
                    return Err("the client table has a client twice");
                }
                table.slots.push(Slot { client, number, outcome });
            }
        }
        if table.len() != clients {
            return Err("the client table has not as many clients as it says");
        }
        Ok(table)
    }
}

/// The result that has to be spilled, if it has to.
fn spilled(outcome: Option<&ReplyOutcome>) -> Option<&[u8]> {
    match outcome {
        Some(ReplyOutcome::Result(result)) if result.len() > MAX_INLINE_BYTES => Some(result),
        _ => None,
    }
}

fn spill_pages(slot: u32) -> impl Iterator<Item = u32> {
    let first = SPILL_PAGES + slot * CHUNKS_PER_SLOT;
    first..first + CHUNKS_PER_SLOT
}

fn unspill(tree: &PageTree, slot: u32, bytes: u32) -> Result<Vec<u8>, &'static str> {
    let mut result = Vec::new();
    for page in spill_pages(slot) {
        match tree.page(page) {
            Some(chunk) => result.extend_from_slice(chunk),
            None => break,
        }
    }
    if result.len() != bytes as usize {
        return Err("a long reply is not as long as it says");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = ReplyOutcome> {
        let lengths = prop_oneof![
            4 => 0usize..20,
            1 => MAX_INLINE_BYTES - 1..MAX_INLINE_BYTES + 2,
            1 => MAX_PAGE_BYTES - 1..MAX_PAGE_BYTES + 2,
            1 => Just(MAX_REPLY_BYTES),
        ];
        prop_oneof![
            9 => (lengths, any::<u8>()).prop_map(|(n, b)| ReplyOutcome::Result(alloc::vec![b; n])),
            1 => any::<u64>().prop_map(|bytes| ReplyOutcome::TooLong { bytes }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_table_survives_its_pages(
            steps in proptest::collection::vec(
                (0u64..40, proptest::option::weighted(0.9, outcome()), any::<bool>()), 0..60,
            ),
        ) {
            let (mut table, mut tree) = (ClientTable::default(), PageTree::default());
            for (i, (client, outcome, is_flushed)) in steps.into_iter().enumerate() {
                table.record(ClientId(client), RequestNumber(i as u64), outcome);
                if is_flushed {
                    table.flush(&mut tree);
                }
            }
            table.flush(&mut tree);
            prop_assert!(tree.pages().iter().all(|(_, bytes)| bytes.len() <= MAX_PAGE_BYTES));

            let mut again = ClientTable::restore(&tree, table.len()).unwrap();
            prop_assert_eq!(again.executed(), table.executed());
            again.dirty = (0..again.len()).collect();
            let mut fresh = PageTree::default();
            again.flush(&mut fresh);
            prop_assert_eq!(fresh.refresh(), tree.refresh());
        }
    }

    #[test]
    fn numbers_are_new_last_or_old() {
        let mut table = ClientTable::default();
        let (client, reply) = (ClientId(4), ReplyOutcome::Result(alloc::vec![1]));
        assert_eq!(table.standing(client, RequestNumber(0)), Standing::New);
        table.record(client, RequestNumber(7), Some(reply.clone()));
        assert_eq!(table.standing(client, RequestNumber(6)), Standing::Old(RequestNumber(7)));
        assert_eq!(table.standing(client, RequestNumber(7)), Standing::Last(&reply));
        assert_eq!(table.standing(client, RequestNumber(8)), Standing::New);
        assert_eq!(table.standing(ClientId(5), RequestNumber(1)), Standing::New);
    }

    #[test]
    fn a_late_result_is_taken_once_and_by_who_still_waits_for_it() {
        let mut table = ClientTable::default();
        let (client, reply) = (ClientId(4), ReplyOutcome::Result(alloc::vec![1]));
        assert!(!table.settle(client, RequestNumber(7), reply.clone()), "it has asked for nothing");
        table.record(client, RequestNumber(7), None);
        assert_eq!(table.standing(client, RequestNumber(7)), Standing::Awaited);
        assert!(table.settle(client, RequestNumber(7), reply.clone()));
        assert_eq!(table.standing(client, RequestNumber(7)), Standing::Last(&reply));
        assert!(!table.settle(client, RequestNumber(7), ReplyOutcome::Result(alloc::vec![2])));
        table.record(client, RequestNumber(8), None);
        assert!(!table.settle(client, RequestNumber(7), reply), "it has gone on");
        assert_eq!(table.standing(client, RequestNumber(8)), Standing::Awaited);
    }
}
