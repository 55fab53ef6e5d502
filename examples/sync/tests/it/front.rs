//! One address for one server after another, so that nobody else takes the port of one that is gone.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Leads connections to the server of the moment; ends them when there is none.
pub(crate) struct Front {
    address: String,
    leads_to: Arc<Mutex<Option<String>>>,
}

impl Front {
    pub(crate) fn of(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let leads_to = Arc::new(Mutex::new(Some(server.to_owned())));
        let present = Arc::clone(&leads_to);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = present.lock().unwrap().clone();
                if let Some(server) = server.and_then(|server| TcpStream::connect(server).ok()) {
                    join(&stream, &server);
                }
            }
        });
        Self { address, leads_to }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Leads new connections elsewhere. Those that stand end with their server.
    pub(crate) fn lead_to(&self, server: Option<String>) {
        *self.leads_to.lock().unwrap() = server;
    }
}

/// Carries bytes both ways until one side ends.
fn join(one: &TcpStream, other: &TcpStream) {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            copy(&mut from, &mut to).ok();
            for stream in [from, to] {
                stream.shutdown(Shutdown::Both).ok();
            }
        });
    }
}
