//! The terminal: raw while the chat is on it, as it was before afterwards, whatever happens.

use std::io::{IsTerminal, stdout};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, KeyEventKind};
use ratatui::crossterm::{execute, terminal};

use crate::app::{App, Event};
use crate::error::{Error, Result};
use crate::limits;
use crate::model::{Command, News};
use crate::view;

/// Says why there can be no screen here.
pub(crate) fn check() -> Result<()> {
    if !stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(
            Error::new("this is no terminal").hint("--create-only serves a room without a screen")
        );
    }
    let (columns, rows) = terminal::size()?;
    let (least_columns, least_rows) = limits::SCREEN;
    if columns < least_columns || rows < least_rows {
        return Err(Error::new(format!(
            "the terminal is too small: {columns}×{rows}, and {least_columns}×{least_rows} are needed"
        )));
    }
    Ok(())
}

/// Runs the chat on the terminal until it is done.
pub(crate) fn run(
    app: &mut App,
    events: &Receiver<Event>,
    command: impl FnMut(Command) -> bool,
) -> Result<()> {
    // Restores the terminal in a panic too.
    let mut terminal = ratatui::try_init()?;
    let pasting = execute!(stdout(), EnableBracketedPaste);
    let result = pasting
        .map_err(Error::from)
        .and_then(|()| show(&mut terminal, app, events, command));
    // Whether this works or not, there is nothing else to be done.
    let _ = execute!(stdout(), DisableBracketedPaste);
    ratatui::restore();
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    events: &Receiver<Event>,
    mut command: impl FnMut(Command) -> bool,
) -> Result<()> {
    while !app.is_done {
        terminal.draw(|frame| view::draw(frame, app))?;
        let Ok(first) = events.recv() else {
            return Err(Error::new("the chat stopped"));
        };
        app.handle(first);
        // What came meanwhile needs no drawing of its own.
        events
            .try_iter()
            .take(limits::QUEUE)
            .for_each(|event| app.handle(event));
        while let Some(next) = app.poll_command() {
            if !command(next) {
                app.handle(Event::News(News::Notice("busy: try again".to_owned())));
            }
        }
    }
    Ok(())
}

/// Hands on what is typed, on a thread of its own, which ends with the program.
pub(crate) fn read_keys(events: SyncSender<Event>) -> Result<()> {
    let read = move || {
        while let Ok(event) = event::read() {
            let event = match event {
                event::Event::Key(key) if key.kind == KeyEventKind::Release => continue,
                event::Event::Key(key) => Event::Key(key),
                event::Event::Paste(text) => Event::Paste(text),
                _ => Event::Redraw,
            };
            if events.send(event).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = events.send(Event::End);
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(())
}

/// Hands on that the program is asked to end, by Ctrl-C where there is no screen, or by whoever started it.
pub(crate) fn watch_signals(events: SyncSender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let watch = move || {
        // Without signals the program ends by the signal itself.
        if runtime.block_on(asked_to_end()).is_ok() {
            let _ = events.send(Event::End);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)?;
    Ok(())
}

#[cfg(unix)]
async fn asked_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut hang_up) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
