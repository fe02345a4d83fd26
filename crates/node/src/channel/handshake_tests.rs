use tokio::io::{DuplexStream, duplex};

use super::*;

const GROUP: GroupId = GroupId([1; 16]);

/// A key pair, as key files hold them.
fn key_pair() -> (SecretKey, PublicKey) {
    let pair = snow::Builder::new(PATTERN.parse().unwrap()).generate_keypair().unwrap();
    let bytes = |key: Vec<u8>| <[u8; 32]>::try_from(key).unwrap();
    (bytes(pair.private).into(), PublicKey(bytes(pair.public)))
}

struct Pair {
    dialler: Local,
    dialler_key: PublicKey,
    acceptor: Local,
    acceptor_key: PublicKey,
}

fn pair() -> Pair {
    let ((dialler, dialler_key), (acceptor, acceptor_key)) = (key_pair(), key_pair());
    Pair {
        dialler: Local { secret: dialler, group: GROUP },
        dialler_key,
        acceptor: Local { secret: acceptor, group: GROUP },
        acceptor_key,
    }
}

type Accepted = Result<(Channel<DuplexStream>, (PublicKey, Role)), ChannelError>;

/// Accepts whatever these bytes make of a dialler that then falls silent.
async fn accept_bytes(pair: &Pair, bytes: &[u8]) -> (ChannelError, Vec<u8>) {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let admit = |_, _| -> Result<(), Refusal> { panic!("nobody has proven a key") };
    let error = accept(far, &pair.acceptor, admit).await.unwrap_err();
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    (error, answer)
}

async fn both(pair: &Pair, expected: PublicKey) -> (Result<Channel<DuplexStream>, ChannelError>, Accepted) {
    let (near, far) = duplex(1 << 16);
    tokio::join!(
        initiate(near, &pair.dialler, Role::Client, expected),
        accept(far, &pair.acceptor, |key, role| Ok((key, role))),
    )
}

/// What a dialler sends in a whole handshake.
async fn recorded(pair: &Pair) -> Vec<u8> {
    let (near, mut tap) = duplex(1 << 16);
    let (mut tap_out, far) = duplex(1 << 16);
    let copy = async {
        let (mut from_dialler, mut to_dialler) = tokio::io::split(&mut tap);
        let (mut from_acceptor, mut to_acceptor) = tokio::io::split(&mut tap_out);
        let mut sent = Vec::new();
        let forward = async {
            let mut byte = [0];
            while from_dialler.read_exact(&mut byte).await.is_ok() {
                sent.push(byte[0]);
                if to_acceptor.write_all(&byte).await.is_err() {
                    return;
                }
            }
        };
        let back = tokio::io::copy(&mut from_acceptor, &mut to_dialler);
        let _ = tokio::join!(forward, back);
        sent
    };
    let ends = async {
        let channels = tokio::join!(
            initiate(near, &pair.dialler, Role::Client, pair.acceptor_key),
            accept(far, &pair.acceptor, |_, _| Ok(())),
        );
        assert!(channels.0.is_ok() && channels.1.is_ok());
    };
    tokio::join!(copy, ends).0
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let pair = pair();
    let (dialled, accepted) = both(&pair, pair.acceptor_key).await;
    assert_eq!(dialled.unwrap().remote, pair.acceptor_key);
    let (channel, admitted) = accepted.unwrap();
    assert_eq!(channel.remote, pair.dialler_key);
    assert_eq!(admitted, (pair.dialler_key, Role::Client));
}

#[tokio::test]
async fn an_acceptor_with_another_key_is_not_taken_for_the_expected_one() {
    let pair = pair();
    let (dialled, accepted) = both(&pair, key_pair().1).await;
    assert!(matches!(dialled, Err(ChannelError::Refused(Refusal::Handshake))));
    assert!(matches!(accepted, Err(ChannelError::Handshake { number: 1 })));
}

#[tokio::test]
async fn another_group_is_refused_by_name() {
    let mut pair = pair();
    pair.dialler.group = GroupId([2; 16]);
    let (dialled, accepted) = both(&pair, pair.acceptor_key).await;
    assert!(matches!(dialled, Err(ChannelError::Refused(Refusal::Group))));
    let Err(ChannelError::Group { found }) = accepted else { panic!() };
    assert_eq!(found, pair.dialler.group);
}

