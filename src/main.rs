//! `epp`: flags, then run; nothing else.

use std::ffi::OsString;
use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use epp::app::App;
use epp::cli::{self, Command, DoctorOptions, Exit};
use epp::console::{self, AskError, TopOptions};
use epp::doctor;
use epp::server::{Shutdown, Stage};
use epp::telemetry::logging;

/// glibc's allocator gives the memory of a large body back to the system and takes it again for the
/// next one; musl's takes one lock for all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = arguments().and_then(|a| cli::parse(&a, |name| std::env::var(name).ok()));
    let end = match command {
        Err(exit) => exit,
        Ok(Command::Check(options)) => cli::check(&options, &mut std::io::stdin()),
        Ok(Command::Migrate(options)) => {
            let done = cli::migrate(&options, &mut std::io::stdin());
            // What was changed and why, beside the result.
            if std::io::stderr().lock().write_all(done.told.as_bytes()).is_err() {
                return ExitCode::FAILURE;
            }
            let end = tell(&Exit { text: done.text, code: 0 });
            return if done.code == 0 { end } else { ExitCode::from(done.code) };
        }
        Ok(Command::Print(text)) => Exit { text, code: 0 },
        Ok(Command::Explain(options)) => asked(console::explain(&options)),
        Ok(Command::Top(options)) => top(&options),
        Ok(Command::Doctor(options)) => return examined(&options),
        Ok(Command::Serve(options)) => match serve(*options) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(exit) => exit,
        },
    };
    tell(&end)
}

/// Asks a running epp, and prints what it says.
fn asked(question: impl Future<Output = Result<String, AskError>>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(question).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    exit(answer)
}

fn exit(answer: Result<String, String>) -> Exit {
    match answer {
        Ok(text) => Exit { text, code: 0 },
        Err(reason) => Exit { text: format!("epp: {reason}\n"), code: 1 },
    }
}

/// Looks for what is wrong. What was found goes to standard output, whatever it is.
fn examined(options: &DoctorOptions) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return tell(&exit(Err(e.to_string()))),
    };
    let report = runtime.block_on(doctor::examine(options));
    // Look-ups of names that never end are not waited for.
    runtime.shutdown_background();
    let is_terminal = std::io::stdout().is_terminal();
    let text = match options.json {
        true => report.json(),
        false => report.text(is_terminal && std::env::var_os("NO_COLOR").is_none()),
    };
    match tell(&Exit { text, code: 0 }) {
        ExitCode::SUCCESS if report.is_well() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[cfg(feature = "top")]
fn top(options: &TopOptions) -> Exit {
    match options.once {
        true => asked(console::top_once(options)),
        false => exit(console::top(options).map(|()| String::new())),
    }
}

#[cfg(not(feature = "top"))]
fn top(options: &TopOptions) -> Exit {
    match options.once {
        true => asked(console::top_once(options)),
        false => exit(Err("this build has no terminal page: use epp top --once".to_owned())),
    }
}

/// Prints why there is nothing more to run; what was asked for goes to standard output.
fn tell(end: &Exit) -> ExitCode {
    let text = end.text.as_bytes();
    let written = match end.code {
        0 => std::io::stdout().lock().write_all(text),
        _ => std::io::stderr().lock().write_all(text),
    };
    match written {
        // Whoever reads no further, as `head`, has what it wants.
        Err(e) if e.kind() != ErrorKind::BrokenPipe && end.code == 0 => ExitCode::FAILURE,
        _ => ExitCode::from(end.code),
    }
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
