//! Instances on networks of their own: behind routers that translate addresses, with a relay outside; and on a local
//! network with nothing else.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use eidetica::{
    auth::Permission,
    sync::{IrohConfig, IrohLimits, Relays, Ticket},
};
use futures::executor::block_on;
use iroh_relay::server::RelayMetrics;

use crate::{
    facade::{NAME, database, instance, read, write},
    netns::{Network, can_make},
    relay::relay_at,
};

/// The longest that anything may take.
const LONG: Duration = Duration::from_secs(60);

/// A thread in a network that ends when it is told to, or when the test is over.
struct Resident<T> {
    said: Receiver<T>,
    _leave: Sender<()>,
}

impl<T: Send + 'static> Resident<T> {
    /// Does some work in the network: `move_in` says something, and gives what is kept until the end.
    fn new<K>(network: &Network, move_in: impl FnOnce() -> (T, K) + Send + 'static) -> Self {
        let (say, said) = channel();
        let (leave, until) = channel::<()>();
        network.spawn(move || {
            let (saying, kept) = move_in();
            say.send(saying).unwrap();
            let _ = until.recv();
            drop(kept);
        });
        Self {
            said,
            _leave: leave,
        }
    }

    fn said(&self) -> T {
        self.said.recv_timeout(LONG).unwrap()
    }
}

/// The internet of the test: where all routers meet, with a relay, and two homes behind routers that translate addresses.
/// Both homes use the same private addresses, as homes do.
struct World {
    relays: Relays,
    /// What the relay has carried.
    carried: RelayMetrics,
    _relay: Resident<(Relays, RelayMetrics)>,
    outside: Network,
    homes: [Network; 2],
    _routers: [Network; 2],
}

impl World {
    const RELAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    /// `masquerade` is the rule by which the routers translate.
    fn new(masquerade: &str) -> Self {
        let mut world = Network::new().unwrap();
        world.run("sysctl -q -w net.ipv4.ip_forward=1").unwrap();
        let [(router_a, a), (router_b, b)] = [("a", "198.51.100"), ("b", "203.0.113")]
            .map(|(name, outside)| home(&mut world, name, outside, masquerade));
        let relay = Resident::new(&world, || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (server, relays) = runtime.block_on(relay_at(Self::RELAY));
            ((relays, server.metrics().clone()), (server, runtime))
        });
        let (relays, carried) = relay.said();
        Self {
            relays,
            carried,
            _relay: relay,
            outside: world,
            homes: [a, b],
            _routers: [router_a, router_b],
        }
    }
}

/// A router to the world, and a home behind it.
fn home(world: &mut Network, name: &str, outside: &str, masquerade: &str) -> (Network, Network) {
    let (mut router, mut home) = (Network::new().unwrap(), Network::new().unwrap());
    world.connect(
        (&format!("to-{name}"), &format!("{outside}.1/24")),
        &mut router,
        ("wan", &format!("{outside}.2/24")),
    );
    router.connect(
        ("lan", "192.168.1.1/24"),
        &mut home,
        ("eth0", "192.168.1.2/24"),
    );
    let translate = format!(
        "ip route add default via {outside}.1
         sysctl -q -w net.ipv4.ip_forward=1
         {NAT}
         nft add rule ip nat out oifname wan {masquerade}
         nft add table ip filter
         nft 'add chain ip filter forward {{ type filter hook forward priority 0; policy drop; }}'
         nft add rule ip filter forward iifname lan accept
         nft add rule ip filter forward ct state established,related accept"
    );
    router.run(&translate).unwrap();
    home.run("ip route add default via 192.168.1.1").unwrap();
    (router, home)
}

/// What a router needs to translate addresses.
const NAT: &str =
    "nft add table ip nat; nft 'add chain ip nat out { type nat hook postrouting priority 100; }'";

/// What a network needs to have cables.
const CABLE: &str = "ip link add cable0 type veth peer name cable1; ip link del cable0";

