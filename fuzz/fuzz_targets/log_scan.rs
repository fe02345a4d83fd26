//! The log's parser: on anything, and on a real log that was cut short or changed in one bit.
#![no_main]

use althing_replica::storage::record::{Scan, encode_file_header, encode_record, scan};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;
const SALT: [u8; 8] = [3; 8];

fuzz_target!(|input: (Vec<Vec<u8>>, u32, u32, &[u8])| {
    let (bodies, cut, flip, anything) = input;
    if let Ok(Scan { records, end, .. }) = scan(anything, LIMIT) {
        assert!(end <= anything.len() && records.iter().all(|record| record.end <= end));
    }

    let bodies: Vec<_> = bodies.into_iter().filter(|body| body.len() <= LIMIT).collect();
    let first_len = u64::try_from(encode_file_header(SALT, 0).len()).expect("short");
    let mut log = encode_file_header(SALT, first_len).to_vec();
    for body in &bodies {
        let at = u64::try_from(log.len()).expect("short");
        encode_record(SALT, at, at, body, &mut log);
    }
    let of = |log: &[u8], found: &Scan| -> Vec<Vec<u8>> { found.bodies(log).collect() };
    assert_eq!(of(&log, &scan(&log, LIMIT).expect("a log")), bodies);

    // Power failed: what was whole before the cut is there.
    let short = &log[..log.len() - usize::try_from(cut).expect("32 bits") % (log.len() + 1)];
    if let Ok(found) = scan(short, LIMIT) {
        assert!(bodies.starts_with(&of(short, &found)), "records that were never written");
        assert!(short.len() - found.end < LIMIT + 64, "a whole record was dropped");
    } else {
        assert!(short.len() < log.len() && u64::try_from(short.len()).expect("short") < first_len);
    }

    // The disk changed a bit: that is noticed, also in the last record.
    let bit = usize::try_from(flip).expect("32 bits") % (log.len() * 8);
    log[bit / 8] ^= 1 << (bit % 8);
    assert!(scan(&log, LIMIT).is_err(), "a changed bit was not noticed");
});
