//! `squall inject`: one fault on this host, by flags.

use clap::{Args, Subcommand, ValueEnum};
use squall_core::spec::{CoreRange, Millis, Percent, PortRange, Rate, Signal, Size};

use super::LocalDirs;

/// `squall inject`.
#[derive(Debug, Args)]
pub struct Inject {
    #[command(subcommand)]
    pub kind: InjectKind,
}

/// How long, and where this host's agent lives.
#[derive(Clone, Debug, Args)]
pub struct Span {
    /// For how long at most
    #[arg(long = "for", value_name = "DURATION")]
    pub length: Millis,
    #[command(flatten)]
    pub dirs: LocalDirs,
}

/// Which packets.
#[derive(Clone, Debug, Args)]
pub struct Packets {
    /// The far ends: addresses or networks (10.0.0.0/24); by commas
    #[arg(long, value_delimiter = ',', required = true, value_name = "PEER")]
    pub peers: Vec<String>,
    /// Which way, as this host sees it
    #[arg(long, value_enum, default_value_t = Way::Both)]
    pub direction: Way,
    /// Only these ports (80 or 8000-8100); by commas
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub ports: Vec<PortRange>,
    /// Only this protocol
    #[arg(long, value_enum, ignore_case = true)]
    pub protocol: Option<Transport>,
}

/// Which way packets are hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Packets that arrive.
    In,
    /// Packets that leave.
    Out,
    /// Both ways.
    Both,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Which processes; every condition that is given must hold.
#[derive(Clone, Debug, Args)]
pub struct Selector {
    /// The command's name, as `ps -o comm` shows it
    #[arg(long)]
    pub name: Option<String>,
    /// A text that the command line contains
    #[arg(long)]
    pub cmdline: Option<String>,
    /// The process id
    #[arg(long)]
    pub pid: Option<u32>,
    /// A TCP port that it listens on, or a UDP port that it is bound to
    #[arg(long)]
    pub port: Option<u16>,
    /// A cgroup path or a systemd unit that it lives in or below
    #[arg(long)]
    pub cgroup: Option<String>,
    /// Names that never match; by commas
    #[arg(long, value_delimiter = ',')]
    pub exclude: Vec<String>,
}

/// How many of what matches; all where nothing is said.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Wanted {
    /// At most so many
    #[arg(long)]
    pub count: Option<u32>,
    /// So many percent of them
    #[arg(long)]
    pub percent: Option<Percent>,
}

/// The faults.
#[derive(Debug, Subcommand)]
pub enum InjectKind {
    /// Packets between this host and its peers vanish
    Partition {
        #[command(flatten)]
        packets: Packets,
        #[command(flatten)]
        span: Span,
    },
    /// A share of those packets vanishes
    Loss {
        /// How many percent, over 0 and up to 100
        #[arg(long)]
        percent: Percent,
        #[command(flatten)]
        packets: Packets,
        #[command(flatten)]
        span: Span,
    },
    /// Processes get a signal
    Kill {
        #[command(flatten)]
        selector: Selector,
        #[command(flatten)]
        wanted: Wanted,
        /// Which signal: a number or a name (SIGKILL where nothing is said)
        #[arg(long)]
        signal: Option<Signal>,
        /// Again each so often until the end
        #[arg(long, value_name = "DURATION")]
        interval: Option<Millis>,
        #[command(flatten)]
        span: Span,
    },
    /// Processes stand still
    Pause {
        #[command(flatten)]
        selector: Selector,
        #[command(flatten)]
        span: Span,
    },
    /// Processor time is burnt
    Cpu {
        /// Burner processes; one for each processor where nothing is said
        #[arg(long)]
        workers: Option<u16>,
        /// How busy each is, in percent of one processor; 100 where nothing is said
        #[arg(long)]
        load: Option<Percent>,
        /// The processors that they are bound to (0 or 2-3); by commas
        #[arg(long, value_delimiter = ',', value_name = "CORES")]
        cores: Vec<CoreRange>,
        /// Over so long the load rises, evenly
        #[arg(long, value_name = "DURATION")]
        ramp: Option<Millis>,
        #[command(flatten)]
        span: Span,
    },
    /// Memory is taken and kept in use
    #[command(group = clap::ArgGroup::new("amount").required(true).args(["bytes", "percent"]))]
    Memory {
        /// So much, as 512MiB or 2GiB
        #[arg(long)]
        bytes: Option<Size>,
        /// So many percent of what is available
        #[arg(long)]
        percent: Option<Percent>,
        /// Over so long it is taken, evenly
        #[arg(long, value_name = "DURATION")]
        ramp: Option<Millis>,
        /// So much of it is written to each second, as 100MiB/s; all of it in 5s where nothing is said
        #[arg(long, value_name = "RATE")]
        touch_rate: Option<Rate>,
        #[command(flatten)]
        span: Span,
    },
}
