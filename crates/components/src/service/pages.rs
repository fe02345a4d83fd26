use super::state::State;
use super::table::ServiceTable;
use althing_replica::{InstallError, MAX_PAGE_BYTES};
use althing_types::{decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// The most bytes that the snapshot of a component may have.
pub const MAX_SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;

/// The most bytes that everything else in the state may have: far above what its parts allow.
const MAX_STATE_BYTES: u64 = 1 << 32;

/// Changes when the meaning of the pages does.
const FORMAT: u8 = 1;

/// Page 0. After it come the pages of the encoded [`State`], then those of the component's
/// snapshot, all full but the last of each.
#[derive(BorshSerialize, BorshDeserialize)]
struct Layout {
    format: u8,
    state_bytes: u64,
    snapshot_bytes: u64,
}

/// The state as pages, and which of them have changed since somebody asked.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    pages: Vec<Vec<u8>>,
    reported: Vec<[u8; 32]>,
}

impl PageCache {
    pub(super) fn fill(&mut self, state: &State, snapshot: &[u8]) {
        let state = encode(state);
        let layout =
            Layout { format: FORMAT, state_bytes: state.len() as u64, snapshot_bytes: snapshot.len() as u64 };
        self.pages.clear();
        self.pages.push(encode(&layout));
        let chunks = state.chunks(MAX_PAGE_BYTES).chain(snapshot.chunks(MAX_PAGE_BYTES));
        self.pages.extend(chunks.map(<[u8]>::to_vec));
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("state and snapshot are bounded")
    }

    pub(super) fn page(&self, index: u32) -> Vec<u8> {
        self.pages[index as usize].clone()
    }

    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let digests: Vec<_> = self.pages.iter().map(|p| *blake3::hash(p).as_bytes()).collect();
        let dirty = (0..)
            .zip(&digests)
            .filter(|&(index, digest)| self.reported.get(index as usize) != Some(digest))
            .map(|(index, _)| index)
            .collect();
        self.reported = digests;
        dirty
    }
}

/// Reads state and snapshot from the pages of another replica.
pub(super) fn parse(pages: &[&[u8]], table: &ServiceTable) -> Result<(State, Vec<u8>), InstallError> {
    let error = |page, reason| Err(InstallError { page, reason });
    let Some(layout) = pages.first() else {
        return error(0, "there are no pages at all");
    };
    let layout = match decode::<Layout>(layout, MAX_PAGE_BYTES) {
        Ok(layout) if layout.format == FORMAT => layout,
        Ok(_) => return error(0, "another format of pages"),
        Err(_) => return error(0, "no layout of pages"),
    };
    if layout.state_bytes > MAX_STATE_BYTES || layout.snapshot_bytes > MAX_SNAPSHOT_BYTES as u64 {
        return error(0, "the layout announces too much");
    }
    let page_bytes = MAX_PAGE_BYTES as u64;
    let state_pages = layout.state_bytes.div_ceil(page_bytes);
    let snapshot_pages = layout.snapshot_bytes.div_ceil(page_bytes);
    if pages.len() as u64 != 1 + state_pages + snapshot_pages {
        return error(0, "the layout announces another number of pages");
    }
    let (state, snapshot) = pages[1..].split_at(state_pages as usize);
    let state = join(state, layout.state_bytes, 1)?;
    let first_snapshot_page = u32::try_from(1 + state_pages).expect("bounded above");
    let snapshot = join(snapshot, layout.snapshot_bytes, first_snapshot_page)?;
    match decode::<State>(&state, state.len()) {
        Ok(state) if state.is_consistent(table) => Ok((state, snapshot)),
        Ok(_) => error(1, "a state of other wires"),
        Err(_) => error(1, "no state of a component service"),
    }
}

/// Joins pages that hold `total` bytes, all full but the last; `first` is the number of the first.
fn join(pages: &[&[u8]], total: u64, first: u32) -> Result<Vec<u8>, InstallError> {
    let mut left = usize::try_from(total).expect("bounded by the caller");
    let mut bytes = Vec::with_capacity(left.min(pages.len() * MAX_PAGE_BYTES));
    for (page, content) in (first..).zip(pages) {
        let expected = left.min(MAX_PAGE_BYTES);
        if content.len() != expected {
            return Err(InstallError { page, reason: "the page has another length than the layout says" });
        }
        bytes.extend_from_slice(content);
        left -= expected;
    }
    Ok(bytes)
}
