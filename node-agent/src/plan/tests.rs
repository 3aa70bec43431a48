use super::*;

const GRACE: Duration = Duration::from_secs(30);

fn actual(annotation: Annotation, rules: Rules, service: Service) -> Actual {
    Actual {
        annotation,
        rules,
        service,
    }
}

/// Does what a step says, as if everything worked at once.
fn done(actual: Actual, step: Step, now: Instant) -> Actual {
    match step {
        Step::InspectRules => Actual {
            rules: Rules::Absent,
            ..actual
        },
        Step::InstallRules => Actual {
            rules: Rules::Installed,
            ..actual
        },
        Step::Annotate(annotation) => Actual { annotation, ..actual },
        Step::Serve => Actual {
            service: Service::Asked,
            ..actual
        },
        Step::AwaitProxy => Actual {
            service: Service::Serving,
            ..actual
        },
        Step::StopRedirecting => Actual {
            rules: Rules::Draining {
                since: now,
                proxy_told: None,
            },
            ..actual
        },
        Step::StopServing => Actual {
            service: Service::None,
            rules: match actual.rules {
                Rules::Draining { since, .. } => Rules::Draining {
                    since,
                    proxy_told: Some(now),
                },
                other => other,
            },
            ..actual
        },
        Step::RemoveRules => Actual {
            rules: Rules::Absent,
            ..actual
        },
        Step::WaitUntil(_) | Step::Settled => actual,
    }
}

/// The steps from here to the end, and the time they take.
fn path(goal: Goal, mut actual: Actual) -> (Vec<Step>, Duration, Actual) {
    let start = Instant::now();
    let mut now = start;
    let mut steps = Vec::new();
    for _ in 0..20 {
        let step = next(goal, actual, GRACE, now);
        match step {
            Step::Settled => return (steps, now - start, actual),
            Step::WaitUntil(moment) => {
                assert!(moment > now);
                now = moment;
                continue;
            }
            _ => {}
        }
        actual = done(actual, step, now);
        steps.push(step);
    }
    panic!("{goal:?} never settles: {steps:?}");
}

#[test]
fn enrolment_in_order() {
    let (steps, time, end) = path(
        Goal::Enrolled,
        actual(Annotation::None, Rules::Absent, Service::None),
    );
    assert_eq!(
        steps,
        [
            Step::InstallRules,
            Step::Annotate(Annotation::Pending),
            Step::Serve,
            Step::AwaitProxy,
            Step::Annotate(Annotation::Enabled)
        ]
    );
    assert_eq!(time, Duration::ZERO);
    assert_eq!(
        end,
        actual(Annotation::Enabled, Rules::Installed, Service::Serving)
    );
}

#[test]
fn unenrolment_in_order_and_time() {
    let (steps, time, end) = path(
        Goal::Direct,
        actual(Annotation::Enabled, Rules::Installed, Service::Serving),
    );
    assert_eq!(
        steps,
        [
            Step::Annotate(Annotation::None),
            Step::StopRedirecting,
            Step::StopServing,
            Step::RemoveRules
        ]
    );
    assert_eq!(time, SETTLE_TIME + GRACE);
    assert_eq!(end, actual(Annotation::None, Rules::Absent, Service::None));
}

#[test]
fn an_end_needs_no_rules_removed() {
    let enrolled = actual(Annotation::Enabled, Rules::Installed, Service::Serving);
    let (steps, time, _) = path(Goal::Gone, enrolled);
    assert_eq!(steps, [Step::StopServing, Step::Annotate(Annotation::None)]);
    assert_eq!(time, Duration::ZERO);
    let (steps, ..) = path(
        Goal::Gone,
        actual(Annotation::None, Rules::Unknown, Service::None),
    );
    assert_eq!(steps, []);
}

#[test]
fn the_proxy_is_never_told_enabled_before_it_serves() {
    for service in [Service::None, Service::Asked, Service::Failed] {
        for annotation in [Annotation::None, Annotation::Pending, Annotation::Enabled] {
            let step = next(
                Goal::Enrolled,
                actual(annotation, Rules::Installed, service),
                GRACE,
                Instant::now(),
            );
            assert_ne!(step, Step::Annotate(Annotation::Enabled));
            assert_ne!(step, Step::Settled);
        }
    }
}

