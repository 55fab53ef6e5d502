//! Sans-IO sessions of entry synchronization.
