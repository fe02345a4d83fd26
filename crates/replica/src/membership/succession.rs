use super::{Membership, ReconfigureOutcome, Refusal, SignedReconfigure};
use crate::{MAX_PAGE_BYTES, MAX_PAGES};
use alloc::vec::Vec;
use althing_types::{GroupId, decode, encode};

/// Where the memberships lie in the index space of the page tree.
pub(crate) const SUCCESSION_PAGE: u32 = MAX_PAGES + 1;

/// The longest command: as many changes as there can be replicas.
const MAX_COMMAND_BYTES: usize = MAX_PAGE_BYTES / 2;

/// The present membership, and the next one if the epoch is about to end: a part of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Succession {
    root: GroupId,
    /// What the protocol allows.
    most_members: usize,
    current: Membership,
    next: Option<Membership>,
}

impl Succession {
    pub(crate) fn new(root: GroupId, most_members: usize, current: Membership) -> Self {
        Self { root, most_members, current, next: None }
    }

    pub(crate) fn current(&self) -> &Membership {
        &self.current
    }

    /// Whether the epoch ends at the next checkpoint.
    pub(crate) fn is_ending(&self) -> bool {
        self.next.is_some()
    }

    /// Executes a command.
    pub(crate) fn execute(&mut self, operation: &[u8]) -> ReconfigureOutcome {
        if let Some(next) = &self.next {
            return Err(Refusal::UnderWay(next.epoch));
        }
        let signed: SignedReconfigure =
            decode(operation, MAX_COMMAND_BYTES).map_err(|_| Refusal::Malformed)?;
        signed.authorise(self.root, &self.current)?;
        let next = signed.command.apply(&self.current)?;
        if next.members.len() > self.most_members {
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let (n, most) = (number(next.members.len()), number(self.most_members));
            return Err(Refusal::TooManyMembers { n, most });
        }
        self.next = Some(next.clone());
        Ok(next)
    }

    /// A checkpoint is made: what was to come is there.
    pub(crate) fn on_checkpoint(&mut self) {
        if let Some(next) = self.next.take() {
            self.current = next;
        }
    }

    /// Its page.
    pub(crate) fn to_page(&self) -> Vec<u8> {
        encode(&(&self.current, &self.next))
    }

    /// What a page says, if it is one.
    pub(crate) fn read_page(page: &[u8]) -> Option<(Membership, Option<Membership>)> {
        let (current, next): (Membership, Option<Membership>) = decode(page, MAX_PAGE_BYTES).ok()?;
        let is_good = |membership: &Membership| membership.check().is_ok();
        (is_good(&current) && next.iter().all(is_good)).then_some((current, next))
    }

    /// This, with what a page says.
    pub(crate) fn restored(&self, page: &[u8]) -> Result<Self, &'static str> {
        let (current, next) = Self::read_page(page).ok_or("the page of the memberships is malformed")?;
        Ok(Self { current, next, ..self.clone() })
    }
}
