//! A panic in somebody else's engine becomes a typed error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use eidetica_storage::EngineError;

/// Runs a call into an engine that may panic when it meets damaged files.
///
/// The message of the panic goes into [`EngineError::Corrupt`]. What the call had in its hands must not
/// be used any more if it was changing it.
///
/// # Errors
/// The call's own, or [`EngineError::Corrupt`] if it panicked.
pub fn shield<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|payload| Err(EngineError::corrupt(message(&*payload))))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the engine panicked")
}
