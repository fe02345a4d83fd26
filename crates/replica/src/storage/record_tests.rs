use super::*;
use alloc::vec;
use proptest::prelude::*;

const SALT: Salt = *b"\x01salty\xfe\x00";
const LIMIT: usize = 4096;

/// A log created empty, then appended to in groups.
fn log_of(groups: &[&[&[u8]]]) -> Vec<u8> {
    let mut content = encode_file_header(SALT, FILE_HEADER_LEN as u64).to_vec();
    for group in groups {
        let synced = content.len() as u64;
        for record in *group {
            let offset = content.len() as u64;
            encode_record(SALT, offset, synced, record, &mut content);
        }
    }
    content
}

fn bodies<'a>(content: &'a [u8], scan: &Scan) -> Vec<&'a [u8]> {
    scan.records.iter().map(|range| &content[range.clone()]).collect()
}

#[test]
fn what_was_appended_is_read_back() {
    let content = log_of(&[&[b"one", b""], &[b"three"]]);
    let scan = scan(&content, LIMIT).unwrap();
    assert_eq!(bodies(&content, &scan), [&b"one"[..], b"", b"three"]);
    assert_eq!(scan.end, content.len());
}

#[test]
fn a_tail_torn_at_any_byte_is_left_out() {
    let content = log_of(&[&[b"kept"], &[b"this one is cut"]]);
    let kept = log_of(&[&[b"kept"]]).len();
    for cut in kept..content.len() {
        let scan = scan(&content[..cut], LIMIT).unwrap();
        assert_eq!(bodies(&content, &scan), [b"kept"], "cut at {cut}");
        assert_eq!(scan.end, kept);
    }
}

#[test]
fn every_bit_flip_is_an_error_that_names_its_record() {
    let content = log_of(&[&[b"the first"], &[b"the second"], &[b"the last"]]);
    let starts = scan(&content, LIMIT).unwrap().records;
    for bit in 0..content.len() * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = scan(&flipped, LIMIT).unwrap_err();
        if bit / 8 < FILE_HEADER_LEN {
            let expected = matches!(error, ScanError::NotALog | ScanError::FileHeader);
            assert!(expected, "bit {bit}: {error}");
            continue;
        }
        let record = starts.iter().rfind(|r| r.start - RECORD_HEADER_LEN <= bit / 8).unwrap();
        let ScanError::Corrupt { offset, .. } = error else { panic!("bit {bit}: {error}") };
        assert_eq!(offset as usize, record.start - RECORD_HEADER_LEN, "bit {bit}");
    }
}

#[test]
fn unwritten_sectors_of_an_unacknowledged_group_are_a_torn_tail() {
    let long = vec![7; 3 * SECTOR_LEN];
    let content = log_of(&[&[b"kept"], &[&long, b"same group"]]);
    let kept = log_of(&[&[b"kept"]]).len();
    // The power fails when the second record of the group is on the disk, but a sector of the
    // first is not.
    let mut torn = content.clone();
    torn[2 * SECTOR_LEN..3 * SECTOR_LEN].fill(0);
    assert_eq!(scan(&torn, LIMIT).unwrap().end, kept);
    // The same in a group that a later one knew to be durable is damage.
    let mut damaged = log_of(&[&[b"kept"], &[&long, b"same group"], &[b"later"]]);
    damaged[2 * SECTOR_LEN..3 * SECTOR_LEN].fill(0);
    let part = Part::Body;
    assert_eq!(scan(&damaged, LIMIT), Err(ScanError::Corrupt { offset: kept as u64, part }));
}

#[test]
fn zeros_after_the_last_record_are_a_torn_tail() {
    let mut content = log_of(&[&[b"kept"]]);
    let kept = content.len();
    content.resize(kept + 4 * SECTOR_LEN, 0);
    assert_eq!(scan(&content, LIMIT).unwrap().end, kept);
}

#[test]
fn what_a_log_was_created_with_is_never_torn() {
    let mut content = encode_file_header(SALT, 0).to_vec();
    let offset = content.len() as u64;
    encode_record(SALT, offset, offset, b"rewritten", &mut content);
    let whole = content.len() as u64;
    content[..FILE_HEADER_LEN].copy_from_slice(&encode_file_header(SALT, whole));
    assert!(scan(&content, LIMIT).is_ok());
    for cut in FILE_HEADER_LEN..content.len() {
        assert!(scan(&content[..cut], LIMIT).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_record_embedded_in_another_is_not_taken_for_one() {
    // A record made for the place where a peer expects its bytes to land, with a wrong salt.
    let mut forged = Vec::new();
    let body = FILE_HEADER_LEN + RECORD_HEADER_LEN;
    encode_record(*b"guessed!", body as u64, body as u64, b"forged", &mut forged);
    let content = log_of(&[&[&forged]]);
    let mut torn = content[..content.len() - 1].to_vec();
    assert_eq!(scan(&torn, LIMIT).unwrap().end, FILE_HEADER_LEN);
    torn.truncate(FILE_HEADER_LEN + 3);
    assert_eq!(scan(&torn, LIMIT).unwrap().end, FILE_HEADER_LEN);
}

#[test]
fn other_files_and_versions_and_long_records_are_refused() {
    assert_eq!(scan(b"", LIMIT), Err(ScanError::NotALog));
    assert_eq!(scan(b"#!/bin/sh", LIMIT), Err(ScanError::NotALog));
    assert_eq!(scan(&MAGIC, LIMIT), Err(ScanError::FileHeader));
    let mut newer = encode_file_header(SALT, 0);
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..28]);
    newer[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(scan(&newer, LIMIT), Err(ScanError::Version { found: 2 }));
    let long = log_of(&[&[&[1; 100]]]);
    let offset = FILE_HEADER_LEN as u64;
    assert_eq!(scan(&long, 99), Err(ScanError::RecordTooLong { offset, len: 100, limit: 99 }));
}

proptest! {
    #[test]
    fn no_content_panics(tail in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut content = log_of(&[&[b"kept"]]);
        content.extend_from_slice(&tail);
        let _ = scan(&tail, LIMIT);
        let _ = scan(&content, LIMIT);
    }

    #[test]
    fn a_torn_log_keeps_a_prefix(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let groups: Vec<Vec<&[u8]>> = records.iter().map(|r| vec![&r[..]]).collect();
        let groups: Vec<&[&[u8]]> = groups.iter().map(|g| &g[..]).collect();
        let content = log_of(&groups);
        let cut = FILE_HEADER_LEN + cut.index(content.len() - FILE_HEADER_LEN + 1);
        let scan = scan(&content[..cut], LIMIT).unwrap();
        let read = bodies(&content, &scan);
        prop_assert!(read.iter().zip(&records).all(|(a, b)| a == b));
        prop_assert!(cut - scan.end < RECORD_HEADER_LEN + 300);
    }
}
