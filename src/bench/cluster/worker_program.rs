//! Simulated engines in a process of their own, which can be killed and started again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench::programs::Program;

/// One simulated engine in a process of its own, or the process of several.
#[derive(Debug)]
pub(super) struct WorkerProgram {
    /// `host:port` of the first of them.
    pub(super) address: String,
    binary: PathBuf,
    /// All but the port.
    arguments: Vec<String>,
    program: Option<Program>,
}

impl WorkerProgram {
    /// Starts it on free ports, and reads the addresses of its engines off its output: fewer than
    /// asked for where it ended before.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn start(
        binary: &Path,
        arguments: Vec<String>,
        engines: u16,
        log: std::fs::File,
    ) -> Result<(Self, Vec<String>), String> {
        let mut command = Command::new(binary);
        command.args(&arguments).args(["--port", "0"]).stdout(Stdio::piped()).stderr(log);
        let mut program = Program::start(&mut command)?;
        let output = program.output().ok_or("no output of the simulated engines")?;
        let addresses: Vec<String> = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| Some(line.split_once("listening on http://")?.1.trim().to_owned()))
            .take(usize::from(engines))
            .collect();
        let address = addresses.first().cloned().unwrap_or_default();
        let binary = binary.to_owned();
        Ok((Self { address, binary, arguments, program: Some(program) }, addresses))
    }

    pub(super) fn is_running(&self) -> bool {
        self.program.is_some()
    }

    /// Kills it, without a word to those it serves.
    pub(super) fn kill(&mut self) {
        self.program = None;
    }

    /// Starts it again, empty, where it was.
    ///
    /// # Errors
    /// Where that fails, with a text for the user.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let port = self.address.rsplit_once(':').map_or("0", |(_, port)| port).to_owned();
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).args(["--port", &port]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.program = Some(Program::start(&mut command)?);
        Ok(())
    }
}
