use althing_types::GroupId;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::channel::{Local, Role, accept, initiate};

const FRAME_LIMIT: usize = 1 << 20;

async fn connected() -> (ChannelWriter<DuplexStream>, ChannelReader<DuplexStream>) {
    let pattern = "Noise_XK_25519_AESGCM_BLAKE2s".parse().unwrap();
    let pair = snow::Builder::new(pattern).generate_keypair().unwrap();
    let bytes = |key: Vec<u8>| <[u8; 32]>::try_from(key).unwrap();
    let local = Local { secret: bytes(pair.private).into(), group: GroupId::default() };
    let (near, far) = duplex(1 << 20);
    let (dialled, accepted) = tokio::join!(
        initiate(near, &local, Role::Client, crate::channel::PublicKey(bytes(pair.public))),
        accept(far, &local, |_, _| Ok(())),
    );
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap().0);
    (
        ChannelWriter::new(dialled.stream, dialled.sealer),
        ChannelReader::new(accepted.stream, accepted.opener, FRAME_LIMIT),
    )
}

#[tokio::test]
async fn frames_of_all_sizes_pass() {
    let (mut writer, mut reader) = connected().await;
    let lens = [0, 1, 100, CHUNK_LEN - 4, CHUNK_LEN - 3, CHUNK_LEN, 3 * CHUNK_LEN, FRAME_LIMIT];
    let sending = async {
        for len in lens {
            writer.push(&[&vec![len as u8; len]]);
            writer.push(&[b"after ", b"it"]);
            writer.flush().await.unwrap();
            writer.flush().await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut frames = Vec::new();
        while frames.len() < 2 * lens.len() {
            reader.read(&mut frames).await.unwrap();
        }
        let error = loop {
            if let Err(error) = reader.read(&mut frames).await {
                break error;
            }
        };
        assert!(matches!(error, ChannelError::Closed), "{error}");
        frames
    };
    let ((), frames) = tokio::join!(sending, receiving);
    assert_eq!(frames.len(), 2 * lens.len());
    for (pair, len) in frames.chunks(2).zip(lens) {
        assert_eq!(pair[0], vec![len as u8; len]);
        assert_eq!(pair[1], "after it");
    }
}

#[tokio::test]
async fn many_small_frames_share_a_message() {
    let (mut writer, mut reader) = connected().await;
    (0..1000).for_each(|_| writer.push(&[b"vote"]));
    writer.flush().await.unwrap();
    assert_eq!(writer.sealer.number, 1);
    let mut frames = Vec::new();
    reader.read(&mut frames).await.unwrap();
    assert_eq!(frames.len(), 1000);
}

#[tokio::test]
async fn a_frame_over_the_readers_limit_is_refused() {
    let (mut writer, mut reader) = connected().await;
    writer.push(&[&vec![0; FRAME_LIMIT + 1]]);
    let (_, read) = tokio::join!(writer.flush(), async {
        let mut frames = Vec::new();
        loop {
            reader.read(&mut frames).await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), ChannelError>(())
    });
    assert!(matches!(read, Err(ChannelError::Frame(_))), "{read:?}");
}

#[tokio::test]
async fn altered_replayed_and_reordered_messages_are_refused() {
    let (mut writer, reader) = connected().await;
    let mut opener = reader.opener;
    let mut messages = Vec::new();
    for plain in [b"one", b"two"] {
        let mut framed = Vec::new();
        writer.sealer.seal(plain, &mut framed);
        messages.push(framed[PREFIX_LEN..].to_vec());
    }
    let mut plain = Vec::new();
    let reordered = opener.open(&messages[1], &mut plain);
    assert!(matches!(reordered, Err(ChannelError::Message { number: 0 })));
    for at in 0..messages[0].len() {
        let mut altered = messages[0].clone();
        altered[at] ^= 0x80;
        assert!(opener.open(&altered, &mut plain).is_err());
    }
    assert!(opener.open(&[], &mut plain).is_err());
    opener.open(&messages[0], &mut plain).unwrap();
    assert_eq!(plain, b"one");
    let replayed = opener.open(&messages[0], &mut plain);
    assert!(matches!(replayed, Err(ChannelError::Message { number: 1 })));
    opener.open(&messages[1], &mut plain).unwrap();
    assert_eq!(plain, b"two");
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_message_or_frame_is_not_orderly() {
    let (mut writer, mut reader) = connected().await;
    writer.stream.write_all(&[5, 0]).await.unwrap();
    writer.shutdown().await.unwrap();
    let error = reader.read(&mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, ChannelError::Io(_)), "{error}");

    let (mut writer, mut reader) = connected().await;
    let mut sealed = Vec::new();
    writer.sealer.seal(&frame::encode_length(10), &mut sealed);
    writer.stream.write_all(&sealed).await.unwrap();
    writer.shutdown().await.unwrap();
    let mut frames = Vec::new();
    reader.read(&mut frames).await.unwrap();
    let error = reader.read(&mut frames).await.unwrap_err();
    assert!(matches!(error, ChannelError::Io(_)), "{error}");
}
