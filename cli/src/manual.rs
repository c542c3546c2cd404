//! `indelible completions` and `indelible man`, from the definition of the command line itself.

use std::io::Write;

use clap::CommandFactory;

use crate::Cli;

pub(crate) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> crate::Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "indelible", &mut script);
    Ok(out.write_all(&script)?)
}

/// One page: the program, then each subcommand.
pub(crate) fn page(out: &mut dyn Write) -> crate::Outcome {
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for subcommand in command.get_subcommands().filter(|each| each.get_name() != "help") {
        let name = subcommand.get_name().to_uppercase();
        writeln!(out, ".SH {name}")?;
        let page = clap_mangen::Man::new(subcommand.clone());
        page.render_description_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}
