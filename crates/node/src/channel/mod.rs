//! Authenticated and encrypted channels between known keys, over any byte stream.
//!
//! The handshake is Noise XK (`docs/adr/`: "Channels are Noise XK"): the dialler knows the key of
//! whom it calls, and the acceptor learns the dialler's key, proven fresh, in the third message.
//!
//! ```text
//! dialler  → acceptor   frame: hello 28 | Noise message 1 (48)
//! acceptor → dialler    frame: 0 | Noise message 2 (48)      or  frame: reason of refusal (1)
//! dialler  → acceptor   frame: Noise message 3 (64)
//! acceptor → dialler    sealed: 0                            or  sealed: reason of refusal
//! both                  sealed: frames, cut and joined at will; empty to keep alive
//! ```
//!
//! A refusal before the third message is not authenticated, and good for a log line only.

mod error;
mod handshake;
mod hello;
mod keys;
mod transport;

pub use error::{ChannelError, Refusal};
pub use handshake::{Call, Channel, HANDSHAKE_FRAME_LIMIT, Local, accept, hear, initiate};
pub use hello::{HELLO_LEN, Hello, Role};
pub use keys::{PublicKey, SecretKey};
pub use transport::{ChannelReader, ChannelWriter, MESSAGE_LIMIT};
