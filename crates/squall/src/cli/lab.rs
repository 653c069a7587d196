//! `squall lab`.

use clap::{Args, Subcommand};

/// Virtual hosts on this machine.
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Make a lab and wait until every agent is connected and a leader stands
    Up(LabUp),
    /// Take a lab down: everything of it goes
    Down {
        /// Which lab
        #[arg(default_value = DEFAULT)]
        name: String,
    },
    /// The labs of this machine and their hosts
    Ls,
    /// The cluster in a lab
    Status {
        /// Which lab
        #[arg(default_value = DEFAULT)]
        name: String,
    },
    /// Run a program on a virtual host, in all of its namespaces; ends with its exit code
    Exec(LabExec),
}

/// The lab that is meant where none is named.
pub const DEFAULT: &str = "lab";

/// `squall lab up`.
#[derive(Debug, Args)]
pub struct LabUp {
    /// The lab's name
    #[arg(default_value = DEFAULT)]
    pub name: String,
    /// Hosts with an agent: h1, h2, …
    #[arg(long, default_value_t = 5)]
    pub hosts: u16,
    /// Hosts with a coordinator: c1, c2, …
    #[arg(long, default_value_t = 3)]
    pub coordinators: u16,
    /// A label, as `h1=group=etcd`; may be repeated
    #[arg(long = "label", value_name = "HOST=KEY=VALUE")]
    pub labels: Vec<String>,
    /// No IPv4 anywhere
    #[arg(long)]
    pub ipv6_only: bool,
    /// Hosts with nothing started on them
    #[arg(long)]
    pub bare: bool,
    /// Agents on the coordinators' hosts too
    #[arg(long)]
    pub agents_on_coordinators: bool,
}

/// `squall lab exec`.
#[derive(Debug, Args)]
pub struct LabExec {
    /// Which lab
    #[arg(long, default_value = DEFAULT)]
    pub lab: String,
    /// Which host
    pub host: String,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true)]
    pub argv: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    #[test]
    fn everything_after_the_dashes_is_the_program() {
        let cli =
            Cli::try_parse_from(["squall", "lab", "exec", "h1", "--", "pkill", "-9", "squall"])
                .expect("lab exec");
        let Command::Lab(Lab::Exec(exec)) = cli.command else { panic!("not lab exec") };
        assert_eq!((exec.lab.as_str(), exec.host.as_str()), (DEFAULT, "h1"));
        assert_eq!(exec.argv, ["pkill", "-9", "squall"]);
    }
}
