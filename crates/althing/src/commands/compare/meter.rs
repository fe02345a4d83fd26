//! What computing takes on this machine.

use miette::{IntoDiagnostic, Result};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Frames that are sent to see what one costs, of so many bytes.
const FRAMES: u32 = 4000;
const FRAME_BYTES: usize = 256;

/// How long the core has worked for this thread, in nanoseconds. What else runs on it does not count.
pub(super) fn worked_ns() -> u64 {
    let worked = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(worked.tv_sec * 1_000_000_000 + worked.tv_nsec).unwrap_or_default()
}

/// What the kernel takes to send a frame, or to receive one: half of both, over loopback.
pub(super) fn frame_cost() -> Result<Duration> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).into_diagnostic()?;
    let mut out = TcpStream::connect(listener.local_addr().into_diagnostic()?).into_diagnostic()?;
    let (mut back, _) = listener.accept().into_diagnostic()?;
    out.set_nodelay(true).into_diagnostic()?;
    let mut frame = [7; FRAME_BYTES];
    let before = worked_ns();
    for _ in 0..FRAMES {
        out.write_all(&frame).into_diagnostic()?;
        back.read_exact(&mut frame).into_diagnostic()?;
    }
    Ok(Duration::from_nanos((worked_ns() - before) / u64::from(2 * FRAMES)))
}
