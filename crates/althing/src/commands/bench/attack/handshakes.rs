//! A stranger that knows the replicas' public keys, as whoever has seen a group file does.

use althing_node::channel::{HELLO_LEN, Local, PublicKey, Role, SecretKey, initiate};
use althing_node::config::GroupConfig;
use miette::{IntoDiagnostic, Result, miette};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Handshakes with each replica at a time.
const AT_ONCE: usize = 32;

/// From where it calls where the replicas are on this machine, so that it is a stranger to them.
const STRANGE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// How long it waits for an answer before it calls again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits where it is not let through at all.
const PAUSE: Duration = Duration::from_millis(1);

/// Bytes of a length before a frame.
const PREFIX_LEN: usize = 4;

/// Bytes of the first message of the handshake.
const MESSAGE_LEN: usize = 48;

/// Calls all replicas, without end.
pub(super) async fn flood(group: &GroupConfig) -> Result<()> {
    let mut calls = JoinSet::new();
    for replica in group.replicas() {
        let first = first_frame(group, PublicKey(replica.key.exchange_bytes())).await?;
        for _ in 0..AT_ONCE {
            calls.spawn(call_again_and_again(replica.address, first.clone()));
        }
    }
    // None of them ends.
    calls.join_next().await.map_or(Ok(()), |ended| ended.into_diagnostic())
}

/// What a dialler says first. It can be said as often as one likes: only the replica has to compute anew.
async fn first_frame(group: &GroupConfig, remote: PublicKey) -> Result<Vec<u8>> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| miette!("no random bytes: {error}"))?;
    let local = Local { secret: SecretKey::from(secret), group: group.id() };
    let (near, mut far) = duplex(1 << 10);
    let mut first = vec![0; PREFIX_LEN + HELLO_LEN + MESSAGE_LEN];
    tokio::select! {
        _ = initiate(near, &local, Role::Client, remote) => Err(miette!("nobody has answered")),
        read = far.read_exact(&mut first) => read.map(|_| first).into_diagnostic(),
    }
}

async fn call_again_and_again(replica: SocketAddr, first: Vec<u8>) {
    loop {
        if timeout(PATIENCE, call(replica, &first)).await.is_ok_and(|called| called.is_err()) {
            sleep(PAUSE).await;
        }
    }
}

/// Has the replica compute its answer, and hangs up.
async fn call(replica: SocketAddr, first: &[u8]) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    if replica.ip().is_loopback() {
        socket.bind((STRANGE_ADDRESS, 0).into())?;
    }
    let mut stream = socket.connect(replica).await?;
    // Or the addresses of this machine would be used up by connections that linger.
    stream.set_zero_linger()?;
    stream.write_all(first).await?;
    stream.read_exact(&mut [0; 1]).await.map(|_| ())
}