/// A database at home, shared by a ticket with an invite, and by the JSON of the guide.
fn share(network: &Network, config: IrohConfig) -> Resident<(Ticket, String)> {
    Resident::new(network, || {
        let alice = instance(config);
        let author = alice.login_user("user", None).unwrap();
        let shared = database(&author);
        // More than what it takes to say hello.
        write(&shared, "a long day", &long(0));
        let sync = alice.sync().unwrap();
        sync.start_server("ignored").unwrap();
        let key = author.get_default_key().unwrap();
        let day = Duration::from_secs(24 * 3_600);
        let ticket = sync
            .invite(shared.root_id(), key, Permission::Write(10), 1, day)
            .unwrap();
        let json = sync.get_server_address().unwrap().to_json().unwrap();
        ((ticket, json), (shared, author, alice))
    })
}

/// How much is in the database at least, in bytes, however it is packed.
const LONG_DAY: u64 = 100_000;

fn long(day: usize) -> String {
    let mut digits = blake3::Hasher::new()
        .update(&day.to_le_bytes())
        .finalize_xof();
    let mut bytes = vec![0; LONG_DAY as usize];
    digits.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the ticket, reads, writes, and sends what was written to the address of the guide.
fn take(network: &Network, config: IrohConfig, (ticket, json): (Ticket, String)) {
    // By its text, as it goes from hand to hand.
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    let guest = network.spawn(move || {
        let bob = instance(config);
        let user = bob.login_user("user", None).unwrap();
        let sync = bob.sync().unwrap();
        let key = user.get_default_key().unwrap();
        let report = block_on(sync.join(&ticket, key, Permission::Write)).unwrap();
        assert_eq!(report.peer.public_key(), ticket.device());
        let copy = user.open_database(ticket.database()).unwrap();
        assert_eq!(read(&copy, "monday").as_deref(), Some("buy milk"));
        write(&copy, "tuesday", "drink it");
        block_on(sync.sync_with_peer(&json, Some(&ticket.database()))).unwrap();
        let status = sync.database_status(ticket.database()).unwrap();
        assert!(status.peers.iter().any(|copy| copy.has_latest));
    });
    guest.join().unwrap();
}

/// Nobody outside can guess how these routers translate: all goes through the relay, over connections that both homes
/// made to it.
#[test]
fn two_behind_routers_share_through_a_relay() {
    let test = "networks::two_behind_routers_share_through_a_relay";
    if !can_make(test, &format!("{CABLE}; {NAT}")) {
        return;
    }
    let world = World::new("masquerade fully-random");
    let config = IrohConfig::default()
        .with_relays(world.relays.clone())
        .with_lan(false);
    let [home, other_home] = &world.homes;
    let shared = share(home, config.clone());
    take(other_home, config, shared.said());
    let carried = world.carried.server.bytes_sent.get();
    assert!(carried > LONG_DAY, "{carried} bytes went through the relay");
}

/// A machine outside cannot reach one behind a router, until they have met at the relay: then the one inside tries the
/// sockets of the other, and the relay carries no more.
#[test]
fn what_begins_at_the_relay_goes_on_directly() {
    let test = "networks::what_begins_at_the_relay_goes_on_directly";
    if !can_make(test, &format!("{CABLE}; {NAT}")) {
        return;
    }
    let world = World::new("masquerade fully-random");
    let config = IrohConfig::default()
        .with_relays(world.relays.clone())
        .with_lan(false);
    let (write_more, written) = channel::<()>();
    let home = config.clone();
    let alice = Resident::new(&world.homes[0], move || {
        let alice = instance(home);
        let author = alice.login_user("user", None).unwrap();
        let shared = database(&author);
        let sync = alice.sync().unwrap();
        sync.start_server("ignored").unwrap();
        let ticket = sync.ticket(shared.root_id()).unwrap();
        let writer = std::thread::spawn(move || {
            for (day, ()) in written.iter().enumerate() {
                write(&shared, &day.to_string(), &long(day));
            }
            shared
        });
        (ticket, (writer, author, alice))
    });
    let ticket = alice.said();
    let carried = world.carried.clone();
    let guest = world.outside.spawn(move || {
        let bob = instance(config);
        let user = bob.login_user("user", None).unwrap();
        let sync = bob.sync().unwrap();
        let key = user.get_default_key().unwrap();
        block_on(sync.join(&ticket, key, Permission::Read)).unwrap();
        let copy = user.open_database(ticket.database()).unwrap();
        let start = Instant::now();
        for day in 0.. {
            let before = carried.server.bytes_sent.get();
            write_more.send(()).unwrap();
            while read(&copy, &day.to_string()).is_none() {
                assert!(start.elapsed() < LONG);
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if carried.server.bytes_sent.get() - before < LONG_DAY / 10 {
                return;
            }
        }
    });
    guest.join().unwrap();
}

/// Two on one cable, and nothing else: no router, no name server, no relay.
struct Lan {
    alices: Network,
    bobs: Network,
}

impl Lan {
    const ALICE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
    const BOB: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

    fn new() -> Self {
        let [mut alices, mut bobs] = [Network::new().unwrap(), Network::new().unwrap()];
        let [at_alices, at_bobs] = [Self::ALICE, Self::BOB].map(|ip| format!("{ip}/24"));
        alices.connect(("eth0", &at_alices), &mut bobs, ("eth0", &at_bobs));
        for network in [&mut alices, &mut bobs] {
            network.run("ip route add 224.0.0.0/4 dev eth0").unwrap();
        }
        Self { alices, bobs }
    }

    /// What Alice's machine says to everybody, so many packets.
    fn overhear(&self, packets: usize) -> Vec<Vec<u8>> {
        const MDNS: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
        let listener = self.bobs.spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, MDNS.1)).unwrap();
            socket.join_multicast_v4(&MDNS.0, &Self::BOB).unwrap();
            socket.set_read_timeout(Some(LONG)).unwrap();
            let (mut heard, mut packet) = (Vec::new(), [0; 65_536]);
            while heard.len() < packets {
                let (len, from) = socket.recv_from(&mut packet).unwrap();
                if from.ip() == IpAddr::V4(Self::ALICE) {
                    heard.push(packet[..len].to_vec());
                }
            }
            heard
        });
        listener.join().unwrap()
    }
}

