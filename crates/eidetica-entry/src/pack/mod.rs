//! Packs: many entries of one database in one compact, self-contained block of bytes.
