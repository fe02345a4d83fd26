//! Whole networks on loopback sockets. Everything waits for conditions, with generous timeouts.

mod exchange;
mod hostile;
mod overload;
mod support;
