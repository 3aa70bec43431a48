use super::*;
use futures_util::task::noop_waker_ref;

fn room(queue: &Queue) -> usize {
    queue.room(usize::MAX, &Context::from_waker(noop_waker_ref()))
}

/// Lets `count` streams take all they may and keep it.
fn stuck(account: &Account, count: usize) -> Vec<(Arc<Queue>, Vec<Piece>)> {
    let mut streams: Vec<_> = (0..count)
        .map(|_| (Queue::new(account.clone()), Vec::new()))
        .collect();
    // Several turns: what is left changes with what the others take.
    for _ in 0..20 {
        for (queue, held) in &mut streams {
            let bytes = room(queue).min(4096);
            if bytes > 0 {
                held.push(Piece::of(queue, vec![0; bytes].into()));
            }
        }
    }
    streams
}

#[test]
fn the_more_streams_are_stuck_the_less_each_holds_and_others_have_room() {
    let budget = Budget::new(8 << 20);
    let (hog, other) = (budget.account(), budget.account());
    let held = stuck(&hog, 100);
    assert!(!hog.is_exhausted(), "{} of {}", budget.queued(), budget.limit());
    assert!(budget.queued() <= budget.limit() / 2);
    assert!(room(&Queue::new(other.clone())) > 2 * LEAST);

    let more = stuck(&hog, 200);
    assert!(hog.is_exhausted() && !other.is_exhausted());
    assert!(budget.queued() <= budget.limit() / 2 + 300 * LEAST);
    assert_eq!(room(&Queue::new(hog.clone())), LEAST, "nobody starves");
    // What is left is shared with whoever comes.
    assert!(other.room() > 1 << 20);
    drop((held, more));
    assert_eq!(budget.queued(), 0);
    assert_eq!(room(&Queue::new(hog)), budget.limit() / PART);
}

#[test]
fn whoever_waits_is_woken_when_its_own_bytes_have_gone() {
    use std::sync::atomic::AtomicBool;
    use std::task::{Wake, Waker};
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let queue = Queue::new(Budget::new(LEAST).account());
    let mut piece = Piece::of(&queue, vec![0; LEAST].into());
    assert_eq!(queue.room(1, &Context::from_waker(&waker)), 0);
    piece.advance(LEAST - 1);
    assert!(!flag.0.load(Ordering::SeqCst));
    drop(piece);
    assert!(flag.0.load(Ordering::SeqCst));
}

#[test]
fn a_window_grows_when_that_is_worth_it_and_there_is_room() {
    let full = 2 * FIRST_WINDOW;
    let budget = Budget::new(FIRST_WINDOW as usize * 3 / 2);
    let grow = |account: Option<Account>| GrowingWindow::new(account, full);
    let (mut first, mut second) = (grow(Some(budget.account())), grow(Some(budget.account())));
    assert_eq!(first.first(), FIRST_WINDOW);
    assert_eq!(first.grown(WORTH_A_WINDOW - 1), None);
    assert_eq!(first.grown(WORTH_A_WINDOW), Some(full));
    assert_eq!(first.grown(2 * WORTH_A_WINDOW), None);
    assert_eq!(budget.promised(), FIRST_WINDOW as usize);
    assert_eq!(second.grown(WORTH_A_WINDOW), None);
    drop(first);
    assert_eq!(second.grown(WORTH_A_WINDOW), Some(full));

    let exhausted = budget.account();
    let _held = Piece::of(&Queue::new(exhausted.clone()), vec![0; 1 << 20].into());
    assert_eq!(grow(Some(exhausted)).grown(WORTH_A_WINDOW), None);
    assert_eq!(grow(None).first(), full);
    assert_eq!(GrowingWindow::new(Some(budget.account()), 65_535).first(), 65_535);
}
