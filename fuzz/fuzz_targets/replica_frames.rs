//! What a replica and a client take from the network, and what a replica reads back from its disk.
//! The first byte chooses the decoder.
#![no_main]

use althing_crypto::Identity;
use althing_fuzz::canonical;
use althing_protocol::Settings;
use althing_protocol::pbft::PbftSettings;
use althing_replica::membership::{Change, Member, Membership, Reconfigure};
use althing_replica::{
    EngineSettings, Limits, decode_client_frame, decode_engine_message, decode_envelope, decode_record,
    decode_reply_frame,
};
use althing_types::{Epoch, ReplicaId, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((decoder, rest)) = bytes.split_first() else { return };
    let limits = Limits::default();
    let again = match decoder % 7 {
        0 => decode_envelope(rest, &limits).ok().map(|envelope| encode(&envelope)),
        1 => decode_engine_message(rest).ok().map(|message| encode(&message)),
        2 => decode_client_frame(rest, &limits).ok().map(|frame| encode(&frame)),
        3 => decode_reply_frame(rest, &limits).ok().map(|(frame, message)| {
            assert_eq!(encode(&message), frame.body, "a client's message has a second encoding");
            encode(&frame)
        }),
        4 => return drop(canonical::<althing_replica::EngineRecord>(rest, 1 << 20)),
        // What a page of the state says, and a command to change it: by whoever, however odd.
        5 => {
            let _ = canonical::<Membership>(rest, 1 << 16).map(|membership| membership.check());
            return;
        }
        _ => return change(rest),
    };
    assert!(again.is_none_or(|again| again == rest), "a frame has a second encoding");
    let _ = decode_record(rest);
});

/// Whatever is asked of a group, what comes out is a group.
fn change(bytes: &[u8]) {
    let Some(change) = canonical::<Change>(bytes, 1 << 16) else { return };
    let key = |i| Identity::from_secret_bytes(&[i; 64]).public();
    let member = |i| Member { key: key(i), address: format!("127.0.0.1:{i}") };
    let members = (0..7).map(member).collect();
    let (settings, first_primary) = (Settings::Pbft(PbftSettings::default()), ReplicaId(1));
    let (epoch, admins, engine) = (Epoch(1), vec![key(9)], EngineSettings::default());
    let present =
        Membership { epoch, f: 2, members, admins, settings, engine, first_primary, is_one_machine: false };
    for f in 0..3 {
        let command = Reconfigure { epoch: Epoch(1), f, changes: vec![change.clone()] };
        if let Ok(next) = command.apply(&present) {
            assert!(next.check().is_ok() && next.epoch == Epoch(2));
        }
    }
}
