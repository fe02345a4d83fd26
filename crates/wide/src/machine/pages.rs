use super::{Core, LogicalMachine};
use alloc::vec::Vec;
use althing_protocol::Replicable;
use althing_replica::{InstallError, MAX_PAGE_BYTES, OWN_PAGES, Pages, Service};
use althing_types::{decode, encode};

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// Shows the state: that of the sites as [`Nested`](althing_replica::Nested) does, and the rest in one piece.
    pub(super) fn save_pages(&mut self, pages: &mut Pages) {
        self.nested.save(pages);
        let encoded = encode(&self.core);
        let mut place = OWN_PAGES.start;
        for chunk in encoded.chunks(MAX_PAGE_BYTES) {
            pages.set(place, chunk);
            place += 1;
        }
        let taken = place - OWN_PAGES.start;
        for place in (OWN_PAGES.start..).skip(taken as usize).take(self.shown.saturating_sub(taken) as usize)
        {
            pages.remove(place);
        }
        self.shown = taken;
    }

    /// Becomes the state that `pages` show.
    ///
    /// # Errors
    /// When they are no state of a logical machine; nothing is changed then.
    pub(super) fn install_pages(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        let chunks = OWN_PAGES.map_while(|place| pages.page(place));
        let chunks: Vec<&[u8]> = chunks.map(|page| &page[..]).collect();
        let wrong = InstallError { page: OWN_PAGES.start, reason: "it is no state of a logical machine" };
        let mut core: Core<P> = decode(&chunks.concat(), usize::MAX).map_err(|_| wrong)?;
        core.protocol.vouch();
        self.nested.install(core.executed, pages, changed)?;
        self.shown = u32::try_from(chunks.len()).expect("there are fewer pages than that");
        self.core = core;
        self.installed = self.core.executed;
        self.lives += 1;
        self.checkpoints.clear();
        self.checkpoints.insert(self.core.executed, self.nested.checkpoint());
        self.gather_again();
        self.forget_what_is_ahead();
        Ok(())
    }
}
