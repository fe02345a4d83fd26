//! Writes real encodings as the first inputs of each target: `fuzz/corpus/TARGET/seed-N`.
//!
//! They are made from the code as it is rather than kept, so they follow the formats.

use althing_crypto::{Authenticator, Identity, Mac, Proof};
use althing_types::{
    ClientId, Digest, GroupId, Principal, ReplicaId, RequestNumber, Seq, View, encode,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, seeds) in [("codec", codec()), ("key_text", key_text())] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}

/// `shape` in front of the encoding of `value`.
fn shaped(shape: u8, value: &impl borsh::BorshSerialize) -> Vec<u8> {
    let mut bytes = vec![shape];
    bytes.extend(encode(value));
    bytes
}

fn codec() -> Vec<Vec<u8>> {
    let replica = Principal::Replica(ReplicaId(3));
    let client = Principal::Client(ClientId(7));
    vec![
        shaped(
            0,
            &(
                GroupId([1; 16]),
                client,
                RequestNumber(9),
                b"put a 1".to_vec(),
            ),
        ),
        shaped(
            1,
            &vec![(replica, Proof(vec![5; 64])), (client, Proof(vec![6; 64]))],
        ),
        shaped(
            2,
            &Some((
                View(1),
                Seq(2),
                Digest([3; 32]),
                Authenticator(vec![Mac([4; 16]); 4]),
            )),
        ),
        shaped(
            3,
            &BTreeMap::from([(ClientId(1), (RequestNumber(2), Some("ok".to_owned())))]),
        ),
        shaped(
            4,
            &vec![
                vec![Ok::<_, ReplicaId>(Mac([7; 16])), Err(ReplicaId(1))],
                vec![],
            ],
        ),
        shaped(
            5,
            &(
                true,
                vec![1u64, 2].into_boxed_slice(),
                BTreeSet::from([Digest([8; 32])]),
            ),
        ),
    ]
}

fn key_text() -> Vec<Vec<u8>> {
    let identity = Identity::from_secret_bytes(&[42; 64]);
    vec![
        identity.to_secret_text().as_bytes().to_vec(),
        identity.public().to_string().into_bytes(),
    ]
}
