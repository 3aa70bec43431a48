//! Random lives of a mesh: at no moment may there be a certificate in use that somebody in the mesh does not trust.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The longest that a certificate lives here.
const LIFE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(20);
const NODES: usize = 5;
const IDENTITIES: usize = 3;

type Root = u32;

/// What a replica of the authority signs with.
#[derive(Clone)]
struct Material {
    generation: u64,
    signer: Root,
    next: Option<Root>,
    bundle: BTreeSet<Root>,
}

struct Replica {
    /// Its key among the reports.
    name: u64,
    material: Material,
    rotation: Rotation,
    /// Since when it has not looked at what is kept.
    stale_since: Option<SystemTime>,
}

#[derive(Clone)]
struct Certificate {
    signer: Root,
    roots: BTreeSet<Root>,
    not_after: SystemTime,
    /// It arrived after the bundle in force.
    is_later: bool,
    number: u64,
}

struct Node {
    /// Whether it subscribes to bundles.
    ours: bool,
    bundle: Option<(u64, BTreeSet<Root>)>,
    certificates: Vec<Option<Certificate>>,
    away_until: SystemTime,
    /// When it asks again for what was lost, by identity.
    lost: Vec<Option<SystemTime>>,
}

struct World {
    random: Random,
    now: SystemTime,
    settings: RotationSettings,
    kept: (Material, RotationState),
    /// What replicas tell each other, where they do.
    reports: Option<BTreeMap<String, String>>,
    replicas: Vec<Replica>,
    nodes: Vec<Node>,
    roots: Root,
    issued: u64,
    dropped: u32,
    aborted: u32,
    by_acknowledgement: u32,
    /// Steps by what replicas told each other, long before everything must have expired.
    shared: u32,
    processes: u64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }

    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let settings = RotationSettings {
            pause: PAUSE,
            alone: !random.one_in(2),
        };
        let now = start();
        let first = Rotation::fresh(now, settings);
        let material = Material {
            generation: first.state().generation,
            signer: 0,
            next: None,
            bundle: BTreeSet::from([0]),
        };
        let kept = (material.clone(), first.state().clone());
        let mut replicas = vec![Replica {
            name: 0,
            material: material.clone(),
            rotation: first,
            stale_since: None,
        }];
        if !settings.alone {
            let mut rotation = Rotation::resumed(kept.1.clone(), now, settings);
            rotation.vouched_for(now, Duration::ZERO);
            replicas.push(Replica {
                name: 1,
                rotation,
                material,
                stale_since: None,
            });
        }
        let nodes = (0..NODES).map(|_| Node {
            ours: !random.one_in(3),
            bundle: None,
            certificates: vec![None; IDENTITIES],
            away_until: now,
            lost: vec![None; IDENTITIES],
        });
        let nodes = nodes.collect();
        let reports = (!settings.alone && !random.one_in(4)).then(BTreeMap::new);
        let mut world = Self {
            random,
            now,
            settings,
            kept,
            reports,
            replicas,
            nodes,
            roots: 1,
            issued: 0,
            dropped: 0,
            aborted: 0,
            by_acknowledgement: 0,
            shared: 0,
            processes: 2,
        };
        for index in 0..world.replicas.len() {
            world.tell(index, false);
        }
        world
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(6000));
        self.keep_up();
        match self.random.below(100) {
            // A request, a change of mind.
            0..3 => drop(self.replicas[0].rotation.request(self.now)),
            3 => drop(self.replicas[0].rotation.abort()),
            // The process ends, and another begins; or another replica leads.
            4 => {
                let which = self.random.index(self.replicas.len());
                self.restart(which);
            }
            5 => self.replicas.rotate_left(1),
            // A node is cut off for a while, perhaps for longer than its certificates live.
            6..9 => {
                let node = self.random.index(NODES);
                let longest = if self.random.one_in(4) { 900 } else { 60 };
                self.nodes[node].away_until = self.now + Duration::from_secs(self.random.below(longest));
            }
            9..20 => self.deliver_bundle(),
            _ => {}
        }
        self.renew();
        for index in 0..self.replicas.len() {
            if self.random.one_in(4) {
                self.tell(index, false);
            }
        }
        self.lead();
    }

    /// A process ends, sometimes in good order, and another takes its place: it tells of itself before it reads what is kept.
    fn restart(&mut self, which: usize) {
        if !self.random.one_in(4) {
            self.tell(which, true);
        }
        let replica = &mut self.replicas[which];
        replica.name = self.processes;
        self.processes += 1;
        replica.rotation = Rotation::resumed(self.kept.1.clone(), self.now, self.settings);
        replica.material = self.kept.0.clone();
        replica.stale_since = None;
        if self.reports.is_some() {
            replica.rotation.vouched_for(start(), Duration::ZERO);
        }
        self.tell(which, false);
    }

    fn tell(&mut self, index: usize, ended: bool) {
        let Some(reports) = &mut self.reports else { return };
        let replica = &self.replicas[index];
        let report = replica.rotation.report(self.now, ended);
        let room = if self.random.one_in(3) { 700 } else { usize::MAX };
        reports.insert(replica.name.to_string(), report.to_text(room));
    }

    /// The leader reads what all others tell, and takes out what does not matter any more.
    fn hear(&mut self) {
        let Some(reports) = &mut self.reports else { return };
        let leader = &mut self.replicas[0];
        let longest = leader.rotation.longest_silence();
        let own = leader.name.to_string();
        reports.retain(|name, text| {
            *name == own || !Report::from_text(text).unwrap().is_spent(self.now, longest)
        });
        let others = reports.iter().filter(|(name, _)| **name != own);
        let others = others.map(|(name, text)| (name.clone(), Report::from_text(text).ok()));
        leader.rotation.told(others.collect());
    }

    /// Replicas take over what is kept, within the pause.
    fn keep_up(&mut self) {
        for index in 0..self.replicas.len() {
            let replica = &mut self.replicas[index];
            if replica.material.generation == self.kept.0.generation {
                replica.stale_since = None;
                continue;
            }
            let since = *replica.stale_since.get_or_insert(self.now);
            // The model's clock makes steps of up to 6 s.
            let late = self.now + Duration::from_secs(6) >= since + PAUSE - Duration::from_secs(6);
            if late || self.random.one_in(3) {
                replica.material = self.kept.0.clone();
                replica.rotation.reached(self.kept.1.clone());
                replica.stale_since = None;
            }
        }
    }

    /// The first replica is the leader. It writes down what it does before anybody sees it.
    fn lead(&mut self) {
        let leader = &mut self.replicas[0];
        if leader.material.generation != self.kept.0.generation {
            return;
        }
        self.hear();
        let leader = &mut self.replicas[0];
        self.kept.1.longest_life = leader.rotation.state().longest_life.max(self.kept.1.longest_life);
        let Some(step) = leader.rotation.next(self.now, young()) else {
            return;
        };
        let state = leader.rotation.after(step, self.now);
        let mut material = leader.material.clone();
        material.generation = state.generation;
        let unacknowledged = state.since.duration_since(leader.rotation.state().since);
        match step {
            Step::Introduce => {
                material.next = Some(self.roots);
                material.bundle.insert(self.roots);
                self.roots += 1;
            }
            Step::Switch => {
                self.by_acknowledgement += u32::from(unacknowledged.unwrap() < LIFE / 2);
                material.signer = material.next.take().unwrap();
            }
            Step::Drop => {
                material.bundle = BTreeSet::from([material.signer]);
                let is_quick = unacknowledged.as_ref().is_ok_and(|passed| *passed < LIFE);
                self.shared += u32::from(self.reports.is_some() && is_quick);
                self.dropped += 1;
            }
            Step::Abort => {
                let given_up = material.next.take().unwrap();
                material.bundle.remove(&given_up);
                self.aborted += 1;
            }
        }
        leader.rotation.reached(state.clone());
        leader.material = material.clone();
        self.kept = (material, state);
    }

    fn deliver_bundle(&mut self) {
        let (node, replica) = (self.random.index(NODES), self.random.index(self.replicas.len()));
        let (node_state, replica) = (&mut self.nodes[node], &mut self.replicas[replica]);
        if !node_state.ours || self.now < node_state.away_until {
            return;
        }
        let (generation, bundle) = (replica.material.generation, replica.material.bundle.clone());
        if let Some((held, _)) = &node_state.bundle
            && generation < *held
        {
            return;
        }
        if node_state.bundle.as_ref().map(|(held, _)| *held) != Some(generation) {
            node_state.bundle = Some((generation, bundle));
            for certificate in node_state.certificates.iter_mut().flatten() {
                certificate.is_later = false;
            }
        }
        replica
            .rotation
            .acknowledged(&holder(&node.to_string()), generation);
    }

    /// Nodes ask at half life; some answers are lost, and asked for again.
    fn renew(&mut self) {
        for node in 0..NODES {
            for identity in 0..IDENTITIES {
                if self.now < self.nodes[node].away_until {
                    continue;
                }
                let is_due = match (
                    &self.nodes[node].certificates[identity],
                    self.nodes[node].lost[identity],
                ) {
                    (_, Some(again)) => self.now >= again,
                    (None, None) => self.random.one_in(8),
                    (Some(held), None) => {
                        let left = held.not_after.duration_since(self.now).unwrap_or_default();
                        left < LIFE / 2 && self.random.one_in(3)
                    }
                };
                if is_due {
                    self.ask(node, identity);
                }
            }
        }
    }

    fn ask(&mut self, node: usize, identity: usize) {
        let which = self.random.index(self.replicas.len());
        let replica = &mut self.replicas[which];
        let life = LIFE - Duration::from_secs(self.random.below(100));
        let not_after = self.now + life;
        replica.rotation.issued(
            self.now,
            &holder(&node.to_string()),
            &id(&identity.to_string()),
            replica.material.generation,
            not_after,
        );
        let longest = replica.rotation.state().longest_life;
        self.kept.1.longest_life = self.kept.1.longest_life.max(longest);
        let (signer, roots) = (replica.material.signer, replica.material.bundle.clone());
        self.issued += 1;
        if self.random.one_in(10) {
            self.nodes[node].lost[identity] = Some(self.now + Duration::from_secs(self.random.below(6)));
            return;
        }
        self.nodes[node].lost[identity] = None;
        self.nodes[node].certificates[identity] = Some(Certificate {
            signer,
            roots,
            not_after,
            is_later: true,
            number: self.issued,
        });
    }

    fn check(&self) {
        let shown: BTreeSet<Root> = self
            .nodes
            .iter()
            .flat_map(|node| node.certificates.iter().flatten())
            .filter(|certificate| self.now < certificate.not_after)
            .map(|certificate| certificate.signer)
            .collect();
        for (number, node) in self.nodes.iter().enumerate() {
            for (identity, own) in node.certificates.iter().enumerate() {
                let Some(own) = own.as_ref().filter(|own| self.now < own.not_after) else {
                    continue;
                };
                let trusted = node.trusts(own);
                assert!(
                    shown.is_subset(&trusted),
                    "node {number} (ours: {}), identity {identity}: trusts {trusted:?}, but {shown:?} are in use; {:?}",
                    node.ours,
                    self.kept.1
                );
            }
        }
    }
}

