//! Entry synchronization over HTTP.
