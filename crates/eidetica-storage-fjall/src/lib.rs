//! The fjall storage engine.
