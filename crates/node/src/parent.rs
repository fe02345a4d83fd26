use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// From now on this process is killed when the one that started it ends, however that ends. It holds
/// across `exec`, but not for children. `parent` is that one's process id.
///
/// # Errors
/// When the system refuses, or the other process has ended already.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before the call has sent no signal, and this process has another one now.
    if getppid().is_none_or(|pid| u32::try_from(pid.as_raw_nonzero().get()) != Ok(parent)) {
        return Err(io::Error::other("the process that started this one has ended"));
    }
    Ok(())
}
