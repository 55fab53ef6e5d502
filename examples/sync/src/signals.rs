//! Waiting to be told to stop.

use std::io;

/// Installs the handlers, then waits for the first of SIGINT (Ctrl-C) and SIGTERM. A second signal ends the
/// program at once.
///
/// # Errors
/// The handlers cannot be installed.
#[cfg(unix)]
pub fn stop_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(EXIT_INTERRUPTED);
        });
        name
    })
}

/// Waits for Ctrl-C.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn stop_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    Ok(async {
        tokio::signal::ctrl_c().await.ok();
        "Ctrl-C"
    })
}

/// As a shell shows a program that a signal ended.
#[cfg(unix)]
const EXIT_INTERRUPTED: i32 = 130;
