//! A room without a screen, for `--create-only`: prints the address, asks about those who would like to join, and serves.

use std::io::{BufRead, stdin};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use eidetica::sync::RequestId;
use eidetica::text::escape;

use crate::app::{App, Event};
use crate::error::Result;
use crate::model::{Command, News, RoomView};
use crate::view::asking;

/// Runs until the program is asked to end.
pub(crate) fn run(
    app: &mut App,
    events: &Receiver<Event>,
    mut command: impl FnMut(Command) -> bool,
) {
    let mut is_announced = false;
    let mut told: Vec<RequestId> = Vec::new();
    for event in events {
        match &event {
            Event::News(News::Room(room)) if !is_announced => {
                announce(room);
                is_announced = true;
            }
            Event::News(News::Notice(notice)) => eprintln!("{}", escape(notice)),
            Event::Line(line) => answer(app, line, &mut command),
            _ => {}
        }
        app.handle(event);
        if app.is_done {
            return;
        }
        for request in app
            .requests
            .iter()
            .filter(|request| !told.contains(&request.id))
        {
            println!("{}. Let in? Type y or n.", asking(app, request));
        }
        told = app.requests.iter().map(|request| request.id).collect();
    }
}

fn announce(room: &RoomView) {
    let Some(address) = &room.address else { return };
    println!("room {}: {address}", escape(&room.name));
    println!("join it: cargo run -- --username NAME --connect \"{address}\"");
    println!("Ctrl-C ends it.");
}

/// Lets the first of those in who ask, or refuses.
fn answer(app: &App, line: &str, command: &mut impl FnMut(Command) -> bool) {
    let Some(request) = app.requests.first() else {
        return println!("nobody asks to join");
    };
    let decision = match line.trim() {
        "y" | "yes" => Command::Approve(request.id),
        "n" | "no" => Command::Reject(request.id),
        _ => return println!("y lets in, n refuses"),
    };
    if !command(decision) {
        println!("busy: try again");
    }
}

/// Hands on the lines of standard input. Where that ends, the room is served on.
pub(crate) fn read_lines(events: SyncSender<Event>) -> Result<()> {
    let read = move || {
        for line in stdin().lock().lines().map_while(std::result::Result::ok) {
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("lines".to_owned())
        .spawn(read)?;
    Ok(())
}
