//! The only place of Althing with threads, sockets, disks and the wall clock.

pub mod channel;
pub mod frame;
pub mod log;
