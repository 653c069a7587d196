//! `squall lab`.

use clap::{Args, Subcommand};

/// Virtual hosts on this machine.
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Make a lab and wait until every agent is connected and a leader stands
    Up(LabUp),
    /// Take a lab down: everything of it goes
    Down {
        /// Which lab; else that of the cluster that is named, `lab`, or the only one
        name: Option<String>,
    },
    /// The labs of this machine and their hosts
    Ls,
    /// The cluster in a lab
    Status {
        /// Which lab; else that of the cluster that is named, `lab`, or the only one
        name: Option<String>,
    },
    /// Run a program on a virtual host, in all of its namespaces; ends with its exit code
    Exec(LabExec),
}

/// The lab that is made, or meant, where none is named.
pub const LAB: &str = "lab";

/// `squall lab up`.
#[derive(Debug, Args)]
pub struct LabUp {
    /// The lab's name
    #[arg(default_value = LAB)]
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
    /// Which lab; else that of the cluster that is named, `lab`, or the only one
    #[arg(long)]
    pub lab: Option<String>,
    /// Which host
    pub host: String,
    /// The program and its arguments; after `--` where the first of them begins with a dash
    #[arg(trailing_var_arg = true, required = true)]
    pub argv: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn exec(typed: &[&str]) -> LabExec {
        let all = ["squall", "lab", "exec"].iter().chain(typed);
        let cli = Cli::try_parse_from(all).expect("lab exec");
        let Command::Lab(Lab::Exec(exec)) = cli.command else { panic!("not lab exec") };
        exec
    }

    #[test]
    fn everything_after_the_dashes_is_the_program() {
        let typed = exec(&["h1", "--", "pkill", "-9", "squall"]);
        assert_eq!((typed.lab, typed.host.as_str()), (None, "h1"));
        assert_eq!(typed.argv, ["pkill", "-9", "squall"]);
    }

    #[test]
    fn the_program_needs_no_dashes_and_keeps_its_own() {
        let typed = exec(&["h1", "--lab", "x", "ls", "-o", "--lab", "y", "--", "-1"]);
        assert_eq!((typed.lab.as_deref(), typed.host.as_str()), (Some("x"), "h1"));
        assert_eq!(typed.argv, ["ls", "-o", "--lab", "y", "--", "-1"]);
        let wrong = Cli::try_parse_from(["squall", "lab", "exec", "h1"]).map(drop).unwrap_err();
        assert!(wrong.to_string().contains("<ARGV>"), "{wrong}");
    }
}
