//! Both metrics pages, read by a parser of the format.

use std::collections::HashMap;

use prometheus_parse::{Sample, Scrape, Value};
use rustix::process::Signal;

use crate::program::{Program, client, server};

fn scrape(program: &mut Program) -> HashMap<String, Vec<Sample>> {
    let (head, page) = program.page();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    let mut by_name: HashMap<String, Vec<Sample>> = HashMap::new();
    for sample in Scrape::parse(lines).unwrap().samples {
        by_name
            .entry(sample.metric.clone())
            .or_default()
            .push(sample);
    }
    by_name
}

fn sum(samples: &HashMap<String, Vec<Sample>>, name: &str) -> f64 {
    let of = samples
        .get(name)
        .unwrap_or_else(|| panic!("no {name} among {:?}", samples.keys()));
    of.iter()
        .map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            ref other => panic!("{name} is {other:?}"),
        })
        .sum()
}

/// Observations in a histogram.
fn observed(samples: &HashMap<String, Vec<Sample>>, name: &str) -> f64 {
    sum(samples, &format!("{name}_count"))
}

#[test]
fn both_pages_count_what_happened() {
    let mut server = server(&["-i", "300", "-t", "50ms", "-o", "3"]);
    let address = server.address();
    server.expect("added operations");
    let mut client = client(&[&address], &["-i", "50ms", "-b", "20"]);
    for _ in 0..3 {
        client.expect("✅");
    }
    let of_client = scrape(&mut client);
    client.stop(Signal::INT);
    let of_server = scrape(&mut server);

    let fetched = sum(&of_client, "sync_client_operations_fetched_total");
    let verified = sum(&of_client, "sync_client_operations_verified_total");
    let database = sum(&of_client, "sync_client_database_operations");
    assert!(
        fetched >= verified && verified > 100.0,
        "{fetched} {verified}"
    );
    assert!(sum(&of_client, "sync_client_requests_total") >= verified / 20.0);
    assert!(sum(&of_client, "sync_client_received_bytes_total") > 40.0 * verified);
    assert!(sum(&of_client, "sync_client_sent_bytes_total") > 0.0);
    assert!(sum(&of_client, "sync_client_iteration") >= 3.0);
    assert!(sum(&of_client, "sync_client_iterations_completed_total") >= 3.0);
    let progress = sum(&of_client, "sync_client_iteration_progress");
    assert!((0.0..=1.0).contains(&progress), "{progress}");
    assert!(sum(&of_client, "sync_client_target_operations") >= database);
    assert_eq!(sum(&of_client, "sync_client_alarms_total"), 0.0);
    assert!(observed(&of_client, "sync_client_request_duration_seconds") > 0.0);
    assert!(observed(&of_client, "sync_client_iteration_duration_seconds") >= 3.0);
    assert!(
        !of_client.contains_key("sync_client_errors_total"),
        "closing connections is no error"
    );

    assert!(sum(&of_server, "sync_server_operations_served_total") >= verified);
    assert!(sum(&of_server, "sync_server_operations_added_total") >= 3.0);
    assert!(sum(&of_server, "sync_server_database_operations") >= database);
    assert!(sum(&of_server, "sync_server_database_lower_bound") >= 0.0);
    assert!(
        sum(&of_server, "sync_server_requests_total")
            >= sum(&of_client, "sync_client_requests_total")
    );
    assert!(
        sum(&of_server, "sync_server_sent_bytes_total")
            >= sum(&of_client, "sync_client_received_bytes_total")
    );
    assert!(observed(&of_server, "sync_server_request_duration_seconds") > 0.0);
    assert!(
        !of_server.contains_key("sync_server_errors_total"),
        "a clean disconnect is no error"
    );
    server.metric_until("sync_server_connections", |open| open == 0.0);
    server.stop(Signal::INT);
}
