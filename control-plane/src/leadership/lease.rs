//! Asking a Kubernetes API for the lease.

use std::time::{Duration, Instant, SystemTime};

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::election::{Answer, Ask, Claim, Election, Record, Step, Timing};
use super::{Leadership, Term};

/// The lease's name; its namespace is the control plane's own.
pub(crate) const LEASE_NAME: &str = "ztunnel-control-plane";
/// How long an answer is waited for. Shorter than a third of the deadline for renewing, so that there is more than
/// one attempt.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long giving back the lease may take, when the program ends.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);
/// What a lease that is given back says its duration is, as in Kubernetes' own clients.
const RELEASED_SECONDS: u64 = 1;

/// Who stands for election, and where.
pub(crate) struct Candidate {
    pub(crate) client: kube::Client,
    /// The pod's name. Something that differs from one process to the next is added to it.
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) timing: Timing,
}

/// Stands for election until `stop` is cancelled; then the lease is given back, and the future ends.
pub(crate) fn elect(
    candidate: Candidate,
    stop: CancellationToken,
) -> (Leadership, impl Future<Output = ()> + Send) {
    let (sender, term) = watch::channel(Term::None);
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"),
        "leases",
    );
    let elector = Elector {
        api: Api::namespaced_with(candidate.client, &candidate.namespace, &resource),
        resource,
        identity: format!("{}_{:016x}", candidate.pod, rand::random::<u64>()),
        namespace: candidate.namespace,
        timing: candidate.timing,
        stored: None,
        sender,
        problem: None,
        holder: None,
    };
    (Leadership { term }, elector.run(stop))
}

struct Elector {
    api: Api<DynamicObject>,
    resource: ApiResource,
    identity: String,
    namespace: String,
    timing: Timing,
    /// The lease as the API gave it last: what a write must be based on.
    stored: Option<DynamicObject>,
    sender: watch::Sender<Term>,
    /// What was wrong last, so that it is said once.
    problem: Option<String>,
    /// Who led last, so that it is said once.
    holder: Option<String>,
}

