use super::*;

const R0: Principal = Principal::Replica(ReplicaId(0));
const R1: Principal = Principal::Replica(ReplicaId(1));
const C9: Principal = Principal::Client(ClientId(9));

fn keyrings(group: u8) -> [Keyring; 3] {
    let identity = |i: u8| Identity::from_secret_bytes(&[i; 64]);
    let replicas: Vec<_> = [1, 2].map(|i| identity(i).public()).to_vec();
    let clients = BTreeMap::from([(ClientId(9), identity(3).public())]);
    let ring = |me, i| Keyring::new(GroupId([group; 16]), me, identity(i), replicas.clone(), clients.clone());
    [ring(R0, 1), ring(R1, 2), ring(C9, 3)]
}

#[test]
fn each_receiver_checks_its_own_mac_and_no_other() {
    let [mut r0, mut r1, mut c9] = keyrings(0);
    let vector = c9.authenticate(Domain::Request, b"put");
    let (m0, m1) = (vector.mac_for(ReplicaId(0)).unwrap(), vector.mac_for(ReplicaId(1)).unwrap());
    assert!(r0.verify_mac(C9, m0, Domain::Request, b"put"));
    assert!(r1.verify_mac(C9, m1, Domain::Request, b"put"));
    assert!(!r1.verify_mac(C9, m0, Domain::Request, b"put"));
    assert!(!r0.verify_mac(C9, m0, Domain::Request, b"cas"));
    assert!(!r0.verify_mac(C9, m0, Domain::Reply, b"put"));
    assert!(!r0.verify_mac(R1, m0, Domain::Request, b"put"));
}

#[test]
fn a_mac_can_not_be_reflected_to_its_maker() {
    let [mut r0, mut r1, _] = keyrings(0);
    let mac = r0.mac(R1, Domain::Protocol, b"vote").unwrap();
    assert!(r1.verify_mac(R0, &mac, Domain::Protocol, b"vote"));
    assert!(!r0.verify_mac(R1, &mac, Domain::Protocol, b"vote"));
}

#[test]
fn a_proof_holds_in_its_own_group_and_domain_only() {
    let [r0, r1, _] = keyrings(0);
    let [_, other, _] = keyrings(1);
    let proof = r0.sign(Domain::Protocol, b"vote");
    assert!(r1.verify(R0, &proof, Domain::Protocol, b"vote"));
    assert!(!r1.verify(R1, &proof, Domain::Protocol, b"vote"));
    assert!(!r1.verify(R0, &proof, Domain::Engine, b"vote"));
    assert!(!other.verify(R0, &proof, Domain::Protocol, b"vote"));
    assert!(!r1.verify(R0, &Proof(Vec::new()), Domain::Protocol, b"vote"));
}

const HOUR: Duration = Duration::from_secs(3600);
const T0: Instant = Instant(1_000);
const T1: Instant = Instant(2_000);

/// Two replicas of which the first has a key of its own; the other knows of it.
fn refreshed() -> (Keyring, Keyring) {
    let [mut r0, mut r1, _] = keyrings(0);
    r0.refresh(T0, &[40; 32].into(), HOUR);
    assert_eq!(r1.learn(T0, r0.announcement().unwrap().clone()), Learned::New);
    (r0, r1)
}

fn is_heard(from: &mut Keyring, to: &mut Keyring) -> Checked {
    let mac = from.mac(to.me(), Domain::Protocol, b"vote").unwrap();
    to.check_mac(from.me(), &mac, Domain::Protocol, b"vote")
}

#[test]
fn a_new_key_of_either_side_changes_both_directions() {
    let [stale_r0, stale_r1, _] = keyrings(0);
    let (mut r0, mut r1) = refreshed();
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Good(T0.0));
    assert_eq!(is_heard(&mut r1, &mut r0), Checked::Good(0));
    // The first key of a process has none before it.
    assert_eq!(is_heard(&mut stale_r1.clone(), &mut r0), Checked::Bad);
    r1.retire(T0, Duration::ZERO);
    assert_eq!(is_heard(&mut stale_r0.clone(), &mut r1), Checked::Bad);
}

#[test]
fn what_was_stolen_is_worth_nothing_once_either_side_has_retired_it() {
    for (who_refreshes, who_hears) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (mut r0, mut r1) = refreshed();
        r1.refresh(T0, &[50; 32].into(), HOUR);
        assert_eq!(r0.learn(T0, r1.announcement().unwrap().clone()), Learned::New);
        let (mut ring, stolen) = ([r0.clone(), r1.clone()], [r0, r1]);
        let (refreshing, other) = (who_refreshes, 1 - who_refreshes);
        ring[refreshing].refresh(T1, &[41; 32].into(), HOUR);
        let new_key = ring[refreshing].announcement().unwrap().clone();
        assert_eq!(ring[other].learn(T1, new_key), Learned::New);
        let mut thief = stolen[1 - who_hears].clone();
        let forge = |thief: &mut Keyring, ring: &mut [Keyring; 2]| is_heard(thief, &mut ring[who_hears]);
        assert_ne!(forge(&mut thief, &mut ring), Checked::Bad, "it is still in flight");
        ring.iter_mut().for_each(|ring| ring.retire(T0, Duration::ZERO));
        assert_ne!(forge(&mut thief, &mut ring), Checked::Bad, "it was replaced later than that");
        ring.iter_mut().for_each(|ring| ring.retire(T1, Duration::ZERO));
        assert_eq!(forge(&mut thief, &mut ring), Checked::Bad);
        let mut keys = [T0.0; 2];
        keys[refreshing] = T1.0;
        let [a, b] = &mut ring;
        assert_eq!((is_heard(a, b), is_heard(b, a)), (Checked::Good(keys[0]), Checked::Good(keys[1])));
    }
}

