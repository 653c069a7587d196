//! An agent's control stream.

use squall_core::clip::MAX_LABELS;
use squall_core::message::FromAgent;
use squall_wire::Connection;

use super::refuse;
use crate::driver::Event;
use crate::node::Node;

/// Takes the one channel of an agent and passes on what it says.
pub(super) async fn serve(node: &Node, connection: &Connection) {
    let Ok(channel) = connection.accept_channel().await else { return };
    let (sender, mut receiver) = channel.split();
    let mut hello = match receiver.recv::<FromAgent>().await {
        Ok(Some(FromAgent::Hello(hello))) => hello,
        Ok(Some(_)) => return refuse(connection, "the first message must be a hello"),
        Ok(None) => return,
        Err(error) => return refuse(connection, &error.to_string()),
    };
    let labels = hello.host.labels.len();
    hello.clip();
    if hello.host.labels.len() < labels {
        tracing::warn!(host = %hello.host.name, "over {MAX_LABELS} bytes of labels: some are left out");
    }
    let name = &connection.peer().name;
    if hello.host.name.as_str() != name {
        let why = format!("the certificate is {name}'s, the hello {}'s", hello.host.name);
        return refuse(connection, &why);
    }
    let id = connection.id();
    let connected =
        Event::Connected { connection: connection.clone(), hello: Box::new(hello), sender };
    if node.events.send(connected).await.is_err() {
        return;
    }
    loop {
        match receiver.recv::<FromAgent>().await {
            Ok(Some(FromAgent::Hello(_))) => {
                refuse(connection, "a second hello");
                break;
            }
            Ok(Some(mut words)) => {
                words.clip();
                let said = Event::Said { connection: id, words: Box::new(words) };
                if node.events.send(said).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(peer = %connection.peer(), %error, "an agent's stream has ended");
                break;
            }
        }
    }
    // Whatever ended the stream, the agent shall notice and connect anew.
    connection.close("the control stream has ended");
    let _ = node.events.send(Event::Gone { connection: id }).await;
}
