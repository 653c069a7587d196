//! An agent's control stream.

use squall_core::clip::MAX_LABELS;
use squall_core::message::FromAgent;
use squall_wire::Connection;

use super::words;
use crate::driver::Event;
use crate::node::Node;

/// Takes the one channel of an agent and passes on what it says.
pub(super) async fn serve(node: &Node, connection: &Connection) {
    let Ok(channel) = connection.accept_channel().await else { return };
    let (sender, mut receiver) = channel.split();
    let mut hello = match words(node, connection, receiver.recv().await) {
        Some(FromAgent::Hello(hello)) => hello,
        Some(_) => return node.refuse(connection, "the first message must be a hello"),
        None => return,
    };
    let labels = hello.host.labels.len();
    hello.clip();
    if hello.host.labels.len() < labels {
        tracing::warn!(host = %hello.host.name, "over {MAX_LABELS} bytes of labels: some are left out");
    }
    let name = &connection.peer().name;
    if hello.host.name.as_str() != name {
        let why = format!("the certificate is {name}'s, the hello {}'s", hello.host.name);
        return node.refuse(connection, &why);
    }
    let id = connection.id();
    let connected =
        Event::Connected { connection: connection.clone(), hello: Box::new(hello), sender };
    if node.events.send(connected).await.is_err() {
        return;
    }
    while let Some(mut said) = words::<FromAgent>(node, connection, receiver.recv().await) {
        if matches!(said, FromAgent::Hello(_)) {
            node.refuse(connection, "a second hello");
            break;
        }
        said.clip();
        if node.events.send(Event::Said { connection: id, words: Box::new(said) }).await.is_err() {
            break;
        }
    }
    // Whatever ended the stream, the agent shall notice and connect anew.
    connection.close("the control stream has ended");
    let _ = node.events.send(Event::Gone { connection: id }).await;
}
