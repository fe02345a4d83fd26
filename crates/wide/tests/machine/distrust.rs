//! A server of another site that sends what its site has not signed.

use super::register::Register;
use super::system::{SERVER, resident};
use super::vouching::{ME, OTHER, bundle};
use super::{VOUCHED, pbft, setting};
use althing_types::{Instant, Quorums, ReplicaId, Seq, encode};
use althing_wide::{LinkMessage, LogicalMachine, Outpost, OutpostInput, OutpostOutput, Parcel};

/// As outposts send it.
fn sent(message: &LinkMessage) -> Vec<u8> {
    const LINK: u8 = 0;
    [vec![LINK], encode(&Parcel::from(message.clone()))].concat()
}

/// What an outpost does with what comes from servers of the other site, at these milliseconds: whether it puts something
/// in order.
fn is_taken(coming: &[(u64, ReplicaId, &LinkMessage)]) -> Vec<bool> {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    let setting = setting(sites, VOUCHED);
    let machine =
        LogicalMachine::new(setting.machine_config(ME), pbft(ReplicaId(ME.0), sites), Register::default());
    let mut outpost = Outpost::new(setting.outpost_config(ME));
    let mut step = |(ms, server, message): &(u64, ReplicaId, &LinkMessage)| {
        let input = OutpostInput::FromSite { site: OTHER, server: *server, bytes: sent(message) };
        let mut outputs = Vec::new();
        outpost.handle(Instant(ms * 1_000_000), input, (&machine, Seq(1)), &mut outputs);
        outputs.iter().any(|output| matches!(output, OutpostOutput::Submit { .. }))
    };
    coming.iter().map(&mut step).collect()
}

#[test]
fn who_sends_what_its_site_has_not_signed_is_not_listened_to_for_a_while() {
    let good = bundle(&[resident(OTHER, 0)]);
    let mut bad = good.clone();
    bad.body.push(0);
    let mut worse = bad.clone();
    worse.body.push(0);
    assert_eq!(is_taken(&[(0, SERVER, &bad), (0, SERVER, &good)]), [false, true], "the first time it is");
    let repeated = [(0, SERVER, &bad), (1, SERVER, &bad), (2, SERVER, &good)];
    assert_eq!(is_taken(&repeated), [false, false, true], "and that again is no second time");
    let coming = [(0, SERVER, &bad), (0, SERVER, &worse), (50, SERVER, &good), (100, SERVER, &good)];
    assert_eq!(is_taken(&coming), [false, false, false, true]);
    let coming = [(0, SERVER, &bad), (0, SERVER, &worse), (0, ReplicaId(1), &good)];
    assert_eq!(is_taken(&coming), [false, false, true], "others are");
}
