use althing_types::GroupId;
use snow::HandshakeState;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    error::{ChannelError, Refusal},
    hello::{HELLO_LEN, Hello, Role, VERSION},
    keys::{PublicKey, SecretKey},
    transport::{ChannelReader, ChannelWriter, Keys, Opener, Sealer},
};
use crate::frame;

/// The longest frame read from a peer that has not proven its key, in bytes.
pub const HANDSHAKE_FRAME_LIMIT: usize = 1024;

const PATTERN: &str = "Noise_XK_25519_AESGCM_BLAKE2s";
/// Lengths of the three Noise messages in bytes.
const MESSAGE_LENS: [usize; 3] = [48, 48, 64];
const ACCEPTED: u8 = 0;

/// This side of a channel: its key and the group it speaks for.
#[derive(Debug, Clone)]
pub struct Local {
    /// The secret key.
    pub secret: SecretKey,
    /// The group.
    pub group: GroupId,
}

/// An established channel on the byte stream `S`.
#[derive(Debug)]
pub struct Channel<S> {
    /// The stream, with nothing of it read beyond the handshake.
    pub stream: S,
    /// The key that the peer has proven to hold.
    pub remote: PublicKey,
    /// Seals what this side sends.
    pub(super) sealer: Sealer,
    /// Opens what the other side sends.
    pub(super) opener: Opener,
}

impl Channel<TcpStream> {
    /// The two halves, reading frames of at most `frame_limit` bytes.
    #[must_use]
    pub fn into_split(
        self,
        frame_limit: usize,
    ) -> (ChannelReader<OwnedReadHalf>, ChannelWriter<OwnedWriteHalf>) {
        let (read, write) = self.stream.into_split();
        (ChannelReader::new(read, self.opener, frame_limit), ChannelWriter::new(write, self.sealer))
    }
}

/// Opens a channel as the dialler, to whoever holds `remote`'s secret key.
///
/// There is no timeout in here; the caller sets one.
///
/// # Errors
/// When the connection fails, the peer does not hold the key, or it refuses.
pub async fn initiate<S>(
    mut stream: S,
    local: &Local,
    role: Role,
    remote: PublicKey,
) -> Result<Channel<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = Hello { role, group: local.group }.encode();
    let mut noise = builder(local, &hello)
        .and_then(|builder| builder.remote_public_key(&remote.0))
        .and_then(snow::Builder::build_initiator)
        .expect("a fixed pattern with all of its keys");

    let mut first = hello.to_vec();
    first.extend_from_slice(&write(&mut noise));
    write_frame(&mut stream, &first).await?;

    let answer = read_frame(&mut stream).await?;
    match answer.split_first() {
        Some((&ACCEPTED, message)) => read(&mut noise, 2, message)?,
        Some((&code, [])) => return Err(refused(&mut stream, Refusal::from_code(code)).await),
        _ => return Err(ChannelError::Handshake { number: 2 }),
    }
    write_frame(&mut stream, &write(&mut noise)).await?;

    let mut channel = into_channel(stream, noise);
    let sealed = read_frame(&mut channel.stream).await?;
    let mut verdict = Vec::new();
    channel.opener.open(&sealed, &mut verdict)?;
    match verdict[..] {
        [ACCEPTED] => Ok(channel),
        [code] => Err(ChannelError::Refused(Refusal::from_code(code))),
        _ => Err(ChannelError::Handshake { number: 3 }),
    }
}

/// Opens a channel as the acceptor: [`hear`], and then [`Call::accept`].
///
/// There is no timeout in here; the caller sets one.
///
/// # Errors
/// When the connection fails, the dialler breaks the protocol, or is refused, of which it is told.
pub async fn accept<S, T>(
    stream: S,
    local: &Local,
    admit: impl FnOnce(PublicKey, Role) -> Result<T, Refusal>,
) -> Result<(Channel<S>, T), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    hear(stream, local).await?.accept(local, admit).await
}

/// A dialler that has said what it wants. Nothing has been computed for it yet.
#[derive(Debug)]
pub struct Call<S> {
    stream: S,
    role: Role,
    first: Vec<u8>,
}

/// Waits for what a dialler wants.
///
/// There is no timeout in here; the caller sets one.
///
/// # Errors
/// When the connection fails, or the dialler wants something else than a channel to this group, of which it
/// is told.
pub async fn hear<S>(mut stream: S, local: &Local) -> Result<Call<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = read_frame(&mut stream).await?;
    match check_hello(local, &first) {
        Ok(role) => Ok(Call { stream, role, first }),
        Err(error) => Err(refuse(stream, error).await),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Call<S> {
    /// Computes the rest. Once the dialler has proven its key, `admit` decides whether it is let in; what it
    /// returns is returned with the channel.
    ///
    /// There is no timeout in here; the caller sets one.
    ///
    /// # Errors
    /// When the connection fails, the dialler breaks the protocol, or is refused, of which it is told.
    pub async fn accept<T>(
        self,
        local: &Local,
        admit: impl FnOnce(PublicKey, Role) -> Result<T, Refusal>,
    ) -> Result<(Channel<S>, T), ChannelError> {
        let Self { mut stream, role, first } = self;
        let mut noise = match begin(local, &first) {
            Ok(noise) => noise,
            Err(error) => return Err(refuse(stream, error).await),
        };
        let mut answer = vec![ACCEPTED];
        answer.extend_from_slice(&write(&mut noise));
        write_frame(&mut stream, &answer).await?;

        let third = read_frame(&mut stream).await?;
        read(&mut noise, 3, &third)?;

        let mut channel = into_channel(stream, noise);
        let verdict = admit(channel.remote, role);
        let code = verdict.as_ref().map_or_else(|refusal| refusal.code(), |_| ACCEPTED);
        let mut sealed = Vec::new();
        channel.sealer.seal(&[code], &mut sealed);
        channel.stream.write_all(&sealed).await?;
        let admitted = verdict.map_err(ChannelError::Refusing)?;
        Ok((channel, admitted))
    }
}

impl Call<TcpStream> {
    /// Whether the dialler has hung up meanwhile. It waits for an answer, and says nothing before.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stream.try_read(&mut [0]).is_ok()
    }
}

