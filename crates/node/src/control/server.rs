use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::call::{ControlError, Request, Response};

/// The longest request in bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// Connections served at once; others wait.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// The longest path that fits a socket address, by the system's definition less its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// A request that came in, to be answered.
#[derive(Debug)]
pub(crate) struct ControlCall {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Response>,
}

/// The control socket, open for as long as this is kept.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    accepting: tokio::task::JoinHandle<()>,
}

impl ControlServer {
    /// Opens the socket at `path`, in place of one that an earlier process has left.
    pub(crate) fn open(path: &Path) -> Result<(Self, mpsc::Receiver<ControlCall>), ControlError> {
        let error = path_error(path);
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error(e)),
            _ => {}
        }
        let short = ShortPath::new(path).map_err(&error)?;
        let listener = UnixListener::bind(short.as_path()).map_err(&error)?;
        // Its directory is its owner's alone already; this is for those who move it elsewhere.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(&error)?;
        let (calls, received) = mpsc::channel(MAX_CONNECTIONS);
        let accepting = tokio::spawn(accept(listener, calls));
        Ok((Self { path: path.to_owned(), accepting }, received))
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.accepting.abort();
        // A socket that is left behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

pub(super) fn path_error(path: &Path) -> impl Fn(io::Error) -> ControlError + '_ {
    |source| ControlError::Open { path: path.to_owned(), source }
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<ControlCall>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, calls).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket can not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<ControlCall>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(MAX_REQUEST_BYTES);
        let length = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice(&line) {
            Ok(request) => ask(&calls, request).await,
            Err(error) => Response::Refused { reason: format!("not a request: {error}") },
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        tokio::time::timeout(IDLE, write.write_all(&text)).await??;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
    }
}

async fn ask(calls: &mpsc::Sender<ControlCall>, request: Request) -> Response {
    let (answer, answered) = oneshot::channel();
    let ending = || Response::Refused { reason: "the process is ending".to_owned() };
    if calls.send(ControlCall { request, answer }).await.is_err() {
        return ending();
    }
    answered.await.unwrap_or_else(|_| ending())
}

/// A path to a socket that is short enough for a socket address: one that is too long is reached
/// through its directory, held open.
pub(super) struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl ShortPath {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }
}
