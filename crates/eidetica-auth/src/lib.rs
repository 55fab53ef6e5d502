//! Keys, signatures, sealed secrets and authority rules.
