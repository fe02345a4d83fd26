//! Writes real encodings as the first inputs of each target: `fuzz/corpus/TARGET/seed-N`.
//!
//! They are made from the code as it is rather than kept, so they follow the formats.

use althing_components::{NumberedEvent, Operation, WireId};
use althing_crypto::site::{SiteBatch, SiteDeal};
use althing_crypto::{Authenticator, Domain, Identity, KeySeed, Mac, NewKey, Proof};
use althing_fuzz::pbft_group::Group;
use althing_node::channel::{Hello, Role};
use althing_protocol::pbft::{Checkpoint, PbftMessage, PbftSettings, Status, Vote};
use althing_protocol::{
    Answers, CommitCertificate, Request, RequestAuth, RequestKind, Settings, Speculation,
};
use althing_replica::membership::{Change, Member, Membership};
use althing_replica::{
    ClientFrame, ClientMessage, EngineMessage, EngineRecord, EngineSettings, Envelope, EpochRecord,
    Execution, Given, Parts, Prove, Query, QueryAnswer, ReplyFrame, ReplyOutcome, Room, Seal, StateName,
    Want, storage::Segment,
};
use althing_services::KvOperation;
use althing_types::{
    ClientId, Digest, Epoch, GroupId, Principal, Quorums, ReplicaId, RequestNumber, Seq, SiteId, View, encode,
};
use althing_wide::{Header, Kind, Parcel};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, seeds) in [
        ("codec", codec()),
        ("key_text", key_text()),
        ("site_signatures", site_signatures()),
        ("pbft_message", pbft_message()),
        ("pbft_group", pbft_group()),
        ("replica_frames", replica_frames()),
        ("channel_accept", channel_accept()),
        ("event_value", event_value()),
        ("component_service", component_service()),
        ("kv", kv()),
        ("spec_file", examples("yaml")?),
        ("process_answer", process_answer()),
        ("group_file", group_file()),
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
    let mut texts =
        vec![identity.to_secret_text().as_bytes().to_vec(), identity.public().to_string().into_bytes()];
    for site in sites() {
        texts.push(site.shares.public().to_string().into_bytes());
        texts.push(site.secrets[0].to_secret_text().as_bytes().to_vec());
        texts.extend(site.shares.keys().take(1).map(|key| key.to_string().into_bytes()));
    }
    texts
}

/// One of each kind.
fn sites() -> [SiteDeal; 2] {
    let seed = KeySeed::from([4; 32]);
    [
        SiteDeal::threshold(Quorums::byzantine(4, 1).expect("four are enough"), &seed),
        SiteDeal::plain(3, &seed),
    ]
}

fn site_signatures() -> Vec<Vec<u8>> {
    let messages: Vec<_> = (0u8..5).map(|i| [i; 3]).collect();
    let messages: Vec<_> = messages.iter().map(|bytes| (Domain::Protocol, bytes.as_slice())).collect();
    let mut seeds = Vec::new();
    for site in sites() {
        let batch = SiteBatch::new(GroupId([5; 16]), SiteId(0), &messages);
        let share = |server: u16| {
            let secret = &site.secrets[usize::from(server)];
            (ReplicaId(server), secret.share(&batch.statement()))
        };
        let shares = BTreeMap::from([0, 2].map(share));
        let signature = site.shares.combine(&batch.statement(), &shares).signature.expect("they are enough");
        seeds.push(shaped(0, site.shares.public()));
        seeds.push(shaped(1, &signature));
        seeds.push(shaped(2, &batch.proof(3, signature).path));
        seeds.push(shaped(3, &batch.proof(4, signature)));
        seeds.push(shaped(4, &shares));
        seeds.push(shaped(5, &batch.range_proof(1..4, signature).range));
        seeds.push(shaped(6, &batch.range_proof(1..4, signature)));
        let header = |number| Header {
            from: SiteId(0),
            to: SiteId(1),
            number,
            base: 1,
            acknowledged: 2,
            kind: Kind::Protocol,
        };
        let said = (7..10).map(|number| (header(number), b"said".to_vec()));
        seeds.push(shaped(7, &Parcel::new(batch.range_proof(1..4, signature), said.collect())));
    }
    seeds
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
    let status = |view| Status { view, is_in_view: true, stable: seq, executed: seq, is_suspicious: true };
    let messages = [
        PbftMessage::Status(status(view)),
        PbftMessage::Status(status(View(0))),
        PbftMessage::Prepare(vote),
        PbftMessage::Commit(vote),
        PbftMessage::Checkpoint(Checkpoint { seq, state: digest }),
        PbftMessage::Decided { seq, digest },
        PbftMessage::FetchBatch { seq, digest },
        PbftMessage::FetchProposal { view, seq },
        PbftMessage::RecoverQuery { nonce: u64::MAX, is_voting: true },
        PbftMessage::FillTo { target: seq },
        PbftMessage::Caught { clients: vec![ClientId(7)] },
    ];
    let said = messages.iter().flat_map(|message| [vec![0, 0xff], encode(message), vec![3, 50]].concat());
    said.collect::<Vec<_>>().repeat(3)
}

