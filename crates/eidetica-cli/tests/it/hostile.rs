//! Servers and data directories that are not what they should be: a clear error, no panic, and nothing lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::home::{FAILED, Home, UNAVAILABLE, failed};
use crate::sharing::Server;

/// What happens to the bytes that a server sends.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// They end before byte n.
    Cut(usize),
    /// From byte n on there is no end of other bytes.
    Flood(usize),
    /// Byte n is another one.
    Flip(usize),
}

/// A proxy before a server, and how many bytes came back through it.
struct Proxy {
    address: String,
    returned: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(target: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, returned) = (target.to_owned(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&returned);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || relay(client, server, fault, &counted));
            }
        });
        Self { address, returned }
    }
}

fn relay(mut client: TcpStream, mut server: TcpStream, fault: Fault, returned: &AtomicUsize) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = server.read(&mut buffer) {
        let before = returned.fetch_add(len, Ordering::SeqCst);
        let bytes = &mut buffer[..len];
        match fault {
            Fault::Cut(at) if before + len > at => {
                let _ = client.write_all(&bytes[..at.saturating_sub(before)]);
                break;
            }
            Fault::Flood(at) if before + len > at => {
                let _ = client.write_all(&bytes[..at.saturating_sub(before)]);
                while client.write_all(&[0xff; 4096]).is_ok() {}
                break;
            }
            Fault::Flip(at) if (before..before + len).contains(&at) => bytes[at - before] ^= 1,
            _ => {}
        }
        if client.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// Two who share a database: the second one has a row of her own that was never sent.
fn shared() -> (Home, Home, Server, String) {
    let (alice, bob) = (Home::new(), Home::empty());
    bob.ok(&["init", "--user", "bob", "--no-password"]);
    let create = ["db", "create", "db", "--public"];
    let id = alice.ok(&create).trim().to_owned();
    let rows: String = (0..300).map(|i| format!("k{i},value {i}\n")).collect();
    let file = alice.file("t.csv", format!("k,v\n{rows}"));
    alice.ok(&["import", &file, "db"]);
    let server = Server::start(&alice);
    (alice, bob, server, id)
}

#[test]
fn a_peer_with_another_key_is_refused() {
    let (_alice, bob, server, id) = shared();
    let device = bob.json(&["status"])[0]["device"]
        .as_str()
        .unwrap()
        .to_owned();
    let args = ["sync", &format!("{device}@{}", server.address), &id];
    let errors = bob.fails(&args, FAILED);
    assert!(
        errors.contains(&format!("not {device}")) && errors.contains("hint:"),
        "{errors}"
    );
    assert_eq!(bob.json(&["db", "list"]).len(), 0);
    server.quit();
}

#[test]
fn answers_that_are_cut_flooded_or_changed_take_nothing_away() {
    let (_alice, bob, server, id) = shared();
    let args = |address: &str| ["sync", address, &id, "--request", "read"].map(str::to_owned);
    // How much a whole exchange is.
    let whole = Proxy::start(&server.address, Fault::None);
    let eve = Home::empty();
    eve.ok(&["init", "--user", "eve", "--no-password"]);
    let arguments = args(&whole.address);
    eve.ok(&arguments.each_ref().map(String::as_str));
    let len = whole.returned.load(Ordering::SeqCst);
    assert!(len > 1_000, "{len} bytes");

    bob.ok(&["db", "create", "mine"]);
    bob.ok(&["set", "mine", "t", "k", "v=kept"]);
    let mut refused = 0;
    let places = [0, 1, 60, 150, 200, 300, len / 3, len / 2];
    // Those that must fail first: what has arrived once is not sent again.
    let cuts = places.iter().map(|&at| Fault::Cut(at));
    let floods = places.iter().map(|&at| Fault::Flood(at));
    let flips = places.iter().map(|&at| Fault::Flip(at + 100));
    let faults = cuts.chain(floods).chain(flips);
    for fault in faults {
        let proxy = Proxy::start(&server.address, fault);
        let arguments = args(&proxy.address);
        let arguments = arguments.each_ref().map(String::as_str);
        let output = bob.run(&arguments);
        if output.status.success() {
            // In HTTP's own headers a byte may be another one without harm.
            assert!(matches!(fault, Fault::Flip(_)), "{fault:?}");
            continue;
        }
        refused += 1;
        let code = output.status.code().unwrap();
        let errors = failed(output, &arguments, code);
        assert!(
            [FAILED, UNAVAILABLE].contains(&code),
            "{fault:?}: {code}, {errors}"
        );
        assert!(
            errors.starts_with("error: ") && errors.contains("hint:"),
            "{fault:?}: {errors}"
        );
        assert_eq!(bob.ok(&["get", "mine", "t", "k", "v"]), "kept\n");
    }
    assert!(refused > places.len(), "{refused} refused");
    assert_eq!(bob.json(&["verify"])[0]["sound"], true);
    let arguments = args(&server.address);
    bob.ok(&arguments.each_ref().map(String::as_str));
    assert_eq!(bob.rows("t"), 300);
    server.quit();
}

#[test]
fn servers_of_another_kind_are_named_as_such() {
    let bob = Home::new();
    let id = "0".repeat(64);
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.eidetica\r\ncontent-length: 999999999999\r\n\r\n";
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        endless,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let _ = socket.read(&mut [0; 1024]);
                let _ = socket.write_all(answer.as_bytes());
                while answer.len() > 90 && socket.write_all(&[0; 4096]).is_ok() {}
            }
        });
        let args = ["sync", &address, &id];
        let output = bob.run(&args);
        let code = output.status.code().unwrap();
        let errors = failed(output, &args, code);
        assert!(
            [FAILED, UNAVAILABLE].contains(&code),
            "{answer:?}: {errors}"
        );
        assert!(errors.contains("hint:"), "{answer:?}: {errors}");
    }
    assert_eq!(bob.json(&["db", "list"]).len(), 0);
}