#[test]
fn who_has_not_heard_of_a_new_key_is_heard_and_known_for_it_until_the_old_one_is_retired() {
    let (mut r0, mut r1) = refreshed();
    r0.refresh(T1, &[41; 32].into(), HOUR);
    assert_eq!(is_heard(&mut r1, &mut r0), Checked::Outdated(0));
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Bad, "it can't know the key");
    assert!(r0.is_retiring());
    r0.retire(T1, Duration::ZERO);
    assert_eq!(is_heard(&mut r1, &mut r0), Checked::Bad);
    assert_eq!(r1.learn(T1, r0.announcement().unwrap().clone()), Learned::New);
    assert_eq!(is_heard(&mut r1, &mut r0), Checked::Good(0));
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Good(T1.0));
}

#[test]
fn both_sides_at_once_are_heard_under_every_pair_of_keys_that_is_in_flight() {
    let (mut r0, mut r1) = refreshed();
    r1.refresh(T0, &[50; 32].into(), HOUR);
    assert_eq!(r0.learn(T0, r1.announcement().unwrap().clone()), Learned::New);
    let before = r1.clone();
    r0.refresh(T1, &[41; 32].into(), HOUR);
    r1.refresh(T1, &[51; 32].into(), HOUR);
    let between = r1.clone();
    assert_eq!(r0.learn(T1, r1.announcement().unwrap().clone()), Learned::New);
    for (mut sender, key) in [(before, T0), (between, T1)] {
        assert_eq!(is_heard(&mut sender, &mut r0), Checked::Outdated(key.0));
    }
}

#[test]
fn only_a_newer_announcement_that_is_signed_counts() {
    let (mut r0, mut r1) = refreshed();
    let old = r0.announcement().unwrap().clone();
    r0.refresh(T1, &[41; 32].into(), HOUR);
    let new = r0.announcement().unwrap().clone();
    assert_eq!(r1.learn(T1, new.clone()), Learned::New);
    assert_eq!(r1.learn(T1, old), Learned::Known, "a replay");
    assert_eq!(r1.learn(T1, new.clone()), Learned::Known);
    for forge in [
        |new_key: &mut NewKey| new_key.key[0] ^= 1,
        |new_key: &mut NewKey| new_key.proof.0[0] ^= 1,
        |new_key: &mut NewKey| new_key.replica = ReplicaId(7),
        |new_key: &mut NewKey| new_key.replica = ReplicaId(1),
    ] {
        let mut forged = NewKey { counter: new.counter + 9, ..new.clone() };
        forged.proof = r0.sign(Domain::Key, &forged.signed_bytes());
        forge(&mut forged);
        assert_eq!(r1.learn(T1, forged), Learned::Forged);
    }
    let mut last = NewKey { counter: u64::MAX, ..new };
    last.proof = r0.sign(Domain::Key, &last.signed_bytes());
    assert_eq!(r1.learn(T1, last), Learned::TooFarAhead, "it would be the last for ever");
}

#[test]
fn a_clock_that_was_ahead_is_caught_up_with() {
    let (r0, mut r1) = refreshed();
    let [mut again, ..] = keyrings(0);
    again.refresh(Instant(5), &[60; 32].into(), HOUR);
    assert_eq!(r1.learn(T1, again.announcement().unwrap().clone()), Learned::Known);
    assert_eq!(again.learn(T1, r1.announced(ReplicaId(0)).unwrap().clone()), Learned::Ahead);
    let caught_up = again.announcement().unwrap().clone();
    assert!(caught_up.counter > r0.announcement().unwrap().counter);
    assert_eq!(r1.learn(T1, caught_up), Learned::New);
    assert_eq!(is_heard(&mut r1, &mut again), Checked::Good(0));
}

#[test]
fn a_client_and_a_replica_follow_the_key_of_the_replica() {
    let [mut r0, _, mut c9] = keyrings(0);
    r0.refresh(T0, &[40; 32].into(), HOUR);
    assert_eq!(is_heard(&mut c9, &mut r0), Checked::Bad);
    assert_eq!(c9.learn(T0, r0.announcement().unwrap().clone()), Learned::New);
    let macs = c9.authenticate(Domain::Request, b"put");
    assert!(r0.verify_mac(C9, macs.mac_for(ReplicaId(0)).unwrap(), Domain::Request, b"put"));
    assert_eq!(is_heard(&mut r0, &mut c9), Checked::Good(T0.0));
}

