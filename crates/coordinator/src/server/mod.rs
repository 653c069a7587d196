//! Who connects, and what each role may ask.

mod agents;
mod join;
mod operators;
mod peers;
mod reads;
mod writes;

use std::sync::Arc;

use squall_wire::{Connection, Endpoint, Role};

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

/// Ends a connection whose other side did what its role may not, or what makes no sense.
pub(crate) fn refuse(connection: &Connection, why: &str) {
    tracing::warn!(peer = %connection.peer(), remote = %connection.remote(), why, "refused");
    connection.close(why);
}
