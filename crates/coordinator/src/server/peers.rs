//! What other coordinators ask.

use std::sync::Arc;

use squall_core::message::{FromCoordinator, ToCoordinator};
use squall_wire::{Channel, Connection, WireError, codec};

use super::words;
use crate::driver::Event;
use crate::network::{self, Call};
use crate::node::Node;

/// Answers each channel with one answer.
pub(super) async fn serve(node: &Arc<Node>, connection: &Connection) {
    // The transport bounds how many channels are open at once.
    while let Ok(channel) = connection.accept_channel().await {
        let (node, connection) = (node.clone(), connection.clone());
        tokio::spawn(async move {
            let mut channel = channel;
            let Some(question) = words(&node, &connection, channel.recv().await) else { return };
            if let Err(error) = answer(&node, &connection, question, channel).await {
                tracing::debug!(peer = %connection.peer(), %error, "a call came to nothing");
            }
        });
    }
}

async fn answer(
    node: &Arc<Node>,
    connection: &Connection,
    question: FromCoordinator,
    mut channel: Channel,
) -> Result<(), WireError> {
    let answer = match question {
        FromCoordinator::Raft(bytes) => match codec::decode::<Call>(&bytes) {
            Ok(call) => {
                let answer = network::answer(node, &connection.peer().name, call).await;
                ToCoordinator::Raft(codec::encode(&answer)?)
            }
            Err(error) => ToCoordinator::Failed(error.to_string()),
        },
        FromCoordinator::Stops(stops) => match node.events.send(Event::PeerStops(stops)).await {
            Ok(()) => ToCoordinator::Taken,
            Err(_) => ToCoordinator::Failed("shutting down".into()),
        },
        FromCoordinator::View => ToCoordinator::View(node.status()),
    };
    channel.send(&answer).await?;
    channel.finish();
    Ok(())
}
