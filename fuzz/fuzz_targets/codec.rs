//! The canonical codec, on the shapes that messages are made of. The first byte chooses the shape.
#![no_main]

use althing_crypto::{Authenticator, Mac, Proof};
use althing_fuzz::canonical;
use althing_types::{ClientId, Digest, GroupId, Principal, ReplicaId, RequestNumber, Seq, View};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

const LIMIT: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Some((shape, rest)) = bytes.split_first() else {
        return;
    };
    match shape % 6 {
        0 => drop(canonical::<(GroupId, Principal, RequestNumber, Vec<u8>)>(rest, LIMIT)),
        1 => drop(canonical::<Vec<(Principal, Proof)>>(rest, LIMIT)),
        2 => drop(canonical::<Option<(View, Seq, Digest, Authenticator)>>(rest, LIMIT)),
        3 => drop(canonical::<BTreeMap<ClientId, (RequestNumber, Option<String>)>>(rest, LIMIT)),
        4 => drop(canonical::<Vec<Vec<Result<Mac, ReplicaId>>>>(rest, LIMIT)),
        _ => drop(canonical::<(bool, Box<[u64]>, std::collections::BTreeSet<Digest>)>(rest, LIMIT)),
    }
});