fn replica_frames() -> Vec<Vec<u8>> {
    let macs = Authenticator(vec![Mac([4; 16]); 4]);
    let (client, number) = (ClientId(7), RequestNumber(2));
    let envelope = |room, seal, body| Envelope { epoch: Epoch(1), sender: ReplicaId(1), room, seal, body };
    let said = pbft_message().remove(0);
    let fetch = |want| EngineMessage::Fetch { seq: Seq(128), state: Digest([1; 32]), ticket: 3, want };
    let fetched = |parts| EngineMessage::Fetched { ticket: 3, parts };
    let query = Query { client, number, epoch: Epoch(1), operation: vec![0; 9], macs: macs.clone() };
    let prove = Prove { client, first: number, last: RequestNumber(33), epoch: Epoch(1), macs: macs.clone() };
    let request = Request {
        client,
        number,
        kind: RequestKind::Reconfigure,
        operation: b"put".to_vec(),
        epoch: Epoch(1),
        answers: Answers::Few { asked: vec![ReplicaId(1), ReplicaId(0)], firmly: 1 },
        auth: RequestAuth::Macs(macs.clone()),
        is_authentic: false,
    };
    let reply = |message: &ClientMessage| {
        let frame = ReplyFrame { replica: ReplicaId(2), mac: Mac([6; 16]), body: encode(message) };
        shaped(3, &frame)
    };
    let outcome = ReplyOutcome::Result(b"ok".to_vec());
    let speculation = Speculation { view: View(1), seq: Seq(3), history: Digest([8; 32]) };
    let votes = (0..3).map(|id| (ReplicaId(id), Proof(vec![2; 64]))).collect();
    let certificate = CommitCertificate { speculation, votes };
    let given = Given::Digest(Digest([3; 32]));
    let state = Digest([1; 32]);
    let segment = Segment { number: 3, part: 0, state, len: 4096 };
    let new_key = NewKey {
        replica: ReplicaId(1),
        counter: 1 << 60,
        key: [9; 32],
        lifetime_ms: 300_000,
        proof: Proof(vec![5; 64]),
    };
    vec![
        shaped(0, &envelope(Room::Protocol, Seal::Macs(macs), said)),
        shaped(
            0,
            &envelope(Room::Engine, Seal::Proof(Proof(vec![5; 64])), encode(&fetch(Want::Pages(vec![1])))),
        ),
        shaped(1, &fetch(Want::Pages(vec![0, 1, 9]))),
        shaped(1, &fetched(Parts::Nodes(vec![vec![(0, Digest([7; 32])), (9, Digest([8; 32]))]]))),
        shaped(1, &fetched(Parts::Pages(vec![vec![1; 40], vec![]]))),
        shaped(1, &EngineMessage::Start { seq: Seq(128), state: Digest([1; 32]) }),
        shaped(1, &EngineMessage::Succession(vec![])),
        shaped(2, &ClientFrame::Request(request.clone())),
        shaped(2, &ClientFrame::Witness(request.clone())),
        shaped(2, &ClientFrame::Body(request)),
        shaped(2, &ClientFrame::Query(query)),
        shaped(2, &ClientFrame::Prove(prove)),
        shaped(2, &ClientFrame::Certificate { client: ClientId(7), number, epoch: Epoch(0), certificate }),
        reply(&ClientMessage::Reply { view: View(1), number, execution: Execution::Earlier, outcome }),
        reply(&ClientMessage::ReplyDigest {
            view: View(1),
            number,
            execution: Execution::Tentative(Seq(3)),
            outcome: Digest([3; 32]),
        }),
        reply(&ClientMessage::Superseded { number, last: RequestNumber(9) }),
        reply(&ClientMessage::QueryReply { number, answer: QueryAnswer::MustOrder }),
        reply(&ClientMessage::Speculated { number, speculation, proof: None, given: given.clone() }),
        reply(&ClientMessage::Speculated { number, speculation, proof: Some(Proof(vec![1; 64])), given }),
        reply(&ClientMessage::Certified { number, speculation }),
        reply(&ClientMessage::Late),
        reply(&ClientMessage::MustSign { number }),
        reply(&ClientMessage::Emission { channel: 1, payload: b"event".to_vec() }),
        reply(&ClientMessage::NewKey(new_key.clone())),
        shaped(1, &EngineMessage::NewKey { new_key: new_key.clone(), known: Some(new_key) }),
        reply(&ClientMessage::Succession(vec![])),
        shaped(
            4,
            &EngineRecord::Epoch(Box::new(EpochRecord {
                membership: membership(),
                start: Some((Seq(128), Digest([1; 32]))),
                links: vec![],
                is_retired: false,
                has_forgotten: false,
            })),
        ),
        shaped(5, &membership()),
        shaped(5, &Change::Rekey(ReplicaId(1), membership().members[0].key)),
        shaped(5, &Change::Settings(membership().settings)),
        shaped(5, &Change::Engine(membership().engine)),
        shaped(4, &EngineRecord::State(StateName { seq: Seq(128), state, segments: vec![segment] })),
    ]
}