impl Elector {
    async fn run(mut self, stop: CancellationToken) {
        let mut election = Election::new(self.identity.clone(), self.timing, Instant::now());
        loop {
            let until = self.publish(&election);
            let step = election.step(Instant::now());
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            match step {
                Step::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = over => {}
                    () = stop.cancelled() => break,
                },
                // The term's end is seen by `Leadership` itself while this waits.
                Step::Ask(ask) => {
                    let sent = Instant::now();
                    let answer = tokio::select! {
                        answer = self.ask(ask) => answer,
                        () = stop.cancelled() => break,
                    };
                    election.answer(answer, sent, Instant::now(), rand::random());
                }
            }
        }
        self.sender.send_replace(Term::None);
        if tokio::time::timeout(RELEASE_DEADLINE, self.release())
            .await
            .is_err()
        {
            tracing::warn!("the lease is not given back in time; others wait until it is over");
        }
    }

    /// Tells everybody what has changed; returns when that is over.
    fn publish(&mut self, election: &Election) -> Option<Instant> {
        let now = Instant::now();
        let until = election.leads_until(now);
        let term = until.map_or(Term::None, Term::Until);
        let mut turned = false;
        self.sender.send_if_modified(|old| {
            turned = old.leads(now) != term.leads(now);
            *old = term;
            turned
        });
        if turned {
            let leads = until.is_some();
            tracing::info!(identity = self.identity, leads, "leadership changed");
        }
        if let Some(holder) = election.holder().filter(|holder| !holder.is_empty())
            && self.holder.as_deref() != Some(holder)
        {
            tracing::info!(holder, "the lease is held");
            self.holder = Some(holder.to_owned());
        }
        until
    }

    async fn ask(&mut self, ask: Ask) -> Answer {
        match tokio::time::timeout(ANSWER_DEADLINE, self.perform(ask)).await {
            Ok(Ok(answer)) => {
                if self.problem.take().is_some() {
                    tracing::info!("the lease can be read and written again");
                }
                answer
            }
            Ok(Err(error)) => self.failed(explained(&error, &self.namespace)),
            Err(_) => self.failed("the API server does not answer in time".to_owned()),
        }
    }

    fn failed(&mut self, problem: String) -> Answer {
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!("the lease cannot be read or written now: {problem}");
            self.problem = Some(problem);
        }
        Answer::Failed
    }

    async fn perform(&mut self, ask: Ask) -> Result<Answer, kube::Error> {
        let written = match ask {
            Ask::Read => {
                self.stored = self.api.get_opt(LEASE_NAME).await?;
                return Ok(Answer::Read(self.stored.as_ref().map(record)));
            }
            Ask::Create(claim) => {
                let mut lease = DynamicObject::new(LEASE_NAME, &self.resource).within(&self.namespace);
                self.write(&mut lease, &claim);
                self.api.create(&PostParams::default(), &lease).await
            }
            Ask::Replace(claim) => {
                let Some(mut lease) = self.stored.clone() else {
                    return Ok(Answer::Conflict);
                };
                self.write(&mut lease, &claim);
                self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                let record = record(&lease);
                self.stored = Some(lease);
                Ok(Answer::Written(record))
            }
            // Somebody made or changed it meanwhile.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Conflict),
            Err(error) => Err(error),
        }
    }

    /// The object with the claim in its specification; everything else in it stays.
    fn write(&self, lease: &mut DynamicObject, claim: &Claim) {
        let now = micro_time(SystemTime::now());
        let mut spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.timing.lease.as_secs().max(1),
            "renewTime": now,
            "leaseTransitions": claim.transitions,
        });
        spec["acquireTime"] = match &claim.acquired {
            Some(acquired) if !acquired.is_empty() => json!(acquired),
            _ => json!(now),
        };
        merge(lease, spec);
    }

    async fn release(&mut self) {
        let mut lease = match self.api.get_opt(LEASE_NAME).await {
            Ok(Some(lease)) if record(&lease).holder == self.identity => lease,
            Ok(_) => return,
            Err(error) => return tracing::warn!("the lease is not given back: {error}"),
        };
        merge(
            &mut lease,
            json!({ "holderIdentity": "", "leaseDurationSeconds": RELEASED_SECONDS }),
        );
        match self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await {
            Ok(_) => tracing::info!("the lease is given back"),
            Err(error) => tracing::warn!("the lease is not given back: {error}"),
        }
    }
}

fn merge(lease: &mut DynamicObject, spec: Value) {
    if !lease.data.is_object() {
        lease.data = json!({});
    }
    match (lease.data.get_mut("spec"), spec) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, spec) => lease.data["spec"] = spec,
    }
}

/// What cannot be understood counts as not there; a lease without a holder is free.
fn record(lease: &DynamicObject) -> Record {
    let field = |name: &str| lease.data.get("spec").and_then(|spec| spec.get(name));
    let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Record {
        holder: text("holderIdentity"),
        duration: Duration::from_secs(field("leaseDurationSeconds").and_then(Value::as_u64).unwrap_or(0)),
        acquired: text("acquireTime"),
        renewed: text("renewTime"),
        transitions: field("leaseTransitions").and_then(Value::as_i64).unwrap_or(0),
    }
}

fn explained(error: &kube::Error, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{error}; grant this service account get, create and update on leases.coordination.k8s.io in {namespace}"
        ),
        kube::Error::Api(status) if status.code == 404 => {
            format!("{error}; is there a namespace {namespace} (--pod-namespace)?")
        }
        _ => error.to_string(),
    }
}

/// As the API writes and reads it (`metav1.MicroTime`): always six digits behind the second.
pub(crate) fn micro_time(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, micro) = time.to_hms_micro();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits() {
        let time = |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        assert_eq!(micro_time(time(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            micro_time(time(1_700_000_000_120_000)),
            "2023-11-14T22:13:20.120000Z"
        );
    }
}
