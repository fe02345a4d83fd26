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

fn bodies(content: &[u8], scan: &Scan) -> Vec<Vec<u8>> {
    scan.bodies(content).collect()
}

/// A log that holds a record which ends before a sector does by so many bytes.
fn log_before_sector_end(bytes: usize) -> Vec<u8> {
    let len = 2 * SECTOR_LEN - bytes - FILE_HEADER_LEN - RECORD_HEADER_LEN;
    log_of(&[&[&vec![5; len]]])
}

/// Appends a group.
fn append(content: &mut Vec<u8>, records: &[&[u8]]) {
    let synced = content.len() as u64;
    for record in records {
        let offset = content.len() as u64;
        encode_record(SALT, offset, synced, record, content);
    }
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

/// Zeros are the hard case: unmasked, they would look like what was never written.
#[test]
fn a_flipped_bit_in_the_last_record_is_never_a_torn_tail() {
    for distance in (0..SECTOR_LEN).step_by(ALIGNMENT) {
        for len in [0, 1, 12, 13, SECTOR_LEN, 2 * SECTOR_LEN + 3] {
            let mut content = log_before_sector_end(distance);
            let start = content.len();
            append(&mut content, &[&vec![0; len]]);
            for byte in start..content.len() {
                let mut flipped = content.clone();
                flipped[byte] ^= 1 << (byte % 8);
                let part = if byte < start + RECORD_HEADER_LEN { Part::Header } else { Part::Body };
                let damage = ScanError::Corrupt { offset: start as u64, part };
                assert_eq!(scan(&flipped, LIMIT), Err(damage), "{distance} {len} {byte}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_before_a_torn_tail_is_no_part_of_it() {
    let mut content = log_before_sector_end(64);
    append(&mut content, &[b"acknowledged"]);
    let acknowledged = content.len();
    append(&mut content, &[&[0; 900], b"never written"]);
    content[acknowledged..].fill(0);
    assert_eq!(scan(&content, LIMIT).unwrap().end, acknowledged);
    content[acknowledged - 1] ^= 1;
    assert!(matches!(scan(&content, LIMIT), Err(ScanError::Corrupt { .. })));
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
    newer[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let crc = crc32fast::hash(&newer[..28]);
    newer[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(scan(&newer, LIMIT), Err(ScanError::Version { found: VERSION + 1 }));
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
        prop_assert!(cut - scan.end < record_len(300));
    }

    /// Whichever sectors of a group get to the disk, and however much of its length.
    #[test]
    fn a_group_that_was_cut_short_in_any_way_is_a_torn_tail(
        distance in (0..SECTOR_LEN / ALIGNMENT).prop_map(|words| words * ALIGNMENT),
        records in proptest::collection::vec(proptest::collection::vec(0u8..2, 0..1500), 1..5),
        is_written in proptest::collection::vec(any::<bool>(), 16),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut content = log_before_sector_end(distance);
        let acknowledged = content.len();
        append(&mut content, &records.iter().map(|record| &record[..]).collect::<Vec<_>>());
        let whole = content.clone();
        for (sector, _) in is_written.iter().enumerate().filter(|(_, is_written)| !**is_written) {
            let start = acknowledged.max(sector * SECTOR_LEN).min(content.len());
            let end = content.len().min((sector + 1) * SECTOR_LEN).max(start);
            content[start..end].fill(0);
        }
        content.truncate(acknowledged + cut.index(content.len() - acknowledged + 1));
        let scan = scan(&content, LIMIT).unwrap();
        prop_assert!(scan.end >= acknowledged);
        prop_assert_eq!(&content[..scan.end], &whole[..scan.end]);
        let read = bodies(&content, &scan);
        prop_assert_eq!(&read[1..], &records[..read.len() - 1]);
    }
}
