use super::{Membership, ReconfigureOutcome, Reconfigured, Refusal, SignedReconfigure};
use crate::{MAX_PAGE_BYTES, MAX_PAGES};
use alloc::vec::Vec;
use althing_types::{GroupId, decode, encode};

/// Where the memberships lie in the index space of the page tree.
pub(crate) const SUCCESSION_PAGE: u32 = MAX_PAGES + 1;

/// The longest command: as many changes as there can be replicas.
const MAX_COMMAND_BYTES: usize = MAX_PAGE_BYTES / 2;

/// What a page says: the present membership and the command that made it one, and the next if the epoch is
/// about to end.
type Page = (Membership, Option<SignedReconfigure>, Option<(Membership, SignedReconfigure)>);

/// The present membership, and the next one if the epoch is about to end: a part of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Succession {
    root: GroupId,
    current: Membership,
    /// The command that says so, for who knows the one before; `None` for the first.
    command: Option<SignedReconfigure>,
    next: Option<(Membership, SignedReconfigure)>,
}

impl Succession {
    pub(crate) fn new(root: GroupId, current: Membership) -> Self {
        Self { root, current, command: None, next: None }
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
        if let Some((next, _)) = &self.next {
            return Err(Refusal::UnderWay(next.epoch));
        }
        let signed: SignedReconfigure =
            decode(operation, MAX_COMMAND_BYTES).map_err(|_| Refusal::Malformed)?;
        signed.authorise(self.root, &self.current)?;
        let next = signed.command.apply(&self.current)?;
        self.next = Some((next.clone(), signed));
        Ok(Reconfigured { before: self.current.clone(), next })
    }

    /// A checkpoint is made: what was to come is there.
    pub(crate) fn on_checkpoint(&mut self) {
        if let Some((next, command)) = self.next.take() {
            (self.current, self.command) = (next, Some(command));
        }
    }

    /// Its page.
    pub(crate) fn to_page(&self) -> Vec<u8> {
        encode(&(&self.current, &self.command, &self.next))
    }

    fn read_page(page: &[u8]) -> Option<Page> {
        let (current, command, next): Page = decode(page, MAX_PAGE_BYTES).ok()?;
        let is_good = |membership: &Membership| membership.check().is_ok();
        let are_good = is_good(&current) && next.iter().all(|(next, _)| is_good(next));
        are_good.then_some((current, command, next))
    }

    /// The membership that a page says follows `present`, if an administrator of that has said so.
    pub(super) fn follower(page: &[u8], root: GroupId, present: &Membership) -> Option<Membership> {
        let (next, command, _) = Self::read_page(page)?;
        let signed = command?;
        signed.authorise(root, present).ok()?;
        (signed.command.apply(present).as_ref() == Ok(&next)).then_some(next)
    }

    /// This, with what a page says.
    pub(crate) fn restored(&self, page: &[u8]) -> Result<Self, &'static str> {
        let (current, command, next) =
            Self::read_page(page).ok_or("the page of the memberships is malformed")?;
        Ok(Self { current, command, next, ..self.clone() })
    }
}
