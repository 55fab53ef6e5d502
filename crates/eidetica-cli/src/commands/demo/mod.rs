//! `eidetica demo`: two nodes share a database, from the first access to concurrent edits. It uses what any program would use, and fails
//! if something that it says is not so.

mod node;
mod story;

use std::path::{Path, PathBuf};

use crate::context::{Context, wait_for_interruption};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::place::Place;
use crate::read::{Format, Source};
use story::Story;

/// The airports of the United States, so that the demo needs nothing but the program.
const AIRPORTS: &[u8] = include_bytes!("../../../../../data/airports.csv");

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Import this CSV or JSONL file instead of 3,376 airports
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Leave both nodes serving until interrupted
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let dir = directory(context)?;
    let source = source(args.input, &dir)?;
    let mut story = Story::begin(&dir, context)?;
    story.import(&source)?;
    story.ask_for_access()?;
    story.approve()?;
    story.bootstrap()?;
    story.edit_offline()?;
    story.reconnect()?;
    story.compare()?;
    story.show_merged_row()?;
    story.refuse_stranger()?;
    story.end(args.keep)?;
    if args.keep {
        wait_for_interruption()?;
        story.stop()?;
    }
    Ok(())
}

/// Where both nodes keep their data: what `--data-dir` names, else a new directory among the temporary ones.
fn directory(context: &Context) -> Result<PathBuf> {
    let dir = match context.named_dir() {
        Some(dir) if Place::dir(dir.into()).is_used() == Some(true) => {
            return Err(Error::new(
                Code::Failed,
                format!("there is something in {} already", dir.display()),
            )
            .hint("name an empty directory, or none: the demo then makes a new one"));
        }
        Some(dir) => dir.to_path_buf(),
        None => std::env::temp_dir().join(format!("eidetica-demo-{}", std::process::id())),
    };
    let attempted = |error: std::io::Error| {
        Error::from(error).context(format!("cannot make {}", dir.display()))
    };
    std::fs::create_dir_all(&dir).map_err(attempted)?;
    dir.canonicalize().map_err(attempted)
}

fn source(input: Option<PathBuf>, dir: &Path) -> Result<Source> {
    let Some(path) = input else {
        let path = dir.join("airports.csv");
        std::fs::write(&path, AIRPORTS)?;
        return Ok(Source {
            path,
            format: Format::Csv,
            key: None,
            text: false,
        });
    };
    crate::commands::import::source(path, None, None, false)
}

/// A claim of the demo that is not so.
fn broken(claim: &str) -> Error {
    Error::new(
        Code::Failed,
        format!("the demo is wrong: {}", escape(claim)),
    )
    .hint("this is a bug; run it again with -v and report what it says")
}
