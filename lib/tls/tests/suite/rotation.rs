//! An authority that exchanges its root, seen by two processes with two identities each.

use std::sync::Arc;
use std::time::SystemTime;

use ca::Authority;
use mesh::Identity;
use tls::rotation::{LINGER, RootRotation};
use tls::{CompliancePolicy, ConfigCache, HandshakeError, KeyAndRequest, Roots, Trust, WorkloadCertificate};
use tokio::io::duplex;

use crate::support::{HOUR, authority, id};

/// What one authority answers at a time: who signs, and which roots it tells.
struct Answers<'a> {
    signer: &'a Authority,
    roots: &'a [&'a Authority],
}

struct Process {
    rotation: RootRotation,
    configs: ConfigCache,
    held: Vec<(Identity, Option<WorkloadCertificate>)>,
}

impl Process {
    fn new(accounts: &[&str]) -> Self {
        Self {
            rotation: RootRotation::new(),
            configs: ConfigCache::with(Trust::default(), CompliancePolicy::None),
            held: accounts.iter().map(|account| (id(account), None)).collect(),
        }
    }

    /// Renews one certificate; returns who is to renew early.
    fn renew(&mut self, number: usize, answers: &Answers<'_>) -> Vec<Identity> {
        let (identity, held) = &mut self.held[number];
        let now = SystemTime::now();
        let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(identity).unwrap();
        let signed = answers.signer.sign(&request_pem, identity, HOUR, now);
        let mut chain = signed.unwrap().chain;
        *chain.last_mut().unwrap() = answers.roots.iter().map(|root| root.root_pem()).collect();
        let certificate = WorkloadCertificate::from_pem(&chain, &key, identity).unwrap();
        let outcome = self.rotation.on_certificate(now, &certificate, || 0);
        *held = Some(certificate);
        self.apply(outcome.trusted);
        outcome.renew.into_iter().map(|(identity, _)| identity).collect()
    }

    fn apply(&self, trusted: Option<Roots>) {
        if let Some(roots) = trusted {
            self.configs.trust().set_roots(roots);
        }
    }
}

async fn meet(client: (&Process, usize), server: (&Process, usize)) -> Result<(), HandshakeError> {
    let held = |(process, number): (&Process, usize)| process.held[number].1.clone().unwrap();
    let accepted = [server.0.held[server.1].0.clone()];
    let from = client.0.configs.client(&held(client), &accepted);
    let to = server.0.configs.server(&held(server));
    let (a, b) = duplex(1 << 16);
    let (one, other) = tokio::join!(tls::connect(a, &from), tls::accept(b, &to));
    match (one.map(|_| ()), other.map(|_| ())) {
        // Where both refuse, one of them only hears of it.
        (Err(HandshakeError::PeerAlert(_)), Err(reason)) | (Err(reason), _) | (Ok(()), Err(reason)) => {
            Err(reason)
        }
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Everybody with everybody.
async fn all_meet(processes: &[Process]) -> Result<(), String> {
    for client in processes {
        for server in processes {
            for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                meet((client, from), (server, to))
                    .await
                    .map_err(|error| format!("{} to {}: {error}", client.held[from].0, server.held[to].0))?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn adding_a_root_signing_with_it_and_removing_the_old_refuses_nobody() {
    let (old, new) = (authority(), authority());
    let phases = [
        Answers {
            signer: &old,
            roots: &[&old],
        },
        Answers {
            signer: &old,
            roots: &[&old, &new],
        },
        Answers {
            signer: &new,
            roots: &[&old, &new],
        },
        Answers {
            signer: &new,
            roots: &[&new],
        },
    ];
    let mut processes = [Process::new(&["a", "b"]), Process::new(&["c", "d"])];
    for (phase, answers) in phases.iter().enumerate() {
        // In another order in each phase, so that old and new certificates meet.
        for turn in 0..4 {
            let which = (turn + phase) % 4;
            processes[which / 2].renew(which % 2, answers);
            if phase > 0 {
                all_meet(&processes)
                    .await
                    .unwrap_or_else(|error| panic!("phase {phase}, renewal {turn}: {error}"));
            }
        }
    }
    for process in &processes {
        assert_eq!(
            process.rotation.trusted(),
            Some(&Roots::from_pem(&new.root_pem()).unwrap()),
            "the old root is gone"
        );
    }
}

#[tokio::test]
async fn one_renewal_brings_a_new_root_to_every_identity_of_the_process() {
    let (old, new) = (authority(), authority());
    let mut here = Process::new(&["a", "b"]);
    let mut there = Process::new(&["c", "d"]);
    let before = Answers {
        signer: &old,
        roots: &[&old],
    };
    for number in [0, 1] {
        here.renew(number, &before);
        there.renew(number, &before);
    }
    here.renew(
        0,
        &Answers {
            signer: &old,
            roots: &[&old, &new],
        },
    );
    there.renew(
        0,
        &Answers {
            signer: &new,
            roots: &[&old, &new],
        },
    );
    // b has not been issued anew, and yet believes c; its configuration is the one from before.
    assert_eq!(meet((&there, 0), (&here, 1)).await, Ok(()));
    assert_eq!(meet((&here, 1), (&there, 0)).await, Ok(()));
}

#[tokio::test]
async fn a_root_that_is_dropped_at_once_hurries_the_renewals_and_ends_with_them() {
    let (old, new) = (authority(), authority());
    let mut here = Process::new(&["a", "b"]);
    let mut there = Process::new(&["c", "d"]);
    for number in [0, 1] {
        here.renew(
            number,
            &Answers {
                signer: &old,
                roots: &[&old],
            },
        );
        there.renew(
            number,
            &Answers {
                signer: &old,
                roots: &[&old],
            },
        );
    }
    let answers = Answers {
        signer: &new,
        roots: &[&new],
    };
    assert_eq!(
        here.renew(0, &answers),
        vec![id("b")],
        "it leads to no root of the newest answer"
    );
    // The other process is not told yet: it is believed while b's answer carries the old root.
    assert_eq!(meet((&there, 0), (&here, 1)).await, Ok(()));
    assert!(here.renew(1, &answers).is_empty());
    assert_eq!(
        meet((&there, 0), (&here, 1)).await,
        Err(HandshakeError::UntrustedIssuer)
    );
    for number in [0, 1] {
        there.renew(number, &answers);
    }
    let both = Arc::new([here, there]);
    all_meet(&both[..]).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_falls_silent_does_not_keep_a_dropped_root_alive() {
    let (old, new) = (authority(), authority());
    let mut here = Process::new(&["a", "b"]);
    let mut there = Process::new(&["c", "d"]);
    there.renew(
        0,
        &Answers {
            signer: &old,
            roots: &[&old],
        },
    );
    here.renew(
        1,
        &Answers {
            signer: &old,
            roots: &[&old],
        },
    );
    here.renew(
        0,
        &Answers {
            signer: &new,
            roots: &[&new],
        },
    );
    assert!(meet((&there, 0), (&here, 1)).await.is_ok());
    let outcome = here.rotation.tick(SystemTime::now() + LINGER);
    here.apply(outcome.trusted);
    assert_eq!(
        meet((&there, 0), (&here, 1)).await,
        Err(HandshakeError::UntrustedIssuer)
    );
}
