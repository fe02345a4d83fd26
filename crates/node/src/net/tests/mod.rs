//! Whole networks on loopback sockets. Everything waits for conditions, with generous timeouts.

mod exchange;
mod hostile;
mod members;
mod overload;
mod support;
