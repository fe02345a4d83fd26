use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// From now on this process is killed when the one that started it ends, however that ends. It holds
/// across `exec`, but not for children.
///
/// # Errors
/// When the system refuses, or the other process has ended already.
pub fn die_with_parent() -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before the call has sent no signal.
    if getppid() != parent || parent.is_none() {
        return Err(io::Error::other("the process that started this one has ended"));
    }
    Ok(())
}
