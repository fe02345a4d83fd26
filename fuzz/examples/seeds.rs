//! Writes real encodings as the first inputs of each target: `fuzz/corpus/TARGET/seed-N`.
//!
//! They are made from the code as it is rather than kept, so they follow the formats.

use althing_crypto::{Authenticator, Identity, Mac, Proof};
use althing_fuzz::pbft_group::Group;
use althing_protocol::pbft::{Checkpoint, PbftMessage, Status, Vote};
use althing_types::{ClientId, Digest, GroupId, Principal, ReplicaId, RequestNumber, Seq, View, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, seeds) in [
        ("codec", codec()),
        ("key_text", key_text()),
        ("pbft_message", pbft_message()),
        ("pbft_group", pbft_group()),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
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
        shaped(0, &(GroupId([1; 16]), client, RequestNumber(9), b"put a 1".to_vec())),
        shaped(1, &vec![(replica, Proof(vec![5; 64])), (client, Proof(vec![6; 64]))]),
        shaped(2, &Some((View(1), Seq(2), Digest([3; 32]), Authenticator(vec![Mac([4; 16]); 4])))),
        shaped(3, &BTreeMap::from([(ClientId(1), (RequestNumber(2), Some("ok".to_owned())))])),
        shaped(4, &vec![vec![Ok::<_, ReplicaId>(Mac([7; 16])), Err(ReplicaId(1))], vec![]]),
        shaped(5, &(true, vec![1u64, 2].into_boxed_slice(), BTreeSet::from([Digest([8; 32])]))),
    ]
}

fn key_text() -> Vec<Vec<u8>> {
    let identity = Identity::from_secret_bytes(&[42; 64]);
    vec![identity.to_secret_text().as_bytes().to_vec(), identity.public().to_string().into_bytes()]
}

/// What the group does on its own: requests, a quiet while, a view change.
const SCRIPT: &[u8] = &[1, 0xf0, 1, 0xf1, 2, 0xfe, 3, 10, 1, 0xf2, 1, 0xf0, 1, 0xf1, 3, 100, 3, 100];

fn run(hostile: u16, steps: &[u8]) -> Group {
    let mut group = Group::new(ReplicaId(hostile));
    let mut input = steps;
    while group.step(&mut input).is_some() {}
    group
}

/// One message of each kind and size that correct replicas said.
fn pbft_message() -> Vec<Vec<u8>> {
    let mut messages: Vec<_> = (0..4).flat_map(|hostile| run(hostile, SCRIPT).heard).collect();
    messages.sort_by_key(|message| (encode(message)[0], encode(message).len()));
    messages.dedup_by_key(|message| (encode(message)[0], encode(message).len()));
    messages.iter().map(encode).collect()
}

/// Scripts for each place of the hostile replica: silent, saying again what others said, and
/// contradicting it.
fn pbft_group() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for hostile in 0..4u16 {
        let start = vec![u8::try_from(hostile).expect("below four")];
        let interleaved = |step: &[u8]| -> Vec<u8> {
            let pairs = SCRIPT.chunks(2).flat_map(|pair| [pair, step].concat());
            start.iter().copied().chain(pairs).collect()
        };
        seeds.push([&start, SCRIPT].concat());
        seeds.push(interleaved(&[4, 0]));
        seeds.push(interleaved(&[5, 3]));
        let said: Vec<PbftMessage> = run(hostile, SCRIPT).heard;
        let spoken = said.iter().take(40).flat_map(|message| [vec![0, 0xff], encode(message)].concat());
        seeds.push([start.clone(), SCRIPT.to_vec(), spoken.collect()].concat());
        seeds.push([start.clone(), SCRIPT.to_vec(), extremes()].concat());
    }
    seeds
}

/// The largest numbers, said again and again.
fn extremes() -> Vec<u8> {
    let (view, seq, digest) = (View(u64::MAX), Seq(u64::MAX), Digest([9; 32]));
    let vote = Vote { view, seq, digest };
    let status = |view| Status { view, is_in_view: true, stable: seq, executed: seq };
    let messages = [
        PbftMessage::Status(status(view)),
        PbftMessage::Status(status(View(0))),
        PbftMessage::Prepare(vote),
        PbftMessage::Commit(vote),
        PbftMessage::Checkpoint(Checkpoint { seq, state: digest }),
        PbftMessage::FetchBatch { seq, digest },
        PbftMessage::RecoverQuery { nonce: u64::MAX, target: seq },
    ];
    let said = messages.iter().flat_map(|message| [vec![0, 0xff], encode(message), vec![3, 50]].concat());
    said.collect::<Vec<_>>().repeat(3)
}
