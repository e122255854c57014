//! Asks before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;

use super::CliError;

/// For commands that ask first.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ConfirmArgs {
    /// Do not ask: for scripts, which have nobody to ask.
    #[arg(long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Returns when the person at the terminal has typed `yes`, or `--yes` was given.
    ///
    /// `question` ends with a question mark. Refuses any other answer, and where nobody can answer.
    pub(crate) fn ask(self, question: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Err(CliError::refused(format!(
                "{question} There is no terminal to answer at: say `--yes` if you mean it. Nothing was done."
            )));
        }
        let asking = || -> std::io::Result<String> {
            let mut stderr = std::io::stderr().lock();
            write!(stderr, "{question} Type `yes` to go on: ")?;
            stderr.flush()?;
            let mut answer = String::new();
            stdin.lock().read_line(&mut answer)?;
            Ok(answer)
        };
        let answer = asking().map_err(CliError::fault("could not ask"))?;
        match answer.trim() {
            "yes" => Ok(()),
            _ => Err(CliError::refused("nothing was done")),
        }
    }
}
