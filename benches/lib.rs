//! Measurements, each as a ratio to a peer or a physical limit in the same run.