#[tokio::test]
async fn a_refused_dialler_is_told_why() {
    for refusal in [Refusal::UnknownKey, Refusal::Role, Refusal::Busy] {
        let pair = pair();
        let (near, far) = duplex(1 << 16);
        let (dialled, accepted) = tokio::join!(
            initiate(near, &pair.dialler, Role::Replica, pair.acceptor_key),
            accept(far, &pair.acceptor, |_, _| Err::<(), _>(refusal)),
        );
        assert!(matches!(dialled, Err(ChannelError::Refused(told)) if told == refusal));
        assert!(matches!(accepted, Err(ChannelError::Refusing(told)) if told == refusal));
    }
}

#[tokio::test]
async fn a_replayed_handshake_proves_nothing() {
    let pair = pair();
    let sent = recorded(&pair).await;
    let (error, _) = accept_bytes(&pair, &sent).await;
    assert!(matches!(error, ChannelError::Handshake { number: 3 }), "{error}");
}

#[tokio::test]
async fn a_handshake_cut_at_any_byte_is_an_error() {
    let pair = pair();
    let sent = recorded(&pair).await;
    for cut in 0..sent.len() {
        let (error, _) = accept_bytes(&pair, &sent[..cut]).await;
        assert!(matches!(error, ChannelError::Io(_)), "cut at {cut}: {error}");
    }
}

#[tokio::test]
async fn a_first_frame_altered_in_any_byte_is_refused() {
    let pair = pair();
    let sent = recorded(&pair).await;
    let first_len = frame::PREFIX_LEN + HELLO_LEN + MESSAGE_LENS[0];
    for at in 0..first_len {
        let mut altered = sent.clone();
        altered[at] ^= 1;
        let (error, answer) = accept_bytes(&pair, &altered).await;
        assert!(!matches!(error, ChannelError::Handshake { number: 3 }), "byte {at}: {error}");
        // At most a refusal was answered, and never the second message.
        assert!(answer.len() <= 2 * frame::PREFIX_LEN + 1 + 2, "byte {at}: {answer:?}");
    }
}

/// What a dialler makes of these answers to its first frame, after which the acceptor hangs up.
async fn answered(pair: &Pair, answers: &[&[u8]]) -> ChannelError {
    let (near, mut far) = duplex(1 << 16);
    for answer in answers {
        write_frame(&mut far, answer).await.unwrap();
    }
    far.shutdown().await.unwrap();
    initiate(near, &pair.dialler, Role::Replica, pair.acceptor_key).await.unwrap_err()
}

#[tokio::test]
async fn both_ends_name_both_versions_and_what_to_do() {
    let pair = pair();
    let mut sent = recorded(&pair).await;
    let older = VERSION - 1;
    sent[frame::PREFIX_LEN + 8..][..2].copy_from_slice(&older.to_le_bytes());
    let (error, answer) = accept_bytes(&pair, &sent).await;
    let text = format!(
        "the peer speaks version {older} of the channel protocol, and this node version {VERSION}; \
         run the same release of althing at both ends"
    );
    assert_eq!(error.to_string(), text);

    // Who spoke only the version before has a reason, and who reads on has the version.
    let (mut expected, code) = (Vec::new(), Refusal::Version.code());
    frame::encode(&[&[code]], &mut expected);
    frame::encode(&[&VERSION.to_le_bytes()], &mut expected);
    assert_eq!(answer, expected);

    assert_eq!(answered(&pair, &[&[code], &older.to_le_bytes()]).await.to_string(), text);
    let earlier = answered(&pair, &[&[code]]).await;
    assert!(matches!(earlier, ChannelError::Refused(Refusal::Version)), "{earlier}");
    let what = earlier.to_string();
    assert!(what.contains(&format!("version {VERSION} ")) && what.contains("same release"), "{what}");
}

#[tokio::test]
async fn hostile_beginnings_are_named() {
    let pair = pair();
    let (error, _) = accept_bytes(&pair, &[0xff; 100]).await;
    assert!(matches!(error, ChannelError::Frame(_)), "{error}");
    let (error, _) = accept_bytes(&pair, &[0, 0, 0, 0]).await;
    assert!(matches!(error, ChannelError::NotAlthing), "{error}");
    // Read as a length, "GET " is far over the limit.
    let (error, answer) = accept_bytes(&pair, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(error, ChannelError::Frame(_)), "{error}");
    assert!(answer.is_empty());
}
