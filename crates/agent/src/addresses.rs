//! The addresses of this host beside the one that it is registered by.

use std::io;
use std::net::IpAddr;

use squall_core::registry::{MAX_ALSO, leads_somewhere};
use squall_core::time::Time;
use squall_faults::sys::devices;
use tokio::sync::mpsc;

/// From the end of one look to the next, in milliseconds.
const LOOK_MS: u64 = 5_000;

/// What a look found.
pub(crate) type Found = io::Result<Vec<IpAddr>>;

/// Looks from time to time, beside the driver: the kernel may take long to list what it is changing, and a
/// stop must not stand behind that.
pub(crate) struct Looks {
    next: Time,
    found: mpsc::UnboundedSender<Found>,
}

impl Looks {
    /// What is found comes out at the other end of `found`.
    pub(crate) fn new(found: mpsc::UnboundedSender<Found>) -> Looks {
        Looks { next: Time(0), found }
    }

    /// Begins a look, unless the last one was just now or is still under way.
    pub(crate) fn begin_if_due(&mut self, now: Time, main: IpAddr) {
        if now < self.next {
            return;
        }
        self.next = Time::FAR;
        let found = self.found.clone();
        tokio::task::spawn_blocking(move || found.send(also(main)));
    }

    /// A look is over.
    pub(crate) fn ended(&mut self, now: Time) {
        self.next = now.plus(LOOK_MS);
    }
}

/// Those at which peers could reach it, in order.
///
/// # Errors
/// The kernel's.
pub(crate) fn also(main: IpAddr) -> Found {
    let all = devices::addresses()?;
    Ok(all.into_iter().filter(|a| *a != main && leads_somewhere(*a)).take(MAX_ALSO).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_look_begins_while_one_is_under_way_nor_soon_after() {
        let (tell, mut found) = mpsc::unbounded_channel();
        let mut looks = Looks::new(tell);
        let main = IpAddr::from([192, 0, 2, 1]);
        for now in [0, 2 * LOOK_MS, 10 * LOOK_MS] {
            looks.begin_if_due(Time(now), main);
        }
        assert!(found.recv().await.is_some_and(|found| found.is_ok()));
        looks.ended(Time(10 * LOOK_MS));
        looks.begin_if_due(Time(11 * LOOK_MS - 1), main);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(200), found.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        looks.begin_if_due(Time(11 * LOOK_MS), main);
        assert!(found.recv().await.is_some());
    }
}
