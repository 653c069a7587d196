//! That the checker can fail, and that it agrees with trying every order.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn op(call: Call, answer: Answer, invoked: u64, returned: u64) -> Op {
    Op { who: "t".into(), call, invoked, returned, answer }
}

fn set(register: usize, value: bool) -> Call {
    Call::Set { register, value, command: uuid::Uuid::nil() }
}

fn saw(bits: u32) -> Answer {
    Answer::Saw { bits, applied: 0 }
}

fn holds(ops: &[Op]) -> bool {
    check(0, ops) == Finding::Linearizable
}

#[test]
fn a_stale_read_is_caught() {
    let write = op(set(0, true), Answer::Changed(1), 0, 10);
    for (bits, invoked, good) in [(0, 5, true), (1, 5, true), (1, 11, true), (0, 11, false)] {
        let read = op(Call::Read, saw(bits), invoked, 20);
        assert_eq!(holds(&[write.clone(), read]), good, "{bits} from {invoked}");
    }
    let two = |first: u32, second: u32| {
        let reads = [op(Call::Read, saw(first), 1, 3), op(Call::Read, saw(second), 4, 6)];
        [&[op(set(0, true), Answer::Changed(1), 0, 10)][..], &reads].concat()
    };
    assert!(holds(&two(0, 1)) && holds(&two(1, 1)) && holds(&two(0, 0)));
    assert!(!holds(&two(1, 0)), "a register that goes back and forth");
}

#[test]
fn a_lost_write_is_caught() {
    let write = op(set(0, true), Answer::Changed(1), 0, 10);
    let again = |answer| op(set(0, true), answer, 20, 30);
    assert!(holds(&[write.clone(), again(Answer::Unchanged)]));
    assert!(!holds(&[write.clone(), again(Answer::Changed(2))]));
    let other = op(Call::Read, saw(0b10), 20, 30);
    assert!(!holds(&[write, other]));
}

#[test]
fn an_unanswered_write_takes_effect_later_or_never_but_not_before_and_not_twice() {
    let lost = op(set(0, true), Answer::Unknown, 10, 20);
    let read = |bits, at| op(Call::Read, saw(bits), at, at + 1);
    assert!(holds(&[lost.clone(), read(0, 30), read(1, 40)]));
    assert!(holds(&[lost.clone(), read(0, 30), read(0, 40)]));
    assert!(!holds(&[lost.clone(), read(1, 5)]));
    let back = op(set(0, false), Answer::Changed(3), 50, 60);
    assert!(holds(&[lost.clone(), read(1, 40), back.clone(), read(0, 70)]));
    assert!(!holds(&[lost, read(1, 40), back, read(0, 70), read(1, 80)]));
}

#[test]
fn a_failed_write_has_no_effect() {
    let failed = op(set(0, true), Answer::Failed, 0, 10);
    assert!(!holds(&[failed, op(Call::Read, saw(1), 20, 30)]));
}

#[test]
fn two_who_both_changed_it_are_caught() {
    let both =
        [op(set(3, true), Answer::Changed(1), 0, 10), op(set(3, true), Answer::Changed(2), 5, 12)];
    assert!(!holds(&both) && holds(&both[1..]));
}

#[test]
fn places_in_the_log_follow_time() {
    let change =
        |n, place, invoked, returned| op(set(n, true), Answer::Changed(place), invoked, returned);
    assert!(holds(&[change(0, 1, 0, 10), change(1, 2, 5, 8)]));
    assert!(holds(&[change(0, 2, 0, 10), change(1, 1, 5, 8)]));
    assert!(!holds(&[change(0, 2, 0, 10), change(1, 1, 11, 12)]));
    // Not only neighbours: the third had ended when the first began.
    assert!(!holds(&[change(0, 1, 20, 30), change(1, 2, 5, 25), change(2, 3, 0, 10)]));
}

#[test]
fn a_place_belongs_to_one_change_and_a_read_is_not_behind_it() {
    let change =
        |place, invoked, returned| op(set(0, true), Answer::Changed(place), invoked, returned);
    let read =
        |applied, invoked| op(Call::Read, Answer::Saw { bits: 0, applied }, invoked, invoked + 1);
    assert_eq!(check_places(&[change(1, 0, 10), change(2, 5, 8), read(2, 11), read(1, 4)]), Ok(()));
    assert!(check_places(&[change(2, 0, 10), change(2, 5, 12)]).is_err());
    assert!(check_places(&[change(2, 0, 10), read(1, 11)]).is_err());
}

/// Every order of every subset that holds all answered calls, one after the other.
fn by_force(bits: u32, left: &[Op]) -> bool {
    if !left.iter().any(Op::is_answered) {
        return true;
    }
    let ends = left.iter().filter(|o| o.is_answered()).map(|o| o.returned).min();
    (0..left.len()).any(|at| {
        let op = &left[at];
        if op.answer == Answer::Failed || ends.is_some_and(|end| end < op.invoked) {
            return false;
        }
        if let Answer::Changed(place) = op.answer
            && left.iter().any(|o| matches!(o.answer, Answer::Changed(p) if p < place))
        {
            return false;
        }
        let next = match (op.call, op.answer) {
            (Call::Read, Answer::Saw { bits: seen, .. }) => (seen == bits).then_some(bits),
            (Call::Set { register, value, .. }, answer) => {
                let differs = is_set(bits, register) != value;
                let fits = match answer {
                    Answer::Changed(_) => differs,
                    Answer::Unchanged => !differs,
                    _ => true,
                };
                fits.then_some(if differs { bits ^ 1 << register } else { bits })
            }
            (Call::Read, _) => None,
        };
        let rest = [&left[..at], &left[at + 1..]].concat();
        next.is_some_and(|bits| by_force(bits, &rest))
    })
}

#[test]
fn it_agrees_with_trying_every_order() {
    let mut random = StdRng::seed_from_u64(7);
    let mut held = 0;
    let rounds = 20_000;
    for round in 0..rounds {
        let ops: Vec<Op> = (0..random.random_range(2..7))
            .map(|_| {
                let invoked = random.random_range(0..12);
                let returned = invoked + random.random_range(0..8);
                if random.random_bool(0.4) {
                    return op(Call::Read, saw(random.random_range(0..4)), invoked, returned);
                }
                let answer = match random.random_range(0..5) {
                    0 | 1 => Answer::Changed(random.random_range(0..4)),
                    2 | 3 => Answer::Unchanged,
                    _ => Answer::Unknown,
                };
                op(set(random.random_range(0..2), random.random()), answer, invoked, returned)
            })
            .collect();
        let expected = by_force(0, &ops);
        assert_eq!(holds(&ops), expected, "round {round}: {ops:#?}");
        held += u32::from(expected);
    }
    assert!(held > rounds / 20 && held < rounds - rounds / 20, "{held} of {rounds} hold");
}