impl Node {
    /// What is certainly trusted by whoever uses `own`: a foreign proxy goes by each certificate's own roots.
    fn trusts(&self, own: &Certificate) -> BTreeSet<Root> {
        if !self.ours {
            return own.roots.clone();
        }
        let held = || self.certificates.iter().flatten();
        match &self.bundle {
            Some((_, bundle)) => {
                let later = held().filter(|one| one.is_later).flat_map(|one| &one.roots);
                bundle.iter().chain(later).copied().collect()
            }
            None => held()
                .max_by_key(|one| one.number)
                .map(|newest| newest.roots.clone())
                .unwrap_or_default(),
        }
    }
}

#[test]
fn at_no_moment_does_anybody_meet_a_certificate_that_it_does_not_trust() {
    let seed = std::env::var("ROTATION_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    println!("ROTATION_SEED={seed}");
    let (mut dropped, mut aborted, mut quick, mut shared) = (0, 0, 0, 0);
    for run in 0..60 {
        let mut world = World::new(seed.wrapping_add(run));
        for step in 0..1500 {
            world.step();
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
            if let Err(reason) = checked {
                println!("in step {step} of ROTATION_SEED={}", seed.wrapping_add(run));
                std::panic::resume_unwind(reason);
            }
        }
        dropped += world.dropped;
        aborted += world.aborted;
        quick += world.by_acknowledgement;
        shared += world.shared;
    }
    println!(
        "{dropped} rotations ended, {aborted} were given up, {quick} switched early by acknowledgements, {shared} dropped the old root early by what replicas told each other"
    );
    assert!(dropped > 40 && aborted > 4 && quick > 8 && shared > 4);
}
