//! Frames and the hello of a channel. However a stream of bytes is cut into chunks, the frames in it
//! are the same. The first bytes say where it is cut.
#![no_main]

use althing_node::channel::{HELLO_LEN, Hello};
use althing_node::frame::{FrameDecoder, encode};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 512;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, stream) = input;
    if let Some(Ok(hello)) = stream.first_chunk::<HELLO_LEN>().map(Hello::decode) {
        assert_eq!(hello.encode(), stream[..HELLO_LEN], "a hello has a second encoding");
    }

    let (mut whole, mut at_once) = (FrameDecoder::new(LIMIT), Vec::new());
    let verdict = whole.push(stream, &mut at_once);

    let (mut chunked, mut bit_by_bit) = (FrameDecoder::new(LIMIT), Vec::new());
    let (mut rest, mut failed) = (stream, None);
    for cut in cuts.iter().map(|cut| usize::from(*cut)).chain([usize::MAX]) {
        let (chunk, later) = rest.split_at(cut.min(rest.len()));
        rest = later;
        if let Err(error) = chunked.push(chunk, &mut bit_by_bit) {
            failed = Some(error);
            break;
        }
    }
    assert_eq!(at_once, bit_by_bit, "the frames depend on the chunks");
    assert_eq!(verdict.err(), failed, "the verdict depends on the chunks");

    let mut again = Vec::new();
    at_once.iter().for_each(|frame| encode(&[frame], &mut again));
    assert!(stream.starts_with(&again), "frames are not what was sent");
    assert!(at_once.iter().all(|frame| frame.len() <= LIMIT));
});
