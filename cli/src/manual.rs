//! `indelible completions` and `indelible man`, from the definition of the command line itself.

use std::io::Write;

use clap::CommandFactory;

use crate::Cli;
use crate::exit::Exit;

pub(crate) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> crate::Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "indelible", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Sound)
}

/// One page for all commands: there are no others, so none is referred to.
pub(crate) fn page(out: &mut dyn Write) -> crate::Outcome {
    let mut command = Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for subcommand in command.get_subcommands().filter(|each| each.get_name() != "help") {
        writeln!(out, ".SH INDELIBLE {}", subcommand.get_name().to_uppercase())?;
        let about = subcommand.get_long_about().or(subcommand.get_about());
        writeln!(out, "{}", about.map(ToString::to_string).unwrap_or_default())?;
        let usage = subcommand.clone().render_usage().to_string();
        writeln!(out, ".PP\n\\fB{}\\fR", usage.trim_start_matches("Usage: "))?;
        for argument in subcommand.get_arguments().filter(|it| !it.is_global_set()) {
            if argument.get_id() == "help" {
                continue;
            }
            writeln!(out, ".TP\n\\fB{}\\fR", escaped(&argument.to_string()))?;
            let help = argument.get_long_help().or(argument.get_help());
            writeln!(out, "{}", escaped(&help.map(ToString::to_string).unwrap_or_default()))?;
        }
    }
    writeln!(out, ".SH EXIT STATUS")?;
    for exit in Exit::ALL {
        writeln!(out, ".TP\n\\fB{}\\fR\n{}", exit.code(), exit.meaning())?;
    }
    writeln!(out, ".SH EXAMPLES")?;
    for (example, about) in EXAMPLES {
        writeln!(out, ".TP\n\\fB{}\\fR\n{about}", escaped(example))?;
    }
    Ok(Exit::Sound)
}

/// What a line of roff must not have.
fn escaped(text: &str) -> String {
    text.replace('-', "\\-")
}

const EXAMPLES: [(&str, &str); 6] = [
    ("indelible inspect /var/lib/node-1", "What is there, and what the next start would do."),
    ("indelible verify --json /var/lib/node-1 | jq .verification.health", "For a monitor."),
    ("indelible repair --plan /var/lib/node-1", "What can be done, and what that would lose."),
    (
        "indelible refill /var/lib/node-1 --from /mnt/node-2",
        "Puts back what a repair marked as missing, from another node of the group.",
    ),
    ("indelible compare /mnt/node-1 /mnt/node-2", "Whether two nodes hold the same entries."),
    ("indelible backup /var/lib/node-1 /backup/node-1", "A verified copy of a stopped node."),
];
