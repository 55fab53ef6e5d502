//! `eidetica serve`
//!
//! One process at a time has a data directory open, so whoever serves decides on requests here, by typing.

use std::collections::BTreeSet;
use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use eidetica::User;

use crate::commands::requests::{self, RequestRow};
use crate::context::{Context, Network, name_of};
use crate::control::Control;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::iroh::{self, IrohArgs};
use crate::limits;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4950")]
    listen: String,
    /// Answer with the key that all processes of a shared store have: behind a load balancer
    #[arg(long, conflicts_with = "iroh")]
    service: bool,
    #[command(flatten)]
    iroh: IrohArgs,
}

pub(crate) const COMMANDS: &str = "commands: requests | approve ID | reject ID | quit";

enum Event {
    Line(String),
    Interrupted,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let user = context.login()?;
    let network = Network::enable(&user)?;
    if let Some(config) = args.iroh.config(iroh::is_needed(network.sync())?) {
        network.enable_iroh(config)?;
    }
    let address = network.listen_as(&args.listen, args.service)?;
    network.sync().set_background(true)?;
    announce(&address, &network, &user, args.service, context)?;
    answer(&network, &user, context)
}

/// Shows and takes what comes until interrupted.
pub(crate) fn answer(network: &Network, user: &User, context: &Context) -> Result<()> {
    let _control = Control::listen(context.place(), user.instance()).inspect_err(|error| {
        let said = format!("no backups while this runs: {error}");
        context.output.note(&said);
    });
    let events = events()?;
    let mut shown = BTreeSet::new();
    loop {
        for request in requests::pending(network, user)? {
            if shown.insert(request.id.clone()) {
                context.output.result(&request, || request.text())?;
            }
        }
        match events.recv_timeout(limits::SERVE_TICK) {
            Ok(Event::Line(line)) => match command(&line, network, user, context) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => error.print(context.output.is_json()),
            },
            Ok(Event::Interrupted) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    network.stop()
}

/// Says where this node is and what a peer has to type.
fn announce(
    address: &str,
    network: &Network,
    user: &User,
    as_service: bool,
    context: &Context,
) -> Result<()> {
    let mut databases = Vec::new();
    for id in user.instance().list_databases()? {
        if let Ok(database) = user.open_database(id) {
            databases.push((id.to_string(), name_of(&database)?));
        }
    }
    let device = match as_service {
        true => user.instance().service_key(),
        false => user.instance().device_key(),
    };
    let device = device.to_string();
    let list: Vec<_> = databases
        .iter()
        .map(|(id, name)| serde_json::json!({"id": id, "name": name}))
        .collect();
    let addresses: Vec<String> = network
        .sync()
        .get_server_addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let value = serde_json::json!({
        "address": address, "addresses": addresses, "device": device, "databases": list,
    });
    context.output.result(&value, || {
        let mut lines = vec![format!("serving on {address} as device {device}")];
        lines.extend(
            addresses
                .iter()
                .skip(1)
                .map(|more| format!("and on {more}")),
        );
        for (id, name) in &databases {
            lines.push(format!(
                "to share {}: eidetica sync {} {id}",
                escape(name),
                address.trim_start_matches("http://")
            ));
        }
        lines.push(COMMANDS.to_owned());
        lines.join("\n")
    })
}

/// Does what a typed line says; false ends the server.
fn command(line: &str, network: &Network, user: &User, context: &Context) -> Result<bool> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (None, ..) => {}
        (Some("requests"), None, None) => requests::list(network, user, false, context)?,
        (Some("approve"), Some(id), None) => requests::approve(network, user, id, context)?,
        (Some("reject"), Some(id), None) => requests::reject(network, user, id, context)?,
        (Some("quit" | "exit"), None, None) => return Ok(false),
        _ => return Err(Error::new(Code::BadInput, format!("cannot read {line}")).hint(COMMANDS)),
    }
    Ok(true)
}

/// Lines of standard input, and the interruption. Where standard input ends, the server goes on.
fn events() -> Result<Receiver<Event>> {
    let (sender, receiver) = sync_channel(limits::SERVE_EVENTS);
    let lines = sender.clone();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_lines(&lines))?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            // Without signal handling the process ends by the signal itself: nothing that was acknowledged is lost.
            if crate::context::wait_for_interruption().is_ok() {
                let _ = sender.send(Event::Interrupted);
            } else {
                loop {
                    std::thread::park_timeout(Duration::MAX);
                }
            }
        })?;
    Ok(receiver)
}

fn read_lines(sender: &SyncSender<Event>) {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    loop {
        line.clear();
        match input.by_ref().take(limits::LINE).read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        if sender.send(Event::Line(line.trim().to_owned())).is_err() {
            return;
        }
    }
}

impl RequestRow {
    /// What is asked, and how to answer it.
    fn text(&self) -> String {
        format!(
            "request {}\n  approve {}  or  reject {}",
            self.line(),
            self.short(),
            self.short()
        )
    }
}
