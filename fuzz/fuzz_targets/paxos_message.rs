//! A Paxos message as it arrives: decoding, and what the layer below asks of it.
#![no_main]

use althing_fuzz::canonical;
use althing_protocol::paxos::PaxosMessage;
use althing_protocol::{AnyMessage, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(mut message) = canonical::<PaxosMessage>(bytes, 1 << 20) {
        drop(message.signed_parts());
        drop(message.requests_mut().iter().map(|request| request.digest()).collect::<Vec<_>>());
        assert!(!message.kind().is_empty());
        // And it is taken for what it is where a group may run anything.
        assert_eq!(canonical::<AnyMessage>(bytes, 1 << 20), Some(AnyMessage::Paxos(message)));
    }
});
