//! `eidetica status`

use crate::context::Context;
use crate::error::Result;
use crate::output::{bytes, count, fields};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<()> {
    let instance = context.open()?;
    let dir = context.dir().display().to_string();
    let device = instance.device_key().to_string();
    let users = instance.list_users()?;
    let databases = instance.list_databases()?.len() as u64;
    let size = crate::context::disk_size(context.dir())?;
    let value = serde_json::json!({
        "data_dir": dir, "device": device, "users": users, "databases": databases, "bytes_on_disk": size,
    });
    context.output.result(&value, || {
        fields(&[
            ("data directory", dir.clone()),
            ("size on disk", bytes(size)),
            ("device", device.clone()),
            ("users", users.join(", ")),
            ("databases", count(databases)),
        ])
    })
}
