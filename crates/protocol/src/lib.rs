#![no_std]
//! Placeholder
extern crate alloc;
