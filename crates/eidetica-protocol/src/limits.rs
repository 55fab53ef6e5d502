//! Every bound of this crate by name. What is above one is refused with a typed error, or cut where the text says so.

/// Bytes of one frame. A frame that carries a pack may be this long.
pub const FRAME: usize = 8 << 20;
/// Bytes of one frame that carries anything else.
pub const CONTROL_FRAME: usize = 1 << 20;
/// Protocol versions that one side may offer.
pub const VERSIONS: usize = 16;
/// Device claims that one side may present at once.
pub const CLAIMS: usize = 64;
/// Tips in one message. A longer list is cut to the highest ones and says so; that costs bytes, never entries.
pub const TIPS: usize = 4096;
/// Ids of a frontier known to be common that a request may name; more are not sent.
pub const COMMON: usize = 64;
/// Spans that one request may ask about; the lowest first, the others by later requests.
pub const SKETCH_SPANS: usize = 1024;
/// Parts of one description.
pub const SKETCH_PARTS: usize = 4096;
/// Ids in one description. Where there are more, summaries stand in their place.
pub const SKETCH_IDS: usize = 16_384;
/// Entries that a frontier known to be common may leave to be looked through, by either side, before it is compared
/// without it.
pub const SINCE_STEPS: u64 = 65_536;
/// Entries in a span that are listed at once rather than divided on.
pub const LISTED: u64 = 64;
/// Requests for descriptions before what was found so far is exchanged.
pub const SKETCH_ROUNDS: u32 = 64;
/// Different entries that are looked for before what was found so far is exchanged.
pub const FOUND_IDS: usize = WANTS - SKETCH_IDS;
/// Entries that one push may ask for.
pub const WANTS: usize = 65_536;
/// Stores that one side may name as those whose payloads it holds or asks for.
pub const STORES: usize = 256;
/// Entries that the first request for missing payloads names; each that brings some is followed by one of eight times as
/// many, up to [`WANTS`].
pub const FIRST_LACKING: usize = 1024;
/// Packs received and not yet handed to ingest; no more frames are read while so many wait.
pub const PACKS_WAITING: usize = 512;
/// Bytes of packs received and not yet handed to ingest; no more frames are read while so many wait.
pub const PACK_BYTES_WAITING: usize = 8 << 20;
/// Batches of packs that are ingested at once, in their order: while one is written, the next is verified.
pub const BATCHES_INGESTED: usize = 2;
/// Packs that make a further batch while one is being ingested; fewer wait until it is done.
pub const PACKS_AHEAD: usize = 128;
/// Bytes of packs that make a further batch while one is being ingested.
pub const PACK_BYTES_AHEAD: usize = 1 << 20;
/// Packs in a row that brought nothing new before the sender is called a liar.
pub const USELESS_PACKS: u64 = 1 << 16;
/// Entries rejected in one sync before the sender is called a liar.
pub const REJECTED: u64 = 1024;
/// Ids of rejected entries that an outcome names.
pub const REJECTED_NAMED: usize = 16;
/// Databases that a database delegates to, of which one message says how far they are here; for more, their headers
/// may be sent again.
pub const CLOSURES: usize = 16;
/// Tips of one of those. More are not sent; that costs bytes, never entries.
pub const CLOSURE_TIPS: usize = 64;
/// Void leaves that one message names. More are not sent: void entries are exchanged as well as may be.
pub const VOID_LEAVES: usize = 1024;
/// Bytes of packs asked for at once when sending: access is checked again for every such page.
pub const PAGE_BYTES: usize = 1 << 20;
/// Databases in one answer to a discovery.
pub const DATABASES: usize = 1024;
/// Bytes of a database's name on the wire.
pub const NAME_BYTES: usize = 255;
/// Milliseconds without a frame from the peer, while one is due, and without a piece of one ([`Input::Moving`](crate::Input)).
pub const IDLE_MS: u64 = 30_000;
/// Milliseconds that a peer may take to answer what makes it work: the end of a push, a comparison.
pub const ANSWER_MS: u64 = 120_000;
/// Databases that one live stream is about.
pub const LIVE_DATABASES: usize = 16_384;
/// Bytes of packs that go along with news on a live stream; what is more is left to a sync.
pub const LIVE_BYTES: usize = 64 << 10;
/// Packs that go along with news on a live stream.
pub const LIVE_PACKS: usize = 16;
/// Bytes of the names of stores that a peer may say on a live stream that it holds. Of a database for which there is no room,
/// it is sent everything.
pub const LIVE_STORES_BYTES: usize = 64 << 10;
/// Messages of a live stream that wait to be sent, apart from those about one database; no frame is read while so
/// many wait.
pub const LIVE_WAITING: usize = 16;
/// Milliseconds that the acceptor of a live stream may take to answer a check.
pub const LIVE_ANSWER_MS: u64 = 30_000;
/// Milliseconds that the dialler of a live stream may be silent. It checks every minute.
pub const LIVE_SILENCE_MS: u64 = 180_000;
/// Milliseconds for a whole handshake, kept by whoever drives it.
pub const HANDSHAKE_MS: u64 = 5_000;
