use super::state::State;
use super::table::ServiceTable;
use althing_replica::{InstallError, MAX_PAGE_BYTES, Page, Pages};
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

/// Writes `state` and `snapshot` to `pages`.
pub(super) fn write(state: &State, snapshot: &[u8], pages: &mut Pages) {
    let state = encode(state);
    let layout =
        Layout { format: FORMAT, state_bytes: state.len() as u64, snapshot_bytes: snapshot.len() as u64 };
    pages.set(0, encode(&layout));
    let mut next = 1;
    for chunk in state.chunks(MAX_PAGE_BYTES).chain(snapshot.chunks(MAX_PAGE_BYTES)) {
        pages.set(next, chunk);
        next += 1;
    }
    while pages.page(next).is_some() {
        pages.remove(next);
        next += 1;
    }
}

/// Reads state and snapshot from the pages of another replica.
pub(super) fn parse(pages: &Pages, table: &ServiceTable) -> Result<(State, Vec<u8>), InstallError> {
    let error = |page, reason| Err(InstallError { page, reason });
    let pages: Vec<(u32, &Page)> = pages.iter().collect();
    let layout = match pages.first() {
        Some((0, layout)) => layout,
        _ => return error(0, "there is no first page"),
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
    if let Some((_, (page, _))) = (0..).zip(&pages).find(|(expected, (page, _))| page != expected) {
        return error(*page, "a page before it is missing");
    }
    let (state, snapshot) = pages[1..].split_at(state_pages as usize);
    let state = join(state, layout.state_bytes)?;
    let snapshot = join(snapshot, layout.snapshot_bytes)?;
    match decode::<State>(&state, state.len()) {
        Ok(state) if state.is_consistent(table) => Ok((state, snapshot)),
        Ok(_) => error(1, "a state of other wires"),
        Err(_) => error(1, "no state of a component service"),
    }
}

/// Joins pages that hold `total` bytes, all full but the last.
fn join(pages: &[(u32, &Page)], total: u64) -> Result<Vec<u8>, InstallError> {
    let mut left = usize::try_from(total).expect("bounded by the caller");
    let mut bytes = Vec::with_capacity(left.min(pages.len() * MAX_PAGE_BYTES));
    for (page, content) in pages {
        let expected = left.min(MAX_PAGE_BYTES);
        if content.len() != expected {
            let reason = "the page has another length than the layout says";
            return Err(InstallError { page: *page, reason });
        }
        bytes.extend_from_slice(content);
        left -= expected;
    }
    Ok(bytes)
}
