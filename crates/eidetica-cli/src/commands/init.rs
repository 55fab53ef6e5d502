//! `eidetica init`

use crate::context::{Context, open_instance};
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
    let dir = context.dir();
    if context.dir_is_used() {
        return Err(Error::new(
            Code::Failed,
            format!("there is something in {} already", dir.display()),
        )
        .hint("name another directory with --data-dir or EIDETICA_DIR"));
    }
    let name = context.user_name().ok_or_else(|| {
        Error::new(Code::Failed, "the first user has no name").hint("eidetica init --user NAME")
    })?;
    let password = password::choose(name, args.no_password)?;
    let instance = open_instance(dir)?;
    instance.create_user(name, password.as_deref())?;
    let user = instance.login_user(name, password.as_deref())?;
    let key = user.get_default_key()?;
    let device = instance.device_key();
    let value = serde_json::json!({
        "data_dir": dir.display().to_string(), "device": device.to_string(), "user": name, "key": key.to_string(),
    });
    context.output.result(&value, || {
        fields(&[
            ("data directory", dir.display().to_string()),
            ("device", device.to_string()),
            ("user", name.to_owned()),
            ("key", key.to_string()),
        ])
    })
}