#[test]
fn who_is_kept_from_hearing_of_the_next_key_does_not_believe_the_last_for_ever() {
    let [mut r0, mut r1, _] = keyrings(0);
    r0.refresh(T0, &[40; 32].into(), Duration::from_millis(5));
    assert_eq!(r1.learn(T0, r0.announcement().unwrap().clone()), Learned::New);
    let ends = T0 + Duration::from_millis(5);
    r1.retire(Instant(ends.0 - 1), HOUR);
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Good(T0.0));
    assert_eq!(r1.believes_from(R0), 0, "what was in flight when it was replaced");
    r1.retire(ends, HOUR);
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Bad);
    assert_eq!(r1.believes_from(R0), T0.0 + 1);
    let mut thief = r0.clone();
    r0.refresh(ends, &[41; 32].into(), HOUR);
    assert_eq!(r1.learn(ends, r0.announcement().unwrap().clone()), Learned::New);
    assert_eq!(is_heard(&mut r0, &mut r1), Checked::Good(ends.0));
    assert_eq!(is_heard(&mut thief, &mut r1), Checked::Bad, "it had ended, and is not the one before");
    assert_eq!(r1.believes_from(R0), ends.0);
}

/// Somebody who has the replica for a moment can have it sign anything, for any time to come.
#[test]
fn no_announcement_is_believed_for_ever_nor_stands_in_the_way_of_all_to_come() {
    for mut hears in keyrings(0).into_iter().skip(1) {
        let [mut r0, ..] = keyrings(0);
        let mut far = r0.clone();
        far.refresh(T0 + 2 * HOUR, &[66; 32].into(), Duration::MAX);
        assert_eq!(hears.learn(T0, far.announcement().unwrap().clone()), Learned::TooFarAhead);
        let mut long = r0.clone();
        long.refresh(T0, &[67; 32].into(), Duration::MAX);
        hears.bound_lifetimes(HOUR);
        assert_eq!(hears.learn(T0, long.announcement().unwrap().clone()), Learned::New);
        hears.retire(T0 + HOUR, HOUR);
        assert_eq!(is_heard(&mut long, &mut hears), Checked::Bad, "an hour later");
        // It is itself told of what it is to have announced, and goes by it no more than others do.
        r0.refresh(T1, &[40; 32].into(), HOUR);
        assert_eq!(r0.learn(T1, far.announcement().unwrap().clone()), Learned::TooFarAhead);
        assert_eq!(hears.learn(T1, r0.announcement().unwrap().clone()), Learned::New);
        assert_eq!(is_heard(&mut r0, &mut hears), Checked::Good(T1.0));
    }
}

#[test]
fn sessions_belong_to_the_first_client_with_their_keys() {
    let identity = |i: u8| Identity::from_secret_bytes(&[i; 64]);
    let clients = [(4, 1), (5, 1), (6, 2), (7, 1)].map(|(id, key)| (ClientId(id), identity(key).public()));
    let ring = Keyring::new(GroupId([0; 16]), R0, identity(9), [identity(9).public()].into(), clients.into());
    let owners = [4, 5, 6, 7, 8].map(|id| ring.owner(ClientId(id)).0);
    assert_eq!(owners, [4, 4, 6, 4, 8]);
}

#[test]
fn keys_that_were_announced_go_over_to_the_next_epoch() {
    let (r0, mut r1) = refreshed();
    r1.retire(T1, Duration::from_nanos(1));
    let (next, replicas) = (GroupId([7; 16]), [r1.identity(), r0.identity()]);
    // They change places.
    let mut r0 = r0.in_epoch(next, R1, replicas.to_vec());
    let mut r1 = r1.in_epoch(next, R0, replicas.to_vec());
    let mac = r0.mac(R0, Domain::Engine, b"state").unwrap();
    assert_eq!(
        r1.check_mac(R1, &mac, Domain::Engine, b"state"),
        Checked::Good(T0.0),
        "nobody has to be told first"
    );
    let [lasting, _, _] = keyrings(0);
    let mut lasting = lasting.in_epoch(next, R1, replicas.to_vec());
    let mac = lasting.mac(R0, Domain::Engine, b"state").unwrap();
    assert_eq!(
        r1.check_mac(R1, &mac, Domain::Engine, b"state"),
        Checked::Bad,
        "who has the lasting key only"
    );
    assert!(r1.is_retiring(), "it is believed no longer than it was to be");
    // A member that is new here hears of it from the announcement.
    let identity = Identity::from_secret_bytes(&[9; 64]);
    let replicas = [replicas[0], replicas[1], identity.public()].to_vec();
    let mut new = Keyring::new(next, Principal::Replica(ReplicaId(2)), identity, replicas, BTreeMap::new());
    assert_eq!(new.learn(T1, r0.announcement().unwrap().clone()), Learned::New);
    assert_eq!(r1.learn(T1, r0.announcement().unwrap().clone()), Learned::New);
}
