use crate::clock::Clock;
use crate::dice::Dice;
use crate::keys::GroupKeys;
use crate::plan::Plan;
use crate::witness::labelled;
use althing_crypto::{Domain, Keyring, Mac, NewKey};
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_replica::{ClientFrame, Query};
use althing_services::KvOperation;
use althing_types::{ClientId, Epoch, Quorums, ReplicaId, RequestNumber, encode};
use std::sync::Arc;

/// A faulty client with keys of its own. It works on keys of the store that nobody else uses, so that
/// what the others see can be explained without it.
pub(crate) struct Rogue {
    id: ClientId,
    keyring: Keyring,
    quorums: Quorums,
    dice: Dice,
    number: u64,
    made: u64,
}

/// What a rogue does in one turn.
#[derive(Default)]
pub(crate) struct Mischief {
    /// What it may truly be said to have submitted.
    pub(crate) submitted: Vec<Vec<u8>>,
    pub(crate) frames: Vec<(ReplicaId, Arc<[u8]>)>,
}

impl Rogue {
    pub(crate) fn new(plan: &Plan, index: usize, dice: &mut Dice) -> Self {
        Self {
            id: ClientId(index as u64),
            keyring: GroupKeys::of_group(plan.quorums.n()).client(index).clone(),
            quorums: plan.quorums,
            dice: dice.fork(),
            number: 0,
            made: 0,
        }
    }

    /// Learns the keys that replicas have announced, as anybody may.
    pub(crate) fn learn(&mut self, now: u64, announced: Vec<NewKey>) {
        for new_key in announced {
            let _ = self.keyring.learn(Clock::TRUE.read(now), new_key);
        }
    }

    pub(crate) fn turn(&mut self, has_one_trick: bool) -> Mischief {
        let mut mischief = Mischief::default();
        match self.dice.below(10) {
            _ if has_one_trick => self.inconsistent_macs(&mut mischief),
            0..3 => self.inconsistent_macs(&mut mischief),
            3 | 4 => self.one_number_twice(&mut mischief),
            5 => self.strange_number(&mut mischief),
            6 => self.in_anothers_name(&mut mischief),
            7 => self.garbage(&mut mischief),
            8 => self.query(&mut mischief),
            _ => self.flood(&mut mischief),
        }
        mischief
    }

    /// A request with the next number, not authenticated yet.
    fn request(&mut self, mischief: &mut Mischief) -> Request {
        self.number = self.number.saturating_add(1);
        self.request_numbered(self.number, mischief)
    }

    fn request_numbered(&mut self, number: u64, mischief: &mut Mischief) -> Request {
        self.made += 1;
        let operation = match self.dice.below(10) {
            0 => self.dice.bytes(60),
            1 => KvOperation::Put { key: vec![b'x'; 2000], value: vec![1; 10] }.encode(),
            _ => KvOperation::Put { key: format!("rogue {}", self.id).into_bytes(), value: vec![7; 20] }
                .encode(),
        };
        let operation = labelled(self.id.0 << 32 | self.made, &operation);
        mischief.submitted.push(operation.clone());
        let auth = RequestAuth::Signed(althing_crypto::Proof(Vec::new()));
        // Also replicas that do not exist, and none at all.
        let n = u16::try_from(self.quorums.n()).expect("a small group");
        let answers = match self.dice.below(3) {
            0 => Answers::All,
            1 => Answers::Few { asked: Vec::new(), firmly: 7 },
            _ => Answers::Few { asked: (n / 2..n + 2).map(ReplicaId).collect(), firmly: 1 },
        };
        let mut request = Request {
            client: self.id,
            number: RequestNumber(number),
            kind: RequestKind::Service,
            epoch: Epoch(0),
            operation,
            answers,
            auth,
            is_authentic: false,
        };
        self.authenticate(&mut request);
        request
    }