fn membership() -> Membership {
    let key = |i| Identity::from_secret_bytes(&[i; 64]).public();
    let member = |i| Member { key: key(i), address: format!("127.0.0.1:{i}") };
    let (members, admins) = ((0..4).map(member).collect(), vec![key(9)]);
    let (settings, first_primary) = (Settings::Pbft(PbftSettings::default()), ReplicaId(0));
    let engine = EngineSettings::default();
    Membership {
        epoch: Epoch(1),
        f: 1,
        members,
        admins,
        settings,
        engine,
        first_primary,
        is_one_machine: false,
    }
}

/// The first frame of a dialler, with a Noise message that doesn't authenticate.
fn channel_accept() -> Vec<Vec<u8>> {
    let hello = Hello { role: Role::Replica, group: GroupId([1; 16]) }.encode();
    let mut stream = Vec::new();
    althing_node::frame::encode(&[&hello[..], &[9; 48]], &mut stream);
    vec![stream]
}

fn event_value() -> Vec<Vec<u8>> {
    [
        "21.5",
        "true",
        "\"on\"",
        "on",
        r#"{"b":[1,2.5e-3,null],"a":{"\u00e9":-0}}"#,
        "18446744073709551615",
        "1e400",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// `builtin`, then each operation with who asks for it and what else happens.
fn component_service() -> Vec<Vec<u8>> {
    let event = |seq, text: &str| NumberedEvent { seq, event: text.as_bytes().to_vec() };
    let deliver = |wire, events| Operation::Deliver { wire: WireId(wire), events };
    let mut script = Vec::new();
    let mut say = |client: u8, step: u8, operation: &Operation| {
        script.extend([client, step]);
        script.extend(encode(operation));
    };
    say(0, 0, &deliver(0, vec![event(1, "18.5"), event(2, "22"), event(3, "17")]));
    for client in [1, 2, 3] {
        say(client, 0x80, &deliver(1, vec![event(1, "16"), event(2, "25")]));
    }
    say(4, 0, &deliver(1, vec![event(1, "99")]));
    say(0, 0, &Operation::Outputs { wire: WireId(2), from: 1 });
    say(0, 0x80, &Operation::Acknowledge { wire: WireId(2), up_to: 1 });
    say(5, 0, &Operation::Acknowledge { wire: WireId(3), up_to: 2 });
    say(6, 0, &Operation::Acknowledge { wire: WireId(3), up_to: 2 });
    say(1, 0, &Operation::Progress { wire: WireId(1) });
    say(9, 0, &Operation::Inspect);
    (0..3u8).map(|builtin| [&[builtin], script.as_slice()].concat()).collect()
}

fn kv() -> Vec<Vec<u8>> {
    let key = |i: u8| vec![b'k', i];
    let mut script = Vec::new();
    let mut say = |step: u8, operation: &KvOperation| {
        script.push(step);
        script.extend(operation.encode());
    };
    for i in 0..9 {
        say(0, &KvOperation::Put { key: key(i), value: vec![i; 3000] });
    }
    say(0x80, &KvOperation::Get { key: key(1) });
    say(1, &KvOperation::Cas { key: key(1), expected: Some(vec![1; 3000]), new: Some(vec![2]) });
    say(1, &KvOperation::Cas { key: key(2), expected: None, new: None });
    say(0x82, &KvOperation::Delete { key: key(3) });
    vec![script]
}

/// The files of the repository's examples that end so.
fn examples(extension: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|other| other == extension) {
            found.push(std::fs::read(path)?);
        }
    }
    Ok(found)
}