/// Tells the dialler what is wrong with its first frame, where that helps. Returns the error.
async fn refuse<S: AsyncWrite + Unpin>(mut stream: S, error: ChannelError) -> ChannelError {
    let Some(refusal) = refusal_for(&error) else { return error };
    match tell(&mut stream, refusal).await {
        Ok(()) => error,
        Err(failure) => failure,
    }
}

/// A frame with the refusal's code, and one with our version if that is the reason: who speaks an earlier one reads
/// only the first, and so has a reason as well.
async fn tell<S: AsyncWrite + Unpin>(stream: &mut S, refusal: Refusal) -> Result<(), ChannelError> {
    write_frame(stream, &[refusal.code()]).await?;
    if refusal == Refusal::Version {
        write_frame(stream, &VERSION.to_le_bytes()).await?;
    }
    Ok(())
}

/// What the acceptor's refusal of the first frame means.
async fn refused<S: AsyncRead + Unpin>(stream: &mut S, refusal: Refusal) -> ChannelError {
    let version = if refusal == Refusal::Version { read_frame(stream).await.ok() } else { None };
    match version.map(<[u8; 2]>::try_from) {
        Some(Ok(version)) => ChannelError::Version { found: u16::from_le_bytes(version) },
        _ => ChannelError::Refused(refusal),
    }
}

/// Checks the hello in the dialler's first frame.
fn check_hello(local: &Local, first: &[u8]) -> Result<Role, ChannelError> {
    let (hello, message) = first.split_first_chunk::<HELLO_LEN>().ok_or(ChannelError::NotAlthing)?;
    let hello = Hello::decode(hello)?;
    if hello.group != local.group {
        return Err(ChannelError::Group { found: hello.group });
    }
    if message.len() != MESSAGE_LENS[0] {
        return Err(ChannelError::Handshake { number: 1 });
    }
    Ok(hello.role)
}

/// Takes the Noise message in the dialler's first frame, of which the hello is as it should be.
fn begin(local: &Local, first: &[u8]) -> Result<HandshakeState, ChannelError> {
    let (hello, message) = first.split_at(HELLO_LEN);
    let mut noise = builder(local, hello)
        .and_then(snow::Builder::build_responder)
        .expect("a fixed pattern with all of its keys");
    read(&mut noise, 1, message)?;
    Ok(noise)
}

/// What a dialler is told about the failure of its first frame; whatever does not speak the
/// protocol is told nothing.
fn refusal_for(error: &ChannelError) -> Option<Refusal> {
    match error {
        ChannelError::Version { .. } => Some(Refusal::Version),
        ChannelError::Group { .. } => Some(Refusal::Group),
        ChannelError::Handshake { .. } => Some(Refusal::Handshake),
        ChannelError::Role { .. } => Some(Refusal::Role),
        _ => None,
    }
}

fn builder<'a>(local: &'a Local, prologue: &'a [u8]) -> Result<snow::Builder<'a>, snow::Error> {
    let pattern = PATTERN.parse().expect("a pattern of the Noise specification");
    snow::Builder::new(pattern).local_private_key(local.secret.bytes())?.prologue(prologue)
}

/// The next handshake message of this side.
fn write(noise: &mut HandshakeState) -> Vec<u8> {
    let mut message = vec![0; HANDSHAKE_FRAME_LIMIT];
    let len = noise.write_message(&[], &mut message).expect("our turn, and room for the message");
    message.truncate(len);
    message
}

/// Takes the next handshake message, the `number`th, from the other side.
fn read(noise: &mut HandshakeState, number: u8, message: &[u8]) -> Result<(), ChannelError> {
    let expected_len = MESSAGE_LENS[usize::from(number) - 1];
    // Our messages carry no payload, so every length is known.
    if message.len() != expected_len || noise.read_message(message, &mut []).is_err() {
        return Err(ChannelError::Handshake { number });
    }
    Ok(())
}

fn into_channel<S>(stream: S, noise: HandshakeState) -> Channel<S> {
    let remote = noise.get_remote_static().and_then(|key| key.try_into().ok());
    let remote = PublicKey(remote.expect("the pattern has given us the peer's key"));
    let keys = noise.into_stateless_transport_mode().expect("the handshake is finished");
    let (sealer, opener) = Keys::new(keys).split();
    Channel { stream, remote, sealer, opener }
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, body: &[u8]) -> Result<(), ChannelError> {
    let mut framed = Vec::with_capacity(frame::PREFIX_LEN + body.len());
    frame::encode(&[body], &mut framed);
    Ok(stream.write_all(&framed).await?)
}

/// Reads one frame and not a byte more, since what follows is read by others.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ChannelError> {
    let mut prefix = [0; frame::PREFIX_LEN];
    stream.read_exact(&mut prefix).await?;
    let len = frame::decode_length(prefix, HANDSHAKE_FRAME_LIMIT)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
