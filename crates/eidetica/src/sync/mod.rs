//! Synchronization with peers.
//!
//! [`Instance::enable_sync`](crate::Instance::enable_sync) starts it,
//! [`Instance::sync`](crate::Instance::sync) gives the handle. The engine has a thread and a
//! runtime of its own: the `async` functions here only wait for it, under any executor, and
//! dropping one abandons the wait and not the work. The others block for as long as it takes to
//! change what is remembered, except for [`Sync::start_server`] and [`Sync::stop_server`], which
//! open and close sockets; both work inside a runtime and outside.
//!
//! Who may read what is decided by keys, not by devices: the keys of logged-in users state, for 30
//! days, that this device acts for them, and peers are shown those statements.

mod handle;
pub(crate) mod policy;
pub mod state;
mod status;
mod tickets;
mod types;

pub use eidetica_auth::RequestId;
pub use eidetica_engine::{PeerStatus, Reach, RequestState};
pub use eidetica_node::NodeError;
pub use eidetica_transport::{Address, AddressError, EndpointAddress, Relay, Scheme, Transport};
#[cfg(feature = "iroh")]
pub use eidetica_transport_iroh::{IrohConfig, IrohLimits, Relays};

pub use eidetica_ticket::{Invite, Ticket, TicketError};
pub use handle::Sync;
pub use status::{DatabaseStatus, PeerCopy, PeerPayloads, SyncStatus, ToSend};
pub use tickets::{InviteEnd, InviteInfo};
pub use types::{AsAddress, BootstrapRequest, BootstrapStatus, PeerInfo, SyncReport, TreeInfo};