#[test]
fn table() {
    use {Annotation as A, Rules as R, Service as S};
    let now = Instant::now();
    let before = |time: Duration| now.checked_sub(time).unwrap();
    let draining = |since: Duration, told: Option<Duration>| R::Draining {
        since: before(since),
        proxy_told: told.map(before),
    };
    let short = Duration::from_millis(10);
    let cases = [
        // A proxy that refuses is asked again; one that is silent is waited for.
        (
            Goal::Enrolled,
            actual(A::Pending, R::Installed, S::Failed),
            Step::Serve,
        ),
        (
            Goal::Enrolled,
            actual(A::Enabled, R::Installed, S::Asked),
            Step::AwaitProxy,
        ),
        // After a restart the rules are looked at before anything else, whatever the annotation says.
        (
            Goal::Enrolled,
            actual(A::Enabled, R::Unknown, S::Serving),
            Step::InstallRules,
        ),
        (
            Goal::Direct,
            actual(A::None, R::Unknown, S::None),
            Step::InspectRules,
        ),
        (
            Goal::Direct,
            actual(A::Enabled, R::Unknown, S::Asked),
            Step::Annotate(A::None),
        ),
        // A change of mind, early and late.
        (
            Goal::Enrolled,
            actual(A::None, draining(short, None), S::Serving),
            Step::InstallRules,
        ),
        (
            Goal::Enrolled,
            actual(A::None, R::Installed, S::Serving),
            Step::Annotate(A::Pending),
        ),
        (
            Goal::Enrolled,
            actual(A::None, draining(GRACE, Some(short)), S::None),
            Step::InstallRules,
        ),
        (
            Goal::Direct,
            actual(A::Pending, R::Installed, S::Asked),
            Step::Annotate(A::None),
        ),
        // Waiting, and its end.
        (
            Goal::Direct,
            actual(A::None, draining(short, None), S::Serving),
            Step::WaitUntil(before(short) + SETTLE_TIME),
        ),
        (
            Goal::Direct,
            actual(A::None, draining(SETTLE_TIME, None), S::Serving),
            Step::StopServing,
        ),
        (
            Goal::Direct,
            actual(A::None, draining(GRACE * 2, Some(short)), S::None),
            Step::WaitUntil(before(short) + GRACE),
        ),
        (
            Goal::Direct,
            actual(A::None, draining(GRACE * 2, Some(GRACE)), S::None),
            Step::RemoveRules,
        ),
        (
            Goal::Direct,
            actual(A::None, draining(short, None), S::None),
            Step::WaitUntil(before(short) + GRACE),
        ),
        // The namespace went away while the proxy was still serving.
        (
            Goal::Direct,
            actual(A::None, R::Absent, S::Serving),
            Step::StopServing,
        ),
        (Goal::Direct, actual(A::None, R::Absent, S::None), Step::Settled),
        (
            Goal::Enrolled,
            actual(A::Enabled, R::Installed, S::Serving),
            Step::Settled,
        ),
    ];
    for (goal, actual, step) in cases {
        assert_eq!(next(goal, actual, GRACE, now), step, "{goal:?} {actual:?}");
    }
}

#[test]
fn every_situation_settles_for_every_goal() {
    let now = Instant::now();
    let draining = |proxy_told| Rules::Draining {
        since: now,
        proxy_told,
    };
    let all_rules = [
        Rules::Unknown,
        Rules::Absent,
        Rules::Installed,
        draining(None),
        draining(Some(now)),
    ];
    for goal in [Goal::Enrolled, Goal::Direct, Goal::Gone] {
        for annotation in [Annotation::None, Annotation::Pending, Annotation::Enabled] {
            for rules in all_rules {
                for service in [Service::None, Service::Asked, Service::Serving, Service::Failed] {
                    let (.., end) = path(goal, actual(annotation, rules, service));
                    match goal {
                        Goal::Enrolled => assert_eq!(
                            end,
                            actual(Annotation::Enabled, Rules::Installed, Service::Serving)
                        ),
                        Goal::Direct => {
                            assert_eq!(end, actual(Annotation::None, Rules::Absent, Service::None));
                        }
                        Goal::Gone => {
                            assert_eq!((end.annotation, end.service), (Annotation::None, Service::None));
                        }
                    }
                }
            }
        }
    }
}
