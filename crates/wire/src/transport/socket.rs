//! UDP sockets: marked where control traffic is meant to pass through our own faults.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::sockopt as rx;

/// Bytes that a socket may buffer each way, as far as the host allows: a stop to a thousand agents
/// is answered in one burst.
const BUFFER: usize = 4 * 1024 * 1024;

/// A UDP socket at `bind`, not blocking, with large buffers as far as the host allows, and with
/// `mark` (`SO_MARK`) set where the process may (CAP_NET_ADMIN). Where it may not, that is logged
/// and the socket works without: network faults then hurt it like any other.
///
/// # Errors
/// The address cannot be bound.
pub fn marked_udp(bind: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(bind)?;
    socket.set_nonblocking(true)?;
    // The forced form passes net.core.rmem_max with CAP_NET_ADMIN; the plain one is cut to it.
    if rx::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        let _ = rx::set_socket_recv_buffer_size(&socket, BUFFER);
    }
    if rx::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
        let _ = rx::set_socket_send_buffer_size(&socket, BUFFER);
    }
    if let Some(mark) = mark
        && let Err(error) = setsockopt(&socket, sockopt::Mark, &mark)
    {
        tracing::warn!(%bind, %error, "control traffic is not marked: network faults will hurt it");
    }
    Ok(socket)
}
