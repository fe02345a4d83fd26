//! What a faulty client sends.

use super::Attack;
use althing_crypto::{Authenticator, Domain, Keyring};
use althing_node::config::ClientFile;
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_replica::{ClientFrame, Limits};
use althing_types::{ClientId, Epoch, Principal, RequestNumber, encode};
use miette::{IntoDiagnostic, Result, miette};
use std::time::{SystemTime, UNIX_EPOCH};

/// The length of what means nothing.
const GARBAGE_LEN: usize = 200;

/// Makes the frames of one client.
pub(super) struct Frames {
    attack: Attack,
    client: ClientId,
    keyring: Keyring,
    number: RequestNumber,
    noise: Vec<u8>,
}

impl Frames {
    pub(super) fn new(attack: Attack, file: &ClientFile) -> Result<Self> {
        let mut noise = vec![0; GARBAGE_LEN];
        getrandom::fill(&mut noise).map_err(|error| miette!("no random bytes: {error}"))?;
        let me = Principal::Client(file.client());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).into_diagnostic()?;
        // As clients do: above all that an earlier run has used.
        let number = RequestNumber(u64::try_from(now.as_nanos()).into_diagnostic()?);
        let keyring = file.group().keyring(me, file.identity().clone());
        Ok(Self { attack, client: file.client(), keyring, number, noise })
    }

    /// The next frame, the same for all replicas.
    pub(super) fn next(&mut self) -> Vec<u8> {
        self.number.0 += 1;
        match self.attack {
            Attack::BadMacs => self.request(0, |request, keyring| {
                let other = keyring.authenticate(Domain::Request, b"another one");
                request.auth = RequestAuth::Macs(other);
            }),
            Attack::BadSignatures => self.request(0, |request, keyring| {
                request.auth = RequestAuth::Signed(keyring.sign(Domain::Request, b"another one"));
            }),
            Attack::Requests => self.request(0, authenticate),
            Attack::LargeRequests => {
                let longest = Limits::default().settings().max_operation_bytes;
                self.request(longest, authenticate)
            }
            _ => self.noise.clone(),
        }
    }

    fn request(&mut self, bytes: usize, seal: impl FnOnce(&mut Request, &mut Keyring)) -> Vec<u8> {
        let mut request = Request {
            client: self.client,
            number: self.number,
            kind: RequestKind::Service,
            operation: vec![0; bytes],
            epoch: Epoch(0),
            answers: Answers::All,
            auth: RequestAuth::Macs(Authenticator(Vec::new())),
            is_authentic: false,
        };
        seal(&mut request, &mut self.keyring);
        encode(&ClientFrame::Request(request))
    }
}

fn authenticate(request: &mut Request, keyring: &mut Keyring) {
    request.auth = RequestAuth::Macs(keyring.authenticate(Domain::Request, &request.signed_bytes()));
}
