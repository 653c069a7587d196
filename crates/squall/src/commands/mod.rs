//! Each command: ask, wait, show, and the number to end with. What is shown is made in `output`.

pub mod demo;
mod explain;
mod forms;
mod init;
mod inject;
mod join;
mod lab;
mod operate;
mod roles;
mod run;
mod stop_all;
mod watch;

use std::io;

use clap::CommandFactory;
use squall_core::message::{Request, Response};

use crate::cli::{AgentAction, Cli, Command, FaultsAction, Format, Shared};
use crate::client::Client;
use crate::client::cluster_dir::ClusterDir;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Does what was typed. No thread has been started yet.
///
/// # Errors
/// Why it came to nothing, with the number to end with.
pub fn dispatch(cli: Cli) -> Outcome {
    let Cli { shared, command } = cli;
    let format = shared.output;
    match command {
        Command::Demo => demo::demo(),
        Command::Lab(lab) => lab::lab(lab, &shared),
        Command::Init(init) => init::init(&init, &shared),
        Command::Token(token) => connected(&shared, async |c| join::token(c, &token, format).await),
        Command::Join(join) => join::join(&join),
        Command::Coordinator(role) => roles::coordinator(&role.config),
        Command::Agent(agent) => match (agent.action, agent.config) {
            (Some(AgentAction::Drain { host, undo }), _) => {
                connected(&shared, async |c| operate::drain(c, &host, !undo, format).await)
            }
            (Some(AgentAction::Forget { host }), _) => {
                connected(&shared, async |c| operate::forget(c, &host, format).await)
            }
            (None, Some(config)) => roles::agent(&config),
            (None, None) => Err(Failure::usage("--config is missing", "squall agent --help")),
        },
        Command::Status => connected(&shared, async |c| operate::status(c, format).await),
        Command::Nodes => connected(&shared, async |c| operate::nodes(c, format).await),
        Command::Doctor => inject::doctor(format),
        Command::Plan(file) => {
            let file = run::ExperimentFile::read(&file.file, format)?;
            connected(&shared, async |c| run::plan(c, &file, format).await)
        }
        Command::Run(run) => {
            let file = run::ExperimentFile::read(&run.file, format)?;
            connected(&shared, async |c| run::run(c, &file, run.detach, format).await)
        }
        Command::Ls => connected(&shared, async |c| operate::ls(c, format).await),
        Command::Show(e) => connected(&shared, async |c| operate::show(c, &e.id, format).await),
        Command::Watch(e) => connected(&shared, async |c| watch::watch(c, &e.id, format).await),
        Command::Stop(e) => connected(&shared, async |c| watch::stop(c, &e.id, format).await),
        Command::StopAll => connected(&shared, async |c| stop_all::stop_all(c, format).await),
        Command::Resume(resume) => {
            connected(&shared, async |c| operate::resume(c, &resume, format).await)
        }
        Command::Faults(faults) => match faults.action {
            None => connected(&shared, async |c| operate::faults(c, format).await),
            Some(FaultsAction::Clear) => {
                connected(&shared, async |c| watch::clear(c, format).await)
            }
        },
        Command::Views => connected(&shared, async |c| operate::views(c, format).await),
        Command::Inject(inject) => inject::inject(inject.kind, format),
        Command::Lift(dirs) => inject::lift(&dirs, format),
        Command::Schema => explain::schema(),
        Command::Completions { shell } => {
            let mut buffer = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "squall", &mut buffer);
            output::data(&String::from_utf8_lossy(&buffer)).map(|()| Exit::Held)
        }
        Command::Explain { word } => explain::explain(word.as_deref(), format),
    }
}

/// Runs an operator's command with a client of the cluster that is meant.
fn connected(shared: &Shared, command: impl AsyncFnOnce(&Client) -> Outcome) -> Outcome {
    let dir = ClusterDir::open(shared.cluster().as_deref())?;
    with_client(dir, command)
}

/// The same, for a cluster directory that is at hand. Where it is a lab's, this process enters the
/// lab's network first: it must still be single-threaded.
fn with_client(dir: ClusterDir, command: impl AsyncFnOnce(&Client) -> Outcome) -> Outcome {
    lab::enter_network(&dir)?;
    quiet_logs();
    runtime()?.block_on(async {
        let client = Client::open(dir)?;
        let outcome = command(&client).await;
        client.close().await;
        outcome
    })
}

/// One thread is enough for a client.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(threads)
}

fn threads(error: io::Error) -> Failure {
    Failure::local(format!("the runtime cannot start: {error}"), "check this host's limits")
}

/// Logs of a command: none unless `RUST_LOG` asks for them.
fn quiet_logs() {
    logs("off");
}

/// Logs go to stderr; `RUST_LOG` chooses.
fn logs(default: &str) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // Only the first call of a process sets them up.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// A failure for an answer to some other question: the versions of client and coordinator differ.
fn odd(request: &Request, response: &Response) -> Failure {
    let name = |debug: String| debug.split([' ', '(', '{']).next().map(str::to_owned);
    let asked = name(format!("{request:?}")).unwrap_or_default();
    let said = name(format!("{response:?}")).unwrap_or_default();
    Failure::new(
        Exit::Unreachable,
        format!("a coordinator answered {said} to {asked}"),
        "use the same version of squall everywhere",
    )
}

/// Prints an answer, and ends well.
fn show<T: serde::Serialize>(
    format: Format,
    view: &T,
    table: impl FnOnce(&T) -> String,
) -> Outcome {
    output::emit(format, view, table).map(|()| Exit::Held)
}

/// A new id for a command, so that repeats of it take effect once.
fn command_id() -> squall_core::ids::CommandId {
    squall_core::ids::CommandId(uuid::Uuid::new_v4())
}
