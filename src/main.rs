//! `epp`: flags, then run; nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

use epp::app::{self, App};
use epp::cli::{self, Command, Exit};
use epp::server::{Shutdown, Stage};
use epp::telemetry::logging;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = arguments().and_then(|a| cli::parse(&a, |name| std::env::var(name).ok()));
    let end = match command {
        Err(exit) => exit,
        Ok(Command::Check(options)) => app::check(&options),
        Ok(Command::Serve(options)) => match serve(*options) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(exit) => exit,
        },
    };
    if end.code == 0 {
        print!("{}", end.text);
    } else {
        eprint!("{}", end.text);
    }
    ExitCode::from(end.code)
}

/// The arguments after the program's name.
fn arguments() -> Result<Vec<String>, Exit> {
    let text = |argument: OsString| {
        argument
            .into_string()
            .map_err(|a| Exit { text: format!("epp: not UTF-8: {}\n", a.display()), code: 2 })
    };
    std::env::args_os().skip(1).map(text).collect()
}

#[tokio::main]
async fn serve(options: cli::Options) -> Result<(), Exit> {
    let failed = |e: &dyn std::fmt::Display| Exit { text: format!("epp: {e}\n"), code: 1 };
    let _log = logging::init(options.log).map_err(|e| failed(&e))?;
    let shutdown = Shutdown::new();
    let _signals = shutdown.on_signals().map_err(|e| failed(&e))?;
    // Asked to end while it starts, it need not have started first.
    let app = tokio::select! {
        app = App::start(options, shutdown.clone()) => app?,
        () = shutdown.reached(Stage::Draining) => return Ok(()),
    };
    app.run().await;
    Ok(())
}
