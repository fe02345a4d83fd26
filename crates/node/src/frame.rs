//! Frames: bytes with a four-byte little-endian length before them. Lengths are held against a
//! limit before anything is allocated; a frame under way takes memory only as its bytes arrive.

use bytes::Bytes;

/// Length of the length prefix in bytes.
pub const PREFIX_LEN: usize = 4;

/// A partial frame's buffer that has grown beyond this is given back to the system after use.
const KEPT_BUFFER_LEN: usize = 64 << 10;

/// A peer broke the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix announces more than is allowed.
    #[error("a frame of {len} bytes was announced, and the limit is {limit} bytes")]
    TooLong {
        /// The announced length in bytes.
        len: u32,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The length that a prefix announces, if it is at most `limit` bytes.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn decode_length(prefix: [u8; PREFIX_LEN], limit: usize) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(prefix);
    match usize::try_from(len) {
        Ok(fits) if fits <= limit => Ok(fits),
        _ => Err(FrameError::TooLong { len, limit }),
    }
}

/// The prefix of a frame of `len` bytes.
///
/// # Panics
/// If `len` exceeds `u32::MAX`; senders hold frames against their limits first.
#[must_use]
pub fn encode_length(len: usize) -> [u8; PREFIX_LEN] {
    u32::try_from(len).expect("frame longer than any limit").to_le_bytes()
}

/// Appends a frame made of these parts to `out`.
///
/// # Panics
/// As [`encode_length`].
pub fn encode(parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(&encode_length(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Cuts a stream of bytes, arriving in chunks of any sizes, into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// The beginning of a frame, its prefix included, whose end has not arrived.
    partial: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new() }
    }

    /// Takes the next bytes of the stream and appends the frames that they complete to `frames`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; the stream is then useless.
    pub fn push(&mut self, mut chunk: &[u8], frames: &mut Vec<Bytes>) -> Result<(), FrameError> {
        while !self.partial.is_empty() && !chunk.is_empty() {
            let wanted = self.wanted()?.min(chunk.len());
            let (now, later) = chunk.split_at(wanted);
            self.partial.extend_from_slice(now);
            chunk = later;
            if self.wanted()? == 0 {
                frames.push(Bytes::copy_from_slice(&self.partial[PREFIX_LEN..]));
                self.reset();
            }
        }
        while let Some((prefix, rest)) = chunk.split_first_chunk() {
            let len = decode_length(*prefix, self.limit)?;
            let Some((frame, rest)) = rest.split_at_checked(len) else { break };
            frames.push(Bytes::copy_from_slice(frame));
            chunk = rest;
        }
        self.partial.extend_from_slice(chunk);
        Ok(())
    }

    /// Whether the stream may end here: no frame is under way.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty()
    }

    /// How many bytes are missing from the prefix, or when that is there, from the frame.
    fn wanted(&self) -> Result<usize, FrameError> {
        match self.partial.first_chunk() {
            None => Ok(PREFIX_LEN - self.partial.len()),
            Some(prefix) => Ok(PREFIX_LEN + decode_length(*prefix, self.limit)? - self.partial.len()),
        }
    }

    fn reset(&mut self) {
        self.partial.clear();
        if self.partial.capacity() > KEPT_BUFFER_LEN {
            self.partial = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_up_to_the_limit_pass() {
        assert_eq!(decode_length(encode_length(0), 0), Ok(0));
        assert_eq!(decode_length(encode_length(1024), 1024), Ok(1024));
        let too_long = FrameError::TooLong { len: 1025, limit: 1024 };
        assert_eq!(decode_length(encode_length(1025), 1024), Err(too_long));
        let bomb = FrameError::TooLong { len: u32::MAX, limit: 1024 };
        assert_eq!(decode_length([0xff; 4], 1024), Err(bomb));
    }

    #[test]
    fn a_huge_prefix_is_refused_before_any_of_the_frame_is_kept() {
        let mut decoder = FrameDecoder::new(100);
        let mut frames = Vec::new();
        for byte in [0xff, 0xff, 0xff] {
            decoder.push(&[byte], &mut frames).unwrap();
        }
        assert!(decoder.push(&[0xff], &mut frames).is_err());
        assert!(decoder.partial.capacity() < 100);
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_announced() {
        let mut decoder = FrameDecoder::new(1 << 30);
        decoder.push(&encode_length(1 << 30), &mut Vec::new()).unwrap();
        decoder.push(&[0; 100], &mut Vec::new()).unwrap();
        assert!(decoder.partial.capacity() < 1024);
        assert!(!decoder.is_between_frames());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            chunk_len in 1..70_usize,
        ) {
            let mut stream = Vec::new();
            sent.iter().for_each(|frame| encode(&[frame], &mut stream));
            let mut decoder = FrameDecoder::new(50);
            let mut frames = Vec::new();
            for chunk in stream.chunks(chunk_len) {
                decoder.push(chunk, &mut frames).unwrap();
            }
            prop_assert_eq!(frames, sent);
            prop_assert!(decoder.is_between_frames());
        }

        #[test]
        fn no_stream_panics_or_passes_the_limit(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
        ) {
            let mut decoder = FrameDecoder::new(30);
            let mut frames = Vec::new();
            for chunk in chunks {
                if decoder.push(&chunk, &mut frames).is_err() {
                    break;
                }
            }
            prop_assert!(frames.iter().all(|frame| frame.len() <= 30));
        }
    }
}
