use std::path::Path;
use std::process::{Command, Stdio};

use crate::home::Home;
use crate::sharing::Server;

const README: &str = include_str!("../../../../README.md");

/// The `console` blocks of the README's walk-through, in order.
fn blocks() -> Vec<String> {
    let tour = README
        .split("## On the command line")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    tour.split("```console\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

/// The walk-through, typed line by line in two terminals. Only the port differs, so that tests may run side by side.
#[test]
fn the_walk_through_works_as_written() {
    let blocks = blocks();
    let [setup, alice_first, bob_first, bob_then, alice_then] = blocks.as_slice() else {
        panic!("the walk-through has {} blocks", blocks.len());
    };
    let home = Home::empty();
    let alice = home.path().join("eidetica-tour/alice");
    let bob = home.path().join("eidetica-tour/bob");
    let type_in = |lines: &str, cwd: &Path, address: &str| {
        let script = format!(
            "set -euo pipefail\n{setup}\ncd '{}'\n{}",
            cwd.display(),
            lines.replace("127.0.0.1:4950", address)
        );
        let program = Path::new(assert_cmd::cargo::cargo_bin!("eidetica"))
            .parent()
            .unwrap();
        let clone = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        // The README builds in release; the test has its own build.
        let script = script.replace("$PWD/target/release", &program.display().to_string());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("HOME", home.path())
            .env_remove("EIDETICA_DIR")
            .env_remove("EIDETICA_USER")
            .env_remove("EIDETICA_PASSWORD")
            .current_dir(clone)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let before_serving = alice_first.strip_suffix("eidetica serve\n").unwrap();
    let (code, text, errors) = type_in(before_serving, home.path(), "");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        text.contains("3,376 rows") && text.contains("San Francisco"),
        "{text}"
    );

    let mut server = Server::start_in(&home, &alice);
    let address = server.address.clone();
    let (code, _, errors) = type_in(bob_first, home.path(), &address);
    assert_eq!(code, Some(8), "{errors}");
    let request = server.next();
    server.type_line(&format!(
        "approve {}",
        &request["id"].as_str().unwrap()[..8]
    ));
    server.next();

    let (code, text, errors) = type_in(bob_then, &bob, &address);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("sent 1 entry"), "{text}");
    server.quit();
    let (code, text, errors) = type_in(alice_then, &alice, "");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        text.contains("San Francisco International Airport")
            && text.contains("everything is sound"),
        "{text}"
    );

    // And again after both were restarted.
    let server = Server::start_in(&home, &alice);
    let (code, text, errors) = type_in(
        "eidetica sync 127.0.0.1:4950 airports",
        &bob,
        &server.address,
    );
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        text.contains("received 0 entries, sent 0 entries"),
        "{text}"
    );
    server.quit();
}
