//! Who connects, and what each role may ask.

mod agents;
mod join;
mod operators;
mod peers;
mod reads;
mod writes;

use std::sync::Arc;

use squall_wire::{Connection, Endpoint, Role, WireError};

use crate::node::Node;
pub(crate) use operators::OPERATORS;

/// Takes connections until the endpoint is closed.
pub(crate) async fn serve(node: Arc<Node>, endpoint: Endpoint) {
    let joins = tokio::spawn(join::serve(node.clone(), endpoint.clone()));
    while let Some(connection) = endpoint.accept().await {
        let node = node.clone();
        tokio::spawn(async move {
            match connection.peer().role {
                Role::Agent => agents::serve(&node, &connection).await,
                Role::Operator => operators::serve(&node, &connection).await,
                Role::Coordinator => peers::serve(&node, &connection).await,
            }
        });
    }
    joins.abort();
}

/// What was said; none where the stream is over. Whoever says what is no message of its role is refused.
fn words<T>(
    node: &Node,
    connection: &Connection,
    received: Result<Option<T>, WireError>,
) -> Option<T> {
    match received {
        Ok(words) => words,
        Err(error @ (WireError::Codec(_) | WireError::FrameTooLarge { .. })) => {
            node.refuse(connection, &error.to_string());
            None
        }
        Err(error) => {
            tracing::debug!(peer = %connection.peer(), %error, "a stream has ended");
            None
        }
    }
}
