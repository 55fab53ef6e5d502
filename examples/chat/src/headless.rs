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
    let mut wanted = None;
    let mut is_announced = false;
    let mut asked: Option<RequestId> = None;
    for event in events {
        match &event {
            // Told before the rooms are; rooms that others decide on yet come first.
            Event::News(News::Show(room)) => wanted = Some(*room),
            Event::News(News::Room(room)) if !is_announced && wanted == Some(room.id) => {
                announce(room);
                is_announced = true;
            }
            Event::News(News::Notice(notice)) => eprintln!("{}", escape(notice)),
            Event::Line(line) => answer(asked, line, &mut command),
            _ => {}
        }
        app.handle(event);
        if app.is_done {
            return;
        }
        asked = ask(app, asked);
    }
}

/// Asks about the next one as soon as the last one is decided; the request that was asked about.
fn ask(app: &App, asked: Option<RequestId>) -> Option<RequestId> {
    if app.requests.iter().any(|request| Some(request.id) == asked) {
        return asked;
    }
    let next = app.requests.first()?;
    println!("{}. Let in? Type y or n.", asking(app, next));
    Some(next.id)
}

fn announce(room: &RoomView) {
    let Some(address) = &room.address else { return };
    println!("room {}: {address}", escape(&room.name));
    println!("join it: cargo run -- --username NAME --connect \"{address}\"");
    println!("Ctrl-C ends it.");
}

/// Lets the one in who was asked about, or refuses.
fn answer(asked: Option<RequestId>, line: &str, command: &mut impl FnMut(Command) -> bool) {
    let Some(request) = asked else {
        return println!("nobody asks to join");
    };
    let decision = match line.trim() {
        "y" | "yes" => Command::Approve(request),
        "n" | "no" => Command::Reject(request),
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::testing::{id, key, request, room};

    /// The commands that these events lead to.
    fn given(events: impl IntoIterator<Item = Event>) -> Vec<Command> {
        let (sender, receiver) = sync_channel(100);
        events
            .into_iter()
            .for_each(|event| sender.send(event).unwrap());
        drop(sender);
        let mut app = App::new(&key(1), "in memory".to_owned(), TimeZone::UTC);
        let mut given = Vec::new();
        run(&mut app, &receiver, |command| {
            given.push(command);
            true
        });
        given
    }

    fn asked(requests: &[u8]) -> Event {
        Event::News(News::Requests(
            requests.iter().copied().map(request).collect(),
        ))
    }

    fn line(text: &str) -> Event {
        Event::Line(text.to_owned())
    }

    #[test]
    fn an_answer_is_about_the_one_that_was_asked_about() {
        let start = [
            Event::News(News::Show(id(8))),
            Event::News(News::Room(room(8, "Tea", vec![]))),
            line("y"),
            asked(&[5]),
            asked(&[1, 5]),
            line("perhaps"),
            line("y"),
            asked(&[1]),
            line("n"),
            asked(&[]),
            line("y"),
        ];
        let expected = [
            Command::Approve(request(5).id),
            Command::Reject(request(1).id),
        ];
        assert_eq!(given(start), expected);
    }
}
