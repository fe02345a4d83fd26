use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::flow::Flow;

/// The most connections on one way; more wait.
const MAX_CONNECTIONS: usize = 128;

/// What the system keeps of a connection before it is read, in bytes: little, so that a sender soon notices that the
/// uplink is full.
const RECEIVE_BYTES: u32 = 64 << 10;

/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

/// How often one is looked at that waits for a cut link.
const GLANCE: Duration = Duration::from_millis(100);

/// The pause after the system has refused a connection, as it does when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The way from a site to a server of another one: a listening address.
#[derive(Debug)]
pub(super) struct Way {
    listener: TcpListener,
    server: SocketAddr,
    there: Flow,
    back: Flow,
}

impl Way {
    /// Listens at `listen` for those who want to reach `server`; what they send goes `there`, and what the server
    /// answers `back`.
    pub(super) fn open(listen: SocketAddr, server: SocketAddr, there: Flow, back: Flow) -> io::Result<Self> {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        socket.bind(listen)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, server, there, back })
    }

    /// Takes connections for as long as it is polled.
    pub(super) async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (there, back, server) = (self.there.clone(), self.back.clone(), self.server);
                    connections.spawn(async move {
                        if let Err(error) = connect(stream, server, there, back).await {
                            tracing::debug!(%server, %error, "a connection between sites ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the links can not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Resolves when whoever connected has gone. What it has sent before stays unread.
async fn has_given_up(client: &TcpStream) {
    loop {
        match client.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            Ok(_) => sleep(GLANCE).await,
            Err(_) => return,
        }
    }
}

/// Carries a connection from its beginning to its end. While one direction is cut it does not begin.
async fn connect(client: TcpStream, server: SocketAddr, there: Flow, back: Flow) -> io::Result<()> {
    let _counted = (there.pair.connection(), back.pair.connection());
    let open = async {
        there.pair.until_open().await;
        back.pair.until_open().await;
    };
    tokio::select! {
        () = open => {}
        () = has_given_up(&client) => return Ok(()),
    }
    client.set_nodelay(true)?;
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    let server = socket.connect(server).await?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(there.carry(from_client, to_server), back.carry(from_server, to_client))?;
    Ok(())
}
