//! `actor-server man`: the manual page, one for all commands.

use super::Cli;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::Write;

pub(super) fn print(out: &mut impl Write) -> anyhow::Result<()> {
    let mut program = Cli::command();
    // Each command knows its options, those of all commands too.
    program.build();
    let man = Man::new(program.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    describe(&program, "", &mut roff);
    roff.to_writer(out)?;
    ENDING.write(out)
}

/// The commands below `command`, each with what can be given to it.
fn describe(command: &Command, before: &str, roff: &mut Roff) {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set())
    {
        let name = format!("{before}{}", below.get_name());
        roff.control("TP", []);
        roff.text([bold(name.clone())]);
        roff.text([roman(below.get_about().map(ToString::to_string).unwrap_or_default())]);
        let own =
            below.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set());
        for argument in own.filter(|argument| argument.get_id() != "help") {
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(argument.to_string())]);
            roff.text([roman(argument.get_help().map(ToString::to_string).unwrap_or_default())]);
            roff.control("RE", []);
        }
        describe(below, &format!("{name} "), roff);
    }
}

/// What no declaration of the command line knows.
struct Ending(&'static [(&'static str, &'static [&'static str])]);

const ENDING: Ending = Ending(&[
    ("EXIT STATUS", &["0: all is well. 1: it failed. 2: what was typed, or the configuration, is wrong."]),
    (
        "SIGNALS",
        &[
            "SIGTERM and SIGINT: nothing new starts, and what runs may finish within shutdown_grace_seconds; a second one \
             ends the server at once. SIGHUP: the configuration is read again.",
        ],
    ),
]);

impl Ending {
    fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut roff = Roff::new();
        for (title, paragraphs) in self.0 {
            roff.control("SH", [*title]);
            for paragraph in *paragraphs {
                roff.text([roman(*paragraph)]);
            }
        }
        Ok(roff.to_writer(out)?)
    }
}
