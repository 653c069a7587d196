//! A report that fits a frame.

use squall_core::message::Report;
use squall_wire::codec;
use squall_wire::transport::MAX_AGENT_FRAME;

/// Bytes that [`FromAgent`](squall_core::message::FromAgent) puts around a report, at most.
const AROUND: usize = 16;

/// What the report goes without, and how.
type Cut<'a> = (&'static str, &'a dyn Fn(&mut Report));

/// The report, cut to what a coordinator takes in one frame. A host seldom comes near it. First go
/// the views of others, then what probes have seen, then faults from the end: those are over, and
/// come with a later report once a leader has acknowledged others. What is alive is listed first and
/// is bounded by [`squall_core::host::MAX_LIVE`].
pub(crate) fn fit(report: Report) -> Report {
    fit_within(report, MAX_AGENT_FRAME)
}

fn fit_within(mut report: Report, limit: usize) -> Report {
    let fits =
        |report: &Report| codec::encode(report).is_ok_and(|bytes| bytes.len() + AROUND <= limit);
    let last_faults = |report: &mut Report| {
        while !report.faults.is_empty() && !fits(report) {
            report.faults.truncate(report.faults.len() / 2);
        }
    };
    let cuts: [Cut<'_>; 3] = [
        ("the views of others", &|report| report.row = None),
        ("what probes have seen", &|report| report.probes.clear()),
        ("the last faults", &last_faults),
    ];
    for (what, cut) in cuts {
        if fits(&report) {
            return report;
        }
        tracing::warn!(
            faults = report.faults.len(),
            "to fit a frame the report goes without {what}"
        );
        cut(&mut report);
    }
    if !fits(&report) {
        tracing::error!("the report fits no frame, whatever it goes without");
    }
    report
}

#[cfg(test)]
mod tests {
    use squall_core::host::Host;
    use squall_core::ids::{AgentRun, ExperimentId, FaultId};
    use squall_core::message::{FaultReport, HostPhase, ProbeReport};
    use squall_core::policy::Policy;
    use squall_core::time::Time;
    use squall_core::views::Row;
    use uuid::Uuid;

    use super::*;

    fn report(faults: u16) -> Report {
        let run = AgentRun(Uuid::nil());
        let me: squall_core::ids::HostName = "h1".parse().unwrap();
        let host = Host::new(me.clone(), run, Policy::default(), &[], true, Time(0));
        let mut report = host.report(Time(0));
        report.row = Some(Row::default());
        report.probes = vec![ProbeReport {
            experiment: ExperimentId(Uuid::nil()),
            name: "p".repeat(5_000),
            stages: Vec::new(),
        }];
        report.faults = (0..faults)
            .map(|fault| FaultReport {
                id: FaultId { experiment: ExperimentId(Uuid::nil()), fault, host: me.clone() },
                kind: None,
                phase: HostPhase::Lost,
                lease_ms: 0,
                remaining_ms: 0,
                in_place_ms: None,
                achieved: None,
                ended: None,
            })
            .collect();
        report
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(fit(report(3)), report(3));
    }

    #[test]
    fn faults_go_last_and_from_the_end() {
        let cut = fit_within(report(4), 3_000);
        assert_eq!((cut.probes.len(), cut.row, cut.faults.len()), (0, None, 4));
        let cut = fit_within(report(1_000), 3_000);
        assert!(!cut.faults.is_empty());
        let first: Vec<u16> = cut.faults.iter().map(|f| f.id.fault).collect();
        assert_eq!(first, (0..first.len() as u16).collect::<Vec<_>>());
    }

    #[test]
    fn what_goes_first_spares_the_rest_and_where_nothing_helps_there_is_an_end() {
        let len = |report: &Report| codec::encode(report).unwrap().len() + AROUND;
        let whole = report(4);
        let without_row = Report { row: None, ..whole.clone() };
        assert_eq!(fit_within(whole.clone(), len(&whole) - 1), without_row);
        let cut = fit_within(whole, 1);
        assert_eq!((cut.probes.len(), cut.row, cut.faults.len()), (0, None, 0));
    }
}