fn process_answer() -> Vec<Vec<u8>> {
    [
        r#"{"outputs":[{"port":"heater","value":"on"},{"port":"heater","value":{"a":[1.5]}}]}"#,
        r#"{"state":{"heating":true,"readings":[1,2.5e3,-0.0]}}"#,
        r#"{"restored":true}"#,
        r#"{"error":"no such port"}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .into()
}

fn group_file() -> Vec<Vec<u8>> {
    let public = |secret: u8| Identity::from_secret_bytes(&[secret; 64]).public().to_string();
    let replica = |i: u8| serde_json::json!({ "address": format!("127.0.0.1:{}", 4000 + u16::from(i)), "public_key": public(i) });
    let client =
        serde_json::json!({ "id": "12345678901234567890", "role": "operator", "public_key": public(9) });
    let group = serde_json::json!({
        "name": "thermostat",
        "id": "000102030405060708090a0b0c0d0e0f",
        "f": 1,
        "replicas": [replica(1), replica(2), replica(3), replica(4)],
        "clients": [client],
        "durability": "none",
        "request_auth": "signatures",
    });
    let request = serde_json::json!({ "request": "inject", "fault": { "kind": "delay", "ms": 300 } });
    let [threshold, plain] = sites();
    let share_keys: Vec<_> = threshold.shares.keys().map(|key| key.to_string()).collect();
    let public = |site: &SiteDeal| site.shares.public().to_string();
    let threshold = serde_json::json!({
        "name": "athens", "servers": 4, "f": 1, "public_key": public(&threshold), "share_keys": share_keys,
    });
    let plain = serde_json::json!({ "name": "oslo", "servers": 3, "public_key": public(&plain) });
    [group, request, threshold, plain].map(|json| json.to_string().into_bytes()).into()
}
