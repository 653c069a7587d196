//! What can be typed. No rule lives here: parsed as typed, resolved by the commands.

mod inject;
mod lab;
mod operate;

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use inject::{Inject, InjectKind, Packets, Span, Transport, Way};
pub use lab::{LAB, Lab, LabUp};
pub use operate::{Faults, FaultsAction, Init, Join, Resume, Run, Token, named_address};

/// Chaos that always passes: faults on fleets of Linux hosts that end when their time, their lease,
/// their holder or anybody's patience does.
#[derive(Debug, Parser)]
#[command(name = "squall", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 held and clean · 1 broken or failed, everything lifted · \
2 usage or invalid file · 3 refused by safety or policy · 4 no coordinator reachable, or not \
authorised · 5 NOT CLEAN, the host is named · 6 verdict unknown, clean · 7 stopped, clean")]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// The variable that names the cluster's directory.
const CLUSTER: &str = "SQUALL_CLUSTER";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// How data is printed (talk goes to stderr)
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        ignore_case = true,
        default_value_t = Format::Table,
        help_heading = SHARED
    )]
    pub output: Format,
    /// The cluster's directory, as written by `squall init` or `squall lab up` [env: SQUALL_CLUSTER]
    #[arg(long, global = true, value_name = "DIR", value_parser = place(), help_heading = SHARED)]
    cluster: Option<PathBuf>,
}

/// Where the help shows them: below what is the command's own.
const SHARED: &str = "Shared options";

impl Shared {
    /// The cluster's directory, where one was named. The variable is read here: what clap reads of the
    /// environment stands in the usage of every command as if it had to be typed.
    pub fn cluster(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(CLUSTER).map(PathBuf::from);
        let place = self.cluster.clone().or_else(variable);
        place.filter(|place| !place.as_os_str().is_empty())
    }
}

/// A path, or nothing: an empty variable is one that is not set, and must not keep a stop-all from being
/// understood.
fn place() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn named(place: &Option<PathBuf>) -> Option<&Path> {
    place.as_deref().filter(|place| !place.as_os_str().is_empty())
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
}

/// The commands, in the order in which the help shows them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A lab, a real service, a partition, a stop-all; then everything gone. Two minutes
    Demo,
    /// Virtual hosts on this machine: up, down, ls, status, exec
    #[command(subcommand)]
    Lab(Lab),
    /// Make a cluster's authority, certificates and keys, in a new directory: --cluster DIR
    #[command(
        override_usage = "squall init [OPTIONS] --cluster <DIR> --name <NAME> --coordinator <NAME=ADDRESS>..."
    )]
    Init(Init),
    /// A one-time token with which a host may join
    Token(Token),
    /// Enrol this host with a token
    Join(Join),
    /// Run a coordinator
    #[command(after_help = LOGS)]
    Coordinator(RoleArgs),
    /// Run this host's agent; `agent drain HOST` takes a host out of service
    #[command(after_help = LOGS)]
    Agent(AgentArgs),
    /// The cluster: coordinators, hosts, experiments
    Status,
    /// The hosts, with what each can hold
    #[command(visible_alias = "hosts")]
    Nodes,
    /// What this host can hold, and by which backend
    Doctor,
    /// Show what an experiment would do; change nothing
    #[command(visible_alias = "validate")]
    Plan(File),
    /// Submit an experiment and watch it to its verdict
    Run(Run),
    /// Experiments that run, and the last thousand that have ended
    #[command(visible_alias = "list")]
    Ls,
    /// One experiment
    Show(Experiment),
    /// Watch an experiment to its verdict (Ctrl-C leaves it running)
    Watch(Experiment),
    /// End one experiment early and wait until its hosts are clean
    Stop(Experiment),
    /// Stop everything everywhere, with a receipt a host
    StopAll,
    /// Release stops
    Resume(Resume),
    /// What is held now, fleet-wide, or may be: 6 where a host is not heard; `faults clear` ends every running
    /// experiment
    Faults(Faults),
    /// Who sees whom, and who believes in which authority
    Views,
    /// One fault on this host alone, no cluster; ends with Ctrl-C or its time
    Inject(Inject),
    /// Make this host whole from its journal, agent or none
    Lift(LocalDirs),
    /// The JSON Schema of an experiment file
    Schema,
    /// Completions for a shell
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// What a word means: a fault, a phase, an exit code
    Explain {
        /// The word; without it, all of them.
        word: Option<String>,
    },
}

/// What is said of a role's logs.
const LOGS: &str =
    "RUST_LOG says what is logged on stderr: info where it is not set, debug for more";

/// A long-running role.
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// Its configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `squall agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// Its configuration, TOML
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub action: Option<AgentAction>,
}