    fn authenticate(&mut self, request: &mut Request) {
        let bytes = request.signed_bytes();
        request.auth = if self.dice.chance(300) {
            RequestAuth::Signed(self.keyring.sign(Domain::Request, &bytes))
        } else {
            RequestAuth::Macs(self.keyring.authenticate(Domain::Request, &bytes))
        };
    }

    /// To the primary of one of the first views, to all, or to some.
    fn send(&mut self, request: Request, mischief: &mut Mischief) {
        let frame = match self.dice.below(10) {
            0 => ClientFrame::Witness(request),
            1 => ClientFrame::Body(request),
            _ => ClientFrame::Request(request),
        };
        let frame: Arc<[u8]> = encode(&frame).into();
        let share = self.dice.pick(&[200, 500, 1000]);
        for to in self.quorums.replicas() {
            if self.dice.chance(share) {
                mischief.frames.push((to, frame.clone()));
            }
        }
    }

    /// Good for some replicas and bad for others (the attack that Aardvark is named for).
    fn inconsistent_macs(&mut self, mischief: &mut Mischief) {
        let mut request = self.request(mischief);
        let mut macs = self.keyring.authenticate(Domain::Request, &request.signed_bytes());
        let bad = self.dice.pick(&[200, 500, 800]);
        for mac in &mut macs.0 {
            if self.dice.chance(bad) {
                *mac = Mac([0; 16]);
            }
        }
        if self.dice.chance(100) {
            macs.0.pop();
        }
        request.auth = RequestAuth::Macs(macs);
        self.send(request, mischief);
    }

    /// Two operations under one number, each to some.
    fn one_number_twice(&mut self, mischief: &mut Mischief) {
        let first = self.request(mischief);
        let second = self.request_numbered(first.number.0, mischief);
        self.send(first, mischief);
        self.send(second, mischief);
    }

    /// Far ahead, long past, or the last there is.
    fn strange_number(&mut self, mischief: &mut Mischief) {
        let number = match self.dice.below(10) {
            0 => u64::MAX,
            1..5 => self.number.saturating_add(self.dice.below(1000)),
            _ => self.dice.below(self.number.saturating_add(1)),
        };
        self.number = self.number.max(number);
        let request = self.request_numbered(number, mischief);
        self.send(request, mischief);
    }

    /// With another client's id, under its own keys.
    fn in_anothers_name(&mut self, mischief: &mut Mischief) {
        let mut request = self.request(mischief);
        // Nobody submitted it in that name.
        mischief.submitted.clear();
        request.client = ClientId(self.dice.below(self.id.0 + 3));
        if request.client == self.id {
            request.client = ClientId(99);
        }
        self.authenticate(&mut request);
        self.send(request, mischief);
    }

    fn garbage(&mut self, mischief: &mut Mischief) {
        for to in self.quorums.replicas() {
            let bytes = match self.dice.below(4) {
                0 => Vec::new(),
                1 => vec![0xff; 40],
                2 => vec![0; 10_000],
                _ => self.dice.bytes(300),
            };
            mischief.frames.push((to, bytes.into()));
        }
    }

    fn query(&mut self, mischief: &mut Mischief) {
        let operation = labelled(0, &KvOperation::Get { key: b"k0".to_vec() }.encode());
        let (client, number) = (self.id, RequestNumber(self.dice.below(u64::MAX)));
        let mut query = Query {
            client,
            number,
            epoch: Epoch(0),
            operation,
            macs: althing_crypto::Authenticator(Vec::new()),
        };
        query.macs = self.keyring.authenticate(Domain::Query, &query.signed_bytes());
        if self.dice.chance(300) {
            query.macs.0.truncate(1);
        }
        let frame: Arc<[u8]> = encode(&ClientFrame::Query(query)).into();
        mischief.frames.extend(self.quorums.replicas().map(|to| (to, frame.clone())));
    }

    /// The same again and again.
    fn flood(&mut self, mischief: &mut Mischief) {
        let request = self.request(mischief);
        for _ in 0..self.dice.between(3, 15) {
            self.send(request.clone(), mischief);
        }
    }
}
