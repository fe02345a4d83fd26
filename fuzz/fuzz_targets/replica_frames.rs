//! What a replica and a client take from the network, and what a replica reads back from its disk.
//! The first byte chooses the decoder.
#![no_main]

use althing_fuzz::canonical;
use althing_replica::{
    Limits, decode_client_frame, decode_engine_message, decode_envelope, decode_record, decode_reply_frame,
};
use althing_types::encode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((decoder, rest)) = bytes.split_first() else { return };
    let limits = Limits::default();
    let again = match decoder % 5 {
        0 => decode_envelope(rest, &limits).ok().map(|envelope| encode(&envelope)),
        1 => decode_engine_message(rest).ok().map(|message| encode(&message)),
        2 => decode_client_frame(rest, &limits).ok().map(|frame| encode(&frame)),
        3 => decode_reply_frame(rest, &limits).ok().map(|(frame, message)| {
            assert_eq!(encode(&message), frame.body, "a client's message has a second encoding");
            encode(&frame)
        }),
        _ => return drop(canonical::<althing_replica::EngineRecord>(rest, 1 << 20)),
    };
    assert!(again.is_none_or(|again| again == rest), "a frame has a second encoding");
    let _ = decode_record(rest);
});
