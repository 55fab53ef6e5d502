//! What is in the schema, and the statements that are said to it.

use eidetica_storage::{Direction, EngineError, limits};

/// Of the tables and the function; part of the function's name, so that versions may live side by side.
pub(crate) const FORMAT: i32 = 1;
/// The first half of our advisory locks: "EDTC". The second is the number of the schema.
const LOCK: i64 = 0x4544_5443;

/// The least byte string above all keys.
pub(crate) const ABOVE_KEYS: &[u8] = &[u8::MAX; limits::KEY_BYTES + 1];

/// Rows that the server looks at for one page.
pub(crate) const PAGE_ROWS: usize = 4_096;

/// Statements that are prepared on a connection when they are first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    Get,
    MultiGet,
    Scan(Direction),
    Write,
}

impl Statement {
    /// How many there are.
    pub(crate) const COUNT: usize = 5;

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Get => 0,
            Self::MultiGet => 1,
            Self::Scan(Direction::Forward) => 2,
            Self::Scan(Direction::Reverse) => 3,
            Self::Write => 4,
        }
    }

    pub(crate) fn text(self, schema: &Schema) -> String {
        let schema = &schema.name;
        match self {
            Self::Get => {
                format!("SELECT value FROM {schema}.rows WHERE space = $1 AND key = $2")
            }
            Self::MultiGet => {
                format!("SELECT key, value FROM {schema}.rows WHERE space = $1 AND key = ANY($2)")
            }
            Self::Scan(direction) => scan(schema, direction),
            Self::Write => format!(
                "SELECT {schema}.write_{FORMAT}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
            ),
        }
    }
}

/// A page: the rows up to the one that reaches the bytes. Lengths are known without reading long values.
fn scan(schema: &str, direction: Direction) -> String {
    let order = match direction {
        Direction::Forward => "ASC",
        Direction::Reverse => "DESC",
    };
    format!(
        "SELECT key, value FROM (
           SELECT key, value, sum(octet_length(key) + octet_length(value)) OVER (
             ORDER BY key {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS bytes FROM (
             SELECT key, value FROM {schema}.rows WHERE space = $1 AND key >= $2 AND key < $3
             ORDER BY key {order} LIMIT $4
           ) AS page
         ) AS page WHERE bytes IS NULL OR bytes < $5 ORDER BY key {order}"
    )
}

/// A schema by its name, which needs no quotes.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub(crate) name: String,
}

