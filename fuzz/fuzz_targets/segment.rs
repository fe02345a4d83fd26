//! What a segment says of pages: anything, and entries that were written.
#![no_main]

use althing_replica::storage::{SegmentContent, decode_entries};
use althing_replica::{MAX_PAGE_BYTES, Page};
use althing_types::Digest;
use libfuzzer_sys::fuzz_target;

/// Length of a chunk's header in bytes.
const HEADER: usize = 8;

/// What is written of each page, by number.
type Pages = Vec<(u32, Option<Vec<u8>>)>;

fuzz_target!(|input: (Pages, &[u8])| {
    let (pages, anything) = input;
    if let Some(entries) = decode_entries(anything) {
        let len = |page: &Option<Page>| HEADER + page.as_ref().map_or(0, |page| page.len());
        assert_eq!(entries.iter().map(|(_, page)| len(page)).sum::<usize>(), anything.len());
        assert!(
            entries.iter().all(|(_, page)| page.as_ref().is_none_or(|page| page.len() <= MAX_PAGE_BYTES))
        );
    }
    let entries: Vec<_> = pages.into_iter().map(|(index, page)| (index, page.map(Page::from))).collect();
    if entries.iter().any(|(_, page)| page.as_ref().is_some_and(|page| page.len() > MAX_PAGE_BYTES)) {
        return;
    }
    let content = SegmentContent::new(1, 0, Digest([0; 32]), entries.clone());
    let chunks: Vec<_> = content.pieces().skip(1).collect();
    let read = chunks.iter().flat_map(|chunk| decode_entries(&chunk[HEADER..]).expect("it was written"));
    assert_eq!(read.collect::<Vec<_>>(), entries);
});
