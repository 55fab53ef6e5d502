//! The statements, as text that the statement caches know them by.

use std::sync::LazyLock;

use eidetica_storage::{Direction, Space};

/// Marks the file as ours: "EDTC".
pub(crate) const APPLICATION_ID: i32 = 0x4544_5443;

/// A row that a durable write changes when it has nothing else to sync.
pub(crate) const MARK: &str = "UPDATE mark SET n = n + 1";
pub(crate) const CREATE_MARK: &str =
    "CREATE TABLE mark (n INTEGER NOT NULL) STRICT; INSERT INTO mark VALUES (0);";

/// A read that begins the transaction of a snapshot.
pub(crate) const TOUCH: &str = "SELECT n FROM mark";

/// How many statements a connection keeps ready: all there are.
pub(crate) const STATEMENTS: usize = 96;

/// What is said to the table of one space.
pub(crate) struct Sql {
    pub(crate) create: String,
    pub(crate) get: String,
    pub(crate) put: String,
    pub(crate) delete: String,
    pub(crate) clear_below: String,
    pub(crate) clear_rest: String,
    /// By direction, with and without an end.
    scans: [[String; 2]; 2],
}

static TABLES: LazyLock<[Sql; Space::ALL.len()]> = LazyLock::new(|| Space::ALL.map(Sql::of));

impl Sql {
    #[expect(
        clippy::indexing_slicing,
        reason = "there is one set of statements for every space"
    )]
    pub(crate) fn for_space(space: Space) -> &'static Self {
        &TABLES[space.index()]
    }

    pub(crate) fn scan(&self, direction: Direction, ends: bool) -> &str {
        let [forward, reverse] = &self.scans;
        let [open, ended] = match direction {
            Direction::Forward => forward,
            Direction::Reverse => reverse,
        };
        if ends { ended } else { open }
    }

    fn of(space: Space) -> Self {
        let name = space.name();
        let scan = |condition, order| {
            format!("SELECT k, s, v FROM {name} WHERE {condition} ORDER BY k {order}")
        };
        let (rest, below) = ("k >= ?1", "k >= ?1 AND k < ?2");
        Self {
            create: format!(
                "CREATE TABLE {name} (k BLOB PRIMARY KEY, s INTEGER NOT NULL, v BLOB NOT NULL) \
                 STRICT, WITHOUT ROWID"
            ),
            get: format!("SELECT s, v FROM {name} WHERE k = ?1"),
            put: format!("REPLACE INTO {name} (k, s, v) VALUES (?1, ?2, ?3)"),
            delete: format!("DELETE FROM {name} WHERE k = ?1"),
            clear_below: format!("DELETE FROM {name} WHERE {below}"),
            clear_rest: format!("DELETE FROM {name} WHERE {rest}"),
            scans: ["ASC", "DESC"].map(|order| [rest, below].map(|which| scan(which, order))),
        }
    }
}
