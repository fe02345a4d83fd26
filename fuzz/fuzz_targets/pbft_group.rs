//! One hostile replica among four, saying whatever it likes. The first byte is its place.
#![no_main]

use althing_fuzz::pbft_group::Group;
use althing_types::ReplicaId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((place, mut steps)) = bytes.split_first() else { return };
    let mut group = Group::new(ReplicaId(u16::from(place % 4)));
    for _ in 0..100 {
        if group.step(&mut steps).is_none() {
            return;
        }
    }
});
