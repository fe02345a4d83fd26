//! The only place of Althing with threads, sockets, disks and the wall clock.

pub mod log;
