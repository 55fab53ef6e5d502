//! Chat rooms on Eidetica. Each room is a database; its members hold it whole, write while they are offline, and meet
//! again over HTTP or Iroh.
//!
//! `session` has the databases and peers, `app` is what the screen shows, `view` draws it, `terminal` owns the screen and
//! `headless` does without one.

mod address;
mod app;
mod args;
mod error;
mod glyphs;
mod headless;
mod input;
mod join;
mod limits;
mod log;
mod model;
mod names;
mod room;
mod session;
mod slash;
mod terminal;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod transcript;
mod view;

use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};

use clap::Parser;
use jiff::tz::TimeZone;

use app::{App, Event};
use args::Args;
use error::Result;
use model::News;
use session::Session;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if !args.create_only {
        terminal::check()?;
    }
    let log = log::start(args.verbose)?;
    let (sender, events) = sync_channel(limits::QUEUE);
    terminal::watch_signals(sender.clone())?;
    let session = Session::open(args, news(sender.clone()))?;
    let mut app = App::new(&session.own_key()?, storage(args), TimeZone::system());
    let session = session.start(args)?;
    if let Some(path) = &log {
        app.handle(Event::News(News::Notice(format!(
            "log: {}",
            path.display()
        ))));
    }
    let command = |command| session.command(command);
    let result = if args.create_only {
        headless::read_lines(sender)?;
        headless::run(&mut app, &events, command);
        Ok(())
    } else {
        terminal::read_keys(sender)?;
        terminal::run(&mut app, &events, command)
    };
    drop(events);
    session.close();
    result
}

/// The session's news as events.
fn news(events: SyncSender<Event>) -> impl Fn(News) + Send {
    move |news| {
        // An error means that nobody listens any more.
        let _ = events.send(Event::News(news));
    }
}

/// Where the data is, in words.
fn storage(args: &Args) -> String {
    match &args.data_dir {
        Some(dir) => format!("kept in {}", dir.display()),
        None => "in memory: gone when you leave".to_owned(),
    }
}
