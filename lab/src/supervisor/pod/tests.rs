use super::*;
use crate::supervisor::runner::Ended;

#[test]
fn addresses_are_reused_only_after_all_others() {
    let mut indices = Indices::default();
    let first = indices.take().unwrap();
    assert_eq!(first, 2);
    indices.give_back(first);
    let all: Vec<u16> = (0..253).map(|_| indices.take().unwrap()).collect();
    assert_eq!((all[0], all[251], all[252]), (3, 254, 2));
    assert_eq!(indices.take(), None);
    indices.give_back(100);
    assert_eq!(indices.take(), Some(100));
}

#[test]
fn the_phase_follows_the_processes() {
    let run = |state| Run { state, restarts: 0 };
    let running = || {
        run(RunState::Running {
            pid: 2,
            start_time: 1,
        })
    };
    let fresh = || run(RunState::Waiting { last: None });
    let ended = |code| Ended {
        code,
        text: String::new(),
    };
    let over = |code| run(RunState::Ended(ended(code)));
    let crashed = || run(RunState::Waiting { last: Some(ended(1)) });
    for (runs, more, phase) in [
        (vec![], true, "Pending"),
        (vec![fresh()], false, "Pending"),
        (vec![running()], false, "Running"),
        (vec![running(), fresh()], false, "Pending"),
        (vec![running()], true, "Pending"),
        (vec![crashed()], false, "Running"),
        (vec![over(0)], false, "Succeeded"),
        (vec![over(0), over(3)], false, "Failed"),
        (vec![over(0), running()], false, "Running"),
    ] {
        assert_eq!(phase_of(&runs, more), phase, "{runs:?}");
    }
}
