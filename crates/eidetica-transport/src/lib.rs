//! What a transport is: addresses, frames, channels, and the in-memory one.