/// Everything that the program creates is for its owner alone, whatever umask it was started with.
#[cfg(target_os = "linux")]
#[test]
fn the_umask_is_narrowed() {
    let alice = Home::with_db();
    let server = Server::start(&alice);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    assert_eq!(umask.map(str::trim), Some("0077"));
    server.quit();
}

/// Every file of a data directory damaged in turn: an error that says so, or the program works. What engines make of
/// every single byte is tested there.
#[test]
fn a_damaged_directory_is_an_error_or_whole() {
    let home = Home::with_db();
    let rows: String = (0..300).map(|i| format!("k{i},value {i}\n")).collect();
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    home.ok(&["import", &file, "db"]);
    let sound = home.path().join("sound");
    std::fs::rename(home.data(), &sound).unwrap();
    let mut refused = 0;
    let files = files_below(&sound);
    for path in &files {
        let name = path.strip_prefix(&sound).unwrap();
        let content = std::fs::read(path).unwrap();
        let flip = |at: usize| {
            let mut flipped = content.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 0x10;
            }
            flipped
        };
        let (half, third) = (content.len() / 2, content.len() / 3);
        for damaged in [content[..half].to_vec(), flip(third), flip(8)] {
            let _ = std::fs::remove_dir_all(home.data());
            copy(&sound, &home.data());
            std::fs::write(home.data().join(name), damaged).unwrap();
            for args in [&["query", "db", "t", "--count"][..], &["verify"]] {
                let output = home.run(args);
                let code = output.status.code();
                if output.status.success() {
                    continue;
                }
                refused += 1;
                let code = code.unwrap_or_else(|| panic!("{}: {output:?}", name.display()));
                let errors = failed(output, args, code);
                let name = name.display();
                assert!(errors.starts_with("error: "), "{name}: {errors}");
            }
        }
    }
    assert!(
        refused > 0,
        "no damage of {} files was noticed",
        files.len()
    );
    let _ = std::fs::remove_dir_all(home.data());
    copy(&sound, &home.data());
    assert_eq!(home.rows("t"), 300);
}

pub(crate) fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = open.pop() {
        for item in dir.read_dir().unwrap() {
            let path = item.unwrap().path();
            let list = if path.is_dir() { &mut open } else { &mut found };
            list.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for item in from.read_dir().unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}
