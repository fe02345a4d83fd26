//! Whether what is said, or written to disk, is encoded as it was when the versions were raised last.
//!
//! No value of each kind is kept for that. Each type is read from the same many inputs, and how much of each it takes
//! stands for its format: a variant or a field more shows, or another order, where lengths differ.

use super::VERSION;
use althing_crypto::Hasher;
use althing_crypto::site::SignatureShare;
use althing_protocol::paxos::PaxosMessage;
use althing_protocol::pbft::PbftMessage;
use althing_protocol::zyzzyva::ZyzzyvaMessage;
use althing_replica::{
    ClientFrame, ClientMessage, EngineMessage, EngineRecord, Envelope, Query, QueryAnswer, ReplyFrame,
};
use althing_types::encode;
use althing_wide::{Answer, LinkMessage, Parcel, SiteOperation};
use borsh::{BorshDeserialize, BorshSerialize};

const INPUTS: usize = 4000;
const INPUT_BYTES: usize = 2048;

/// What a type is called, and its format as it is and as it was.
type Pinned = (&'static str, fn() -> String, &'static str);

/// What each looked like when the channels' version was this. Who changes one raises [`VERSION`], and pins it anew.
const CHANNELS: (u16, [Pinned; 13]) = (
    7,
    [
        ("PbftMessage", format_of::<PbftMessage>, "64f32edfbed0852b"),
        ("PaxosMessage", format_of_paxos, "16a76ef2daa5ecf8"),
        ("ZyzzyvaMessage", format_of_zyzzyva, "de506c31c7ce3e1c"),
        ("EngineMessage", format_of::<EngineMessage>, "a01d68cd25ba9dbb"),
        ("Envelope", format_of::<Envelope>, "3a32f89d12ff7a5f"),
        ("ClientFrame", format_of::<ClientFrame>, "df8e31c10f6440f7"),
        ("ClientMessage", format_of::<ClientMessage>, "781e7c70b6cee5e7"),
        ("ReplyFrame", format_of::<ReplyFrame>, "cb3f61525e9a3497"),
        ("Query and QueryAnswer", format_of::<(Query, QueryAnswer)>, "afe81de6c0c37408"),
        ("Parcel", format_of_parcels, "768aea7b13aba310"),
        ("LinkMessage", format_of::<LinkMessage>, "a6e8f293fee59591"),
        ("SignatureShare", format_of::<SignatureShare>, "4589db5678a2a3d4"),
        ("SiteOperation and Answer", format_of::<(SiteOperation, Answer)>, "d5453b5801664ada"),
    ],
);

/// And what is on disk, but for what protocols say in their records, and the pages of states. Who changes any of that
/// raises the version of `althing_replica`'s logs.
const LOG: Pinned = ("EngineRecord", format_of::<EngineRecord>, "b05ccaf7f5ced4eb");

/// How much of each input is taken for a value, if it is one.
fn format_of<T: BorshDeserialize>() -> String {
    format_from::<T>(0)
}

/// The messages of Zyzzyva have numbers from 128 on.
fn format_of_zyzzyva() -> String {
    format_from::<ZyzzyvaMessage>(128)
}

/// The messages of Paxos have numbers from 64 on.
fn format_of_paxos() -> String {
    format_from::<PaxosMessage>(64)
}

/// As [`format_of`], of inputs whose first bytes are so much higher.
fn format_from<T: BorshDeserialize>(first: u8) -> String {
    let taken = |input: &[u8]| {
        let mut rest = input;
        let is_value = T::deserialize_reader(&mut rest).is_ok();
        is_value.then(|| input.len() - rest.len())
    };
    let raised = |mut input: Vec<u8>| {
        input[0] += first;
        input
    };
    let taken: Vec<Option<usize>> = inputs().map(|input| taken(&raised(input))).collect();
    assert!(taken.iter().flatten().count() > 50, "nearly no input is a {}", core::any::type_name::<T>());
    digest(&taken.iter().map(|taken| taken.map(|bytes| bytes as u64)).collect::<Vec<_>>())
}

/// Hardly any input is a parcel. But each message of a link is one by itself.
fn format_of_parcels() -> String {
    let messages = inputs().filter_map(|input| LinkMessage::deserialize_reader(&mut &input[..]).ok());
    let parcels: Vec<Vec<u8>> = messages.map(|message| encode(&Parcel::from(message))).collect();
    assert!(parcels.len() > 50, "nearly no input is a message");
    digest(&parcels)
}

fn digest(of: &impl BorshSerialize) -> String {
    let mut hasher = Hasher::new("althing formats");
    hasher.value(of);
    hasher.finish().to_string()
}

/// Mostly zeros and else small, so that lengths are short, options are there, and all variants come up.
fn inputs() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0_u64;
    let mut next = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).to_le_bytes()
    };
    (0..INPUTS).map(move |_| {
        let byte = |[one, two, ..]: [u8; 8]| if two < 190 { 0 } else { one % 5 };
        let mut input: Vec<u8> = (0..INPUT_BYTES).map(|_| byte(next())).collect();
        input[0] = next()[0] % 24;
        input
    })
}

#[test]
fn whoever_changes_a_format_raises_its_version() {
    let (version, channels) = CHANNELS;
    let changed: Vec<String> = channels
        .iter()
        .chain([&LOG])
        .map(|(name, format, pinned)| (name, format(), pinned))
        .filter(|(_, format, pinned)| format != *pinned)
        .map(|(name, format, _)| format!("{name} is {format} now"))
        .collect();
    assert!(
        changed.is_empty(),
        "formats have changed. Unless nobody runs a release with version {VERSION} of them, raise it (that of \
         `EngineRecord` is in althing_replica's `storage::record`); then pin them: {changed:#?}"
    );
    assert_eq!(version, VERSION, "formats are pinned for the version that they have");
}

#[test]
fn a_variant_and_a_field_more_show() {
    let before = format_of::<(Option<u16>, Vec<u64>)>();
    assert_eq!(before, format_of::<(Option<u16>, Vec<u64>)>());
    assert_ne!(before, format_of::<(Option<u16>, Vec<(u64, u8)>)>());
    assert_ne!(format_of::<Result<u16, u64>>(), format_of::<Option<u64>>());
    assert_ne!(format_of::<Result<u16, u64>>(), format_of::<Result<u64, u16>>());
}
