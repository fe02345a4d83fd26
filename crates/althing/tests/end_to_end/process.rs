//! Processes of a test: each ends with the test, and nothing waits for one without a deadline.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take: far longer than it does, so that a slow machine passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The command under test.
pub(crate) fn althing() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_althing"));
    command.stdin(Stdio::null());
    command
}

/// One of this crate's example programs: `cargo test` builds them, and so does `--examples`.
pub(crate) fn own_program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    let program =
        own.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build -p althing --examples", program.display());
    program
}

/// Runs `althing` with `arguments` to its end.
pub(crate) fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    althing().args(arguments).output().expect("the binary under test can be started")
}

/// What a command printed, having ended with `code`.
#[track_caller]
pub(crate) fn expect(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {error}");
    (out, error)
}

/// A file of the repository's examples.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// That file with another content, in a directory of its own.
pub(crate) fn edited(name: &str, edit: impl FnOnce(&str) -> String) -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a temporary directory");
    let path = home.path().join(name);
    let text = fs::read_to_string(example(name)).expect("the example is there");
    fs::write(&path, edit(&text)).expect("a file in a temporary directory");
    (home, path)
}

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} has not happened within {PATIENCE:?}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether a process exists that has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; only its parent has not asked yet. The state follows the name in brackets.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the process can be signalled");
}

/// A child that is killed when the test is through with it.
#[derive(Debug)]
pub(crate) struct Kept(pub(crate) Child);

impl Kept {
    /// Starts a program; one that is missing fails the test with its Debian package's name.
    pub(crate) fn start(command: &mut Command, package: &str) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{:?} can't be started ({error}); install {package}", command.get_program()),
        }
    }

    /// Waits for its end and tells its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = &mut self.0;
        until("the end of a process", || child.try_wait().expect("a child can be waited for")).code()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a process prints, with deadlines.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next line for which `wanted` finds something; others are passed over.
    #[track_caller]
    pub(crate) fn next<T>(&self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return found,
                    None => passed.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within {PATIENCE:?}, but {passed:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {what}, after {passed:?}"),
            }
        }
    }
}
