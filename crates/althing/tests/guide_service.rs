//! The guide's service, alone: its page "Writing a service" includes a part of this file.

#[path = "../examples/till.rs"]
#[allow(dead_code, reason = "only the service is tested here")]
mod till;

use althing::types::encode;
use althing::{ClientId, Context, Pages, Service};
use till::Till;

// ANCHOR: test
fn context(client: u64, seq: u64) -> Context {
    let (client, number, seq) = (ClientId(client), althing::RequestNumber(seq), althing::Seq(seq));
    Context { client, number, seq, time: althing::Instant(seq.0), seed: [0; 32] }
}

#[test]
fn replicas_stay_equal_and_a_new_one_is_made_from_pages() {
    let (mut one, mut other) = (Till::default(), Till::default());
    let (mut pages, mut others) = (Pages::default(), Pages::default());
    for (seq, operation) in [encode(&5u64), encode(&u64::MAX), b"nonsense?".to_vec()].iter().enumerate() {
        let context = context(1, seq as u64);
        assert_eq!(one.execute(operation, &context), other.execute(operation, &context));
        one.save(&mut pages);
        other.save(&mut others);
        assert_eq!(pages, others);
    }
    let mut fresh = Till::default();
    fresh.install(&pages, &[0]).unwrap();
    assert_eq!(fresh, one);
    pages.set(0, b"no state".as_slice());
    assert!(fresh.install(&pages, &[0]).is_err());
    assert_eq!(fresh, one, "what was refused changed nothing");
}
// ANCHOR_END: test