/// On the local network alone; `lan` says whether endpoints are announced there.
fn on_the_lan(lan: bool) -> IrohConfig {
    let mut limits = IrohLimits::default();
    limits.dial = Duration::from_secs(5);
    IrohConfig::default()
        .with_relays(Relays::Disabled)
        .with_lan(lan)
        .with_limits(limits)
}

/// The ticket as it is when its addresses are out of date: the device's key is all that is left.
fn without_addresses(ticket: &Ticket) -> Ticket {
    let bare = Ticket::new(ticket.database(), ticket.device(), []).unwrap();
    bare.with_invite(ticket.invite().unwrap().clone())
}

/// The label by which a device announces itself: its key in base 32.
fn label(ticket: &Ticket) -> Vec<u8> {
    let label = data_encoding::BASE32_NOPAD.encode(ticket.device().as_bytes());
    label.to_ascii_lowercase().into_bytes()
}

fn holds(packets: &[Vec<u8>], text: &[u8]) -> bool {
    packets.iter().any(|packet| {
        let lower = packet.to_ascii_lowercase();
        lower.windows(text.len()).any(|window| window == text)
    })
}

/// A device is found by its key alone; what it announces is this key and where it is, and one that does not want to be
/// announced is not, and not found.
#[test]
fn a_device_is_found_on_the_local_network() {
    let test = "networks::a_device_is_found_on_the_local_network";
    if !can_make(test, CABLE) {
        return;
    }
    let lan = Lan::new();
    let (alice, quiet) = (
        share(&lan.alices, on_the_lan(true)),
        share(&lan.alices, on_the_lan(false)),
    );
    let ((ticket, json), (quiet, _)) = (alice.said(), quiet.said());
    let packets = lan.overhear(20);
    assert!(holds(&packets, b"_eidetica") && holds(&packets, &label(&ticket)));
    assert!(!holds(&packets, NAME.as_bytes()));
    let id = ticket.database();
    assert!(!holds(&packets, id.as_bytes()) && !holds(&packets, id.to_string().as_bytes()));
    assert!(
        !holds(&packets, &label(&quiet)),
        "announced against its will"
    );
    take(
        &lan.bobs,
        on_the_lan(true),
        (without_addresses(&ticket), json),
    );
    let nobody = without_addresses(&quiet);
    let search = lan.bobs.spawn(move || {
        let carol = instance(on_the_lan(true));
        let user = carol.login_user("user", None).unwrap();
        let key = user.get_default_key().unwrap();
        let sync = carol.sync().unwrap();
        block_on(sync.join(&nobody, key, Permission::Write)).unwrap_err()
    });
    let error = search.join().unwrap();
    assert_eq!(error.blame(), eidetica::Blame::Unavailable, "{error}");
}