impl Schema {
    pub(crate) fn new(name: &str) -> Result<Self, EngineError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
        if !starts || name.len() > 48 || !name.bytes().all(fits) || name.starts_with("pg_") {
            let what = std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "a schema has up to 48 lower-case letters, digits and underscores",
            );
            return Err(EngineError::io("naming the schema", what));
        }
        Ok(Self {
            name: name.to_owned(),
        })
    }

    pub(crate) fn channel(&self) -> String {
        format!("{}_changed", self.name)
    }

    /// One creator at a time.
    pub(crate) fn lock_creation(&self) -> String {
        format!(
            "SELECT pg_advisory_xact_lock({LOCK}, hashtext('{}'))",
            self.name
        )
    }

    /// Asks the catalog and not a function such as `to_regclass`, which may remember that there was nothing.
    fn has(&self, which: &str) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = '{}' AND {which})",
            self.name
        )
    }

    pub(crate) fn has_label(&self) -> String {
        self.has("c.relname = 'label'")
    }

    pub(crate) fn has_anything(&self) -> String {
        self.has("true")
    }

    pub(crate) fn read_label(&self) -> String {
        format!("SELECT engine, format FROM {}.label", self.name)
    }

    pub(crate) fn listen(&self) -> String {
        format!("LISTEN {}", self.channel())
    }

    pub(crate) fn notify(&self) -> String {
        format!("NOTIFY {}", self.channel())
    }

    pub(crate) fn remove(&self) -> String {
        format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name)
    }

    /// Values of a row stand outside the table from about 2 kB on, as they are: packs are compressed and hashes
    /// cannot be. The room in the pages keeps overwritten rows in their page.
    pub(crate) fn create(&self) -> String {
        let schema = &self.name;
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE {schema}.rows (
               space smallint NOT NULL, key bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (space, key)
             ) WITH (fillfactor = 90);
             ALTER TABLE {schema}.rows ALTER COLUMN value SET STORAGE EXTERNAL;
             CREATE TABLE {schema}.label (engine text NOT NULL, format integer NOT NULL, marks bigint NOT NULL);
             INSERT INTO {schema}.label VALUES ('eidetica', {FORMAT}, 0);
             {}",
            self.create_write()
        )
    }

    /// Answers with the place of an expectation that does not hold, or zero. A statement in a function sees what
    /// was committed before it began, so the comparison sees the locked rows as they are.
    fn create_write(&self) -> String {
        let schema = &self.name;
        format!(
            "CREATE FUNCTION {schema}.write_{FORMAT}(
               expect_space smallint[], expect_key bytea[], expect_value bytea[],
               clear_space smallint[], clear_from bytea[], clear_below bytea[],
               delete_space smallint[], delete_key bytea[],
               put_space smallint[], put_key bytea[], put_value bytea[],
               alone boolean, durable boolean, mark boolean
             ) RETURNS bigint LANGUAGE plpgsql AS $write$
             DECLARE
               turn CONSTANT bigint := ({LOCK}::bigint << 32) | '{schema}'::regnamespace::oid::bigint;
               failed bigint;
             BEGIN
               IF NOT durable THEN
                 PERFORM set_config('synchronous_commit', 'off', true);
               END IF;
               IF alone THEN
                 PERFORM pg_advisory_xact_lock(turn);
               ELSE
                 PERFORM pg_advisory_xact_lock_shared(turn);
               END IF;
               IF cardinality(expect_key) > 0 THEN
                 PERFORM FROM unnest(expect_space, expect_key) AS e (space, key)
                   JOIN {schema}.rows AS r ON r.space = e.space AND r.key = e.key
                   ORDER BY r.space, r.key FOR UPDATE OF r;
                 SELECT min(e.place) INTO failed
                   FROM unnest(expect_space, expect_key, expect_value) WITH ORDINALITY AS e (space, key, value, place)
                   LEFT JOIN {schema}.rows AS r ON r.space = e.space AND r.key = e.key
                   WHERE r.value IS DISTINCT FROM e.value;
                 IF failed IS NOT NULL THEN
                   RETURN failed;
                 END IF;
               END IF;
               IF cardinality(clear_from) > 0 THEN
                 DELETE FROM {schema}.rows AS r USING unnest(clear_space, clear_from, clear_below) AS c (space, start, below)
                   WHERE r.space = c.space AND r.key >= c.start AND r.key < c.below;
               END IF;
               IF cardinality(delete_key) > 0 THEN
                 DELETE FROM {schema}.rows AS r USING unnest(delete_space, delete_key) AS d (space, key)
                   WHERE r.space = d.space AND r.key = d.key;
               END IF;
               IF cardinality(put_key) > 0 THEN
                 INSERT INTO {schema}.rows AS r (space, key, value)
                   SELECT p.space, p.key, p.value FROM unnest(put_space, put_key, put_value) AS p (space, key, value)
                   ON CONFLICT (space, key) DO UPDATE SET value = excluded.value;
               END IF;
               IF mark THEN
                 UPDATE {schema}.label SET marks = marks + 1;
               END IF;
               RETURN 0;
             END $write$;"
        )
    }
}

/// What each connection is told first. Rows are found by their key, whatever the statistics say meanwhile; a durable batch
/// is durable on a server that is careless by default; and a statement of a write sees what was committed while it waited
/// for its turn, whatever transactions see on this server by default.
pub(crate) fn session(statement_timeout_ms: u128) -> String {
    format!(
        "SET statement_timeout = {statement_timeout_ms};
         SET idle_in_transaction_session_timeout = {statement_timeout_ms};
         SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
         SET plan_cache_mode = force_generic_plan; SET jit = off; SET client_min_messages = warning;
         SET enable_seqscan = off; SET enable_bitmapscan = off;
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
}
