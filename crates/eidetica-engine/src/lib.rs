//! The sans-IO synchronization engine: peers, relationships, requests.
