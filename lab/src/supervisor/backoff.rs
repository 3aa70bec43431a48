use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(20);
/// A process that ran so long counts as healthy: its next death begins a new count.
const HEALTHY: Duration = Duration::from_secs(30);

/// How long to wait before a process that died is started again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a process died that had run for so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.deaths = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.deaths.min(16)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        wait
    }

    /// Somebody asked for the restart: it is not the process' fault.
    pub(super) fn forgive(&mut self) {
        self.deaths = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_a_healthy_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<u128> = (0..4).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600]);
        for _ in 0..100 {
            backoff.after(short);
        }
        assert_eq!(backoff.after(short), LONGEST);
        assert_eq!(backoff.after(HEALTHY), FIRST);
    }
}