/// What an operator does to an agent.
#[derive(Debug, Subcommand)]
pub enum AgentAction {
    /// Take a host out of service: it lifts what experiments hold there, and gets no more of theirs
    Drain {
        /// The host.
        host: String,
        /// Put it back into service instead
        #[arg(long)]
        undo: bool,
    },
    /// Register a host no more that was drained and is gone for good: no stop waits for it
    Forget {
        /// The host.
        host: String,
    },
}

/// A command on an experiment file.
#[derive(Debug, Args)]
pub struct File {
    /// The experiment, YAML or JSON; `-` is standard input
    pub file: PathBuf,
}

/// A command on one experiment.
#[derive(Debug, Args)]
pub struct Experiment {
    /// Its id, the beginning of it, or its name
    pub id: String,
}

/// Where this host's agent keeps its things. What is not said is as its configuration,
/// /etc/squall/agent.toml, says where that is there; nothing is injected at other places than it says.
#[derive(Clone, Debug, Default, Args)]
pub struct LocalDirs {
    /// Where the journal is; else as /etc/squall/agent.toml says, or /var/lib/squall
    #[arg(long, env = "SQUALL_STATE_DIR", value_name = "DIR", value_parser = place())]
    state_dir: Option<PathBuf>,
    /// Where the agent's socket is; else as /etc/squall/agent.toml says, or /run/squall
    #[arg(long, env = "SQUALL_RUN_DIR", value_name = "DIR", value_parser = place())]
    run_dir: Option<PathBuf>,
    /// The host's policy file, where no agent runs; else as /etc/squall/agent.toml says, or
    /// /etc/squall/policy.toml if it is there
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

impl LocalDirs {
    /// Where the journal is, where that was said.
    pub fn state(&self) -> Option<&Path> {
        named(&self.state_dir)
    }

    /// Where the agent's socket is, where that was said.
    pub fn run(&self) -> Option<&Path> {
        named(&self.run_dir)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_agent_runs_with_a_configuration_or_drains_a_host() {
        let parse = |args: &[&str]| Cli::try_parse_from(args);
        assert!(parse(&["squall", "agent"]).is_err());
        assert!(parse(&["squall", "agent", "--config", "a.toml"]).is_ok());
        assert!(parse(&["squall", "agent", "drain", "h1"]).is_ok());
        assert!(parse(&["squall", "agent", "--config", "a.toml", "drain", "h1"]).is_err());
    }

    #[test]
    fn shared_options_may_stand_after_the_command() {
        let cli = Cli::try_parse_from(["squall", "status", "-o", "JSON", "--cluster", "/c"])
            .expect("global options");
        assert_eq!(cli.shared.output, Format::Json);
        assert_eq!(cli.shared.cluster(), Some(PathBuf::from("/c")));
    }

    #[test]
    fn what_all_commands_share_stands_last_in_the_help() {
        let help = |command: &str| {
            let parsed = Cli::try_parse_from(["squall", command, "--help"]);
            parsed.err().map(|help| help.to_string()).unwrap_or_default()
        };
        for command in ["run", "init", "agent", "stop-all"] {
            let help = help(command);
            let (own, shared) = help.split_once("\nShared options:\n").expect(command);
            assert!(own.contains("--help") && !own.contains("--output"), "{help}");
            assert!(
                shared.contains("--output") && shared.contains("[env: SQUALL_CLUSTER]"),
                "{help}"
            );
        }
        assert!(help("init").contains("Usage: squall init [OPTIONS] --cluster <DIR> --name"));
        assert!(help("coordinator").contains("RUST_LOG") && help("agent").contains("RUST_LOG"));
        let alias = |typed: &str| Cli::try_parse_from(["squall", typed]).map(|cli| cli.command);
        assert!(matches!(alias("hosts"), Ok(Command::Nodes)));
        assert!(matches!(alias("list"), Ok(Command::Ls)));
    }

    #[test]
    fn a_protocol_may_be_in_large_letters_as_in_a_file() {
        let typed = "squall inject partition --peers 10.0.0.2 --protocol TCP --for 10sec";
        let cli = Cli::try_parse_from(typed.split(' ')).expect("understood");
        let Command::Inject(Inject { kind: InjectKind::Partition { packets, .. } }) = cli.command
        else {
            panic!("a partition was typed")
        };
        assert_eq!(packets.protocol, Some(Transport::Tcp));
    }

    #[test]
    fn what_is_empty_is_not_set() {
        // As a variable that is empty: clap reads both alike.
        let cli = Cli::try_parse_from(["squall", "--cluster", "", "lift", "--run-dir", ""]);
        let cli = cli.expect("understood");
        assert_eq!(cli.shared.cluster(), None);
        let Command::Lift(dirs) = cli.command else { panic!("lift was typed") };
        assert_eq!(dirs.run(), None);
    }
}
