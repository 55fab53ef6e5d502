//! The driver: sockets, timers and a bounded blocking pool around the pure engine.
