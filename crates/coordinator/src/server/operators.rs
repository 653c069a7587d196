//! What operators ask: one channel a request.

use std::sync::Arc;

use squall_core::experiment::EndReason;
use squall_core::ids::StopId;
use squall_core::message::{Request, Response};
use squall_core::registry::{Command, MAX_TOKEN_MS};
use squall_core::time::WallTime;
use squall_wire::codec::CodecError;
use squall_wire::{Channel, Connection, WireError};
use tokio::sync::mpsc;

use super::{reads, words, writes};
use crate::clock;
use crate::driver::Event;
use crate::node::Node;

/// How the log names an operator: this, and the name.
pub(crate) const OPERATORS: &str = "operator/";
/// Answers that wait for an operator who does not read; more are left out, but never the last.
const PROGRESS: usize = 64;

/// Answers each channel.
pub(super) async fn serve(node: &Arc<Node>, connection: &Connection) {
    while let Ok(channel) = connection.accept_channel().await {
        let (node, connection) = (node.clone(), connection.clone());
        tokio::spawn(async move {
            let by = format!("{OPERATORS}{}", connection.peer().name);
            let mut channel = channel;
            let Some(request) = words(&node, &connection, channel.recv().await) else { return };
            if let Err(error) = answer(&node, &by, request, channel).await {
                tracing::debug!(by, %error, "an operator was not answered");
            }
        });
    }
}

async fn answer(
    node: &Arc<Node>,
    by: &str,
    request: Request,
    mut channel: Channel,
) -> Result<(), WireError> {
    let ended = || EndReason::Operator(by.to_owned());
    let write = async |id, command| writes::propose(node, by, id, command).await;
    let response = match request {
        Request::StopAll(stop) => return stop_all(node, by, stop, channel).await,
        Request::Status => reads::status(node).await,
        Request::Views => reads::views(node).await,
        Request::Show(id) => reads::show(node, id).await,
        Request::List => reads::list(node).await,
        Request::Plan(file) => reads::plan(node, &file).await,
        Request::Submit { command, id, file } => writes::submit(node, by, command, id, &file).await,
        Request::Resume { command, stops, despite } => {
            writes::resume(node, by, command, stops, despite).await
        }
        Request::StopExperiment { command, id } => {
            write(command, Command::End { id, why: ended() }).await
        }
        Request::ClearFaults { command } => write(command, Command::EndAll { why: ended() }).await,
        Request::Drain { command, host, drained } => {
            write(command, Command::Drain { host, drained }).await
        }
        Request::Forget { command, host } => writes::forget(node, by, command, host).await,
        Request::CreateToken { command, host, hash, ttl_ms } => {
            let expires = WallTime(clock::wall().0.saturating_add(ttl_ms.min(MAX_TOKEN_MS)));
            write(command, Command::CreateToken { hash, host, expires }).await
        }
    };
    match channel.send(&response).await {
        Err(WireError::Codec(CodecError::TooLarge { .. })) => {
            channel.send(&Response::TooLarge).await?;
        }
        sent => sent?,
    }
    channel.finish();
    Ok(())
}

/// Streams how a stop-all stands until there is no more to learn.
async fn stop_all(node: &Node, by: &str, stop: StopId, channel: Channel) -> Result<(), WireError> {
    let (progress, mut steps) = mpsc::channel(PROGRESS);
    let event = Event::StopAll { stop, by: by.to_owned(), progress };
    let (mut sender, _receiver) = channel.split();
    if node.events.send(event).await.is_err() {
        return sender.send(&Response::NoQuorum("this coordinator is shutting down".into())).await;
    }
    while let Some(step) = steps.recv().await {
        let last = step.last;
        sender.send(&Response::Stop(step)).await?;
        if last {
            break;
        }
    }
    sender.finish();
    Ok(())
}
