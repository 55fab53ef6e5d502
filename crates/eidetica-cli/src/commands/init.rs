//! `eidetica init`

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::output::fields;
use crate::password;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make the first user without a password: whoever can read the files can act as this user
    #[arg(long)]
    no_password: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let place = context.place();
    let used = || {
        let message = format!("there is something in {} already", place.shown());
        Err(Error::new(Code::Failed, message)
            .hint("name another place with --store, --data-dir or EIDETICA_DIR"))
    };
    if place.is_used() == Some(true) {
        return used();
    }
    let name = context.user_name().ok_or_else(|| {
        Error::new(Code::Failed, "the first user has no name").hint("eidetica init --user NAME")
    })?;
    let password = password::choose(name, args.no_password)?;
    let instance = place.open_or_make()?;
    if !instance.list_users()?.is_empty() {
        return used();
    }
    instance.create_user(name, password.as_deref())?;
    let user = instance.login_user(name, password.as_deref())?;
    let key = user.get_default_key()?;
    let device = instance.device_key();
    let value = serde_json::json!({
        "data_dir": place.shown(), "device": device.to_string(), "user": name, "key": key.to_string(),
    });
    context.output.result(&value, || {
        fields(&[
            ("data directory", place.shown()),
            ("device", device.to_string()),
            ("user", name.to_owned()),
            ("key", key.to_string()),
        ])
    })
}
