//! `token`: what a token says, whether it is to be believed, why it was issued so, and why a backend refused it.

mod explain;
mod inspect;
mod verify;
mod why;

use std::io::Read;

use clap::Subcommand;

use super::{CliError, GlobalArgs};
use crate::clock::Clock;

/// Verify tokens offline, look into them, and explain them.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenArgs {
    Explain(explain::ExplainArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Why(why::WhyArgs),
}

impl TokenArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let now = Clock::system().now();
        match self {
            Self::Explain(args) => args.run(global),
            Self::Inspect(args) => args.run(global, now),
            Self::Verify(args) => args.run(global, now),
            Self::Why(args) => args.run(global),
        }
    }
}

/// Tokens have 6 KiB; whatever is much longer is refused anyway, and need not be read to its end.
const LONGEST_INPUT: u64 = 65_536;

/// The argument, or what stands on the standard input when the argument is `-`.
fn read_token(argument: String) -> Result<String, CliError> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut input = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST_INPUT)
        .read_to_string(&mut input)
        .map_err(CliError::fault("could not read the token from the standard input"))?;
    // A pipe ends in a line end that belongs to nobody's token.
    Ok(input.trim_ascii().to_owned())
}

/// Text that somebody else wrote, such that a terminal shows it and does nothing else with it.
fn visible(text: &str) -> String {
    let show = |character: char| match character {
        '\'' | '"' => character.to_string(),
        other => other.escape_debug().to_string(),
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_shown_instead() {
        assert_eq!(visible("duo_chat \"é\""), "duo_chat \"é\"");
        assert_eq!(visible("\u{1b}[2J\r\n\u{9b}\u{202e}"), r"\u{1b}[2J\r\n\u{9b}\u{202e}");
    }
}
