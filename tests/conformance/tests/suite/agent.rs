//! The subject as the client of its node agent.

use std::time::Duration;

use conformance::{
    App, Outcome, Pod, Report, World, echoes, ensure, ensure_eq, eventually_ok, mesh, redirect, within,
};
use proto::zds::workload_request::Payload;
use proto::zds::{AddWorkload, WorkloadInfo};

use crate::inbound::any;

pub(crate) async fn run(report: &mut Report) -> Outcome {
    report
        .clause("greets-and-is-not-ready-before-the-snapshot", greets())
        .await;
    report
        .clause("acknowledges-the-snapshot-and-is-ready", snapshot())
        .await;
    let mut world = World::start().await?;
    report
        .clause("takes-on-and-lets-go-of-a-pod", add_and_delete(&mut world))
        .await;
    report
        .clause("lets-go-of-a-pod-that-it-never-had", delete_unknown(&world))
        .await;
    report
        .clause("takes-the-same-pod-again", add_again(&mut world))
        .await;
    report
        .clause("takes-a-pod-in-a-new-namespace", new_namespace(&mut world))
        .await;
    report
        .clause("comes-again-and-keeps-its-pods", reconnects(&mut world))
        .await;
    report
        .clause(
            "lets-go-of-pods-that-a-new-snapshot-leaves-out",
            left_out(&mut world),
        )
        .await;
    report
        .clause("refuses-an-add-without-namespace", without_namespace(&mut world))
        .await;
    report
        .clause("refuses-what-it-cannot-read", unreadable(&mut world))
        .await;
    Ok(())
}

async fn greets() -> Outcome {
    let mut world = World::start_waiting(&[]).await?;
    let hello = world.agent.hello.clone();
    ensure_eq!(hello, Ok(()), "the greeting");
    // It has called, and so serves its pages; it must say that it waits.
    let status = eventually_ok("readiness is answered", Duration::from_secs(10), async || {
        world.subject.readiness().await
    })
    .await?;
    ensure_eq!(status, 500, "readiness before the snapshot");
    ensure!(world.subject.is_running(), "the subject has ended");
    Ok(())
}

async fn snapshot() -> Outcome {
    let mut world = World::start_waiting(&[]).await?;
    let pod = world.bare_pod("apps", "first", "first")?;
    redirect(&pod.network)?;
    world.announce(pod.workload(mesh::NODE)).await?;
    world.add(&pod).await?;
    ensure_eq!(
        world.agent.snapshot_sent().await?,
        "",
        "the answer to the snapshot"
    );
    world.subject.ready().await?;
    serves(&mut world, &pod).await
}

/// Whether a pod is reached through a tunnel.
async fn serves(world: &mut World, pod: &Pod) -> Outcome {
    let caller = world.bare_pod("callers", "caller", "caller")?;
    let _app = App::echo(&pod.network, any(8080))?;
    let client = world.tunnel(&caller, pod).await?;
    let mut answer = client.connect(&pod.at(8080).to_string()).await?.expect(200)?;
    echoes(&mut answer.tunnel, "hello").await
}

async fn add_and_delete(world: &mut World) -> Outcome {
    let pod = world.pod("apps", "passing").await?;
    serves(world, &pod).await?;
    ensure_eq!(
        world.agent.delete(&pod.uid()).await?,
        "",
        "the answer to the removal"
    );
    eventually_ok(
        "nobody listens for the pod any more",
        Duration::from_secs(20),
        async || {
            let opened = world.network.node.connect(pod.at(conformance::HBONE_PORT)).await;
            ensure!(opened.is_err(), "port 15008 of the pod is still served");
            Ok(())
        },
    )
    .await
}

async fn delete_unknown(world: &World) -> Outcome {
    world.agent.delete("no-such-pod").await?;
    ensure_eq!(world.subject.readiness().await?, 200, "readiness");
    Ok(())
}

async fn add_again(world: &mut World) -> Outcome {
    let pod = world.pod("apps", "twice").await?;
    world.add(&pod).await?;
    serves(world, &pod).await
}

async fn new_namespace(world: &mut World) -> Outcome {
    let pod = world.pod("apps", "moving").await?;
    serves(world, &pod).await?;
    let mut moved = world.bare_pod("apps", "moving", "moving")?;
    redirect(&moved.network)?;
    moved.name = pod.name.clone();
    world.announce(moved.workload(mesh::NODE)).await?;
    world.add(&moved).await?;
    serves(world, &moved).await
}

async fn reconnects(world: &mut World) -> Outcome {
    let pod = world.pod("apps", "steady").await?;
    let caller = world.bare_pod("callers", "caller", "caller")?;
    let _app = App::echo(&pod.network, any(8081))?;
    let client = world.tunnel(&caller, &pod).await?;
    let mut open = client.connect(&pod.at(8081).to_string()).await?.expect(200)?;
    echoes(&mut open.tunnel, "before").await?;
    world.agent.clone().hang_up();
    world.agent = world.agent_socket.accept().await?;
    ensure_eq!(world.agent.hello, Ok(()), "the second greeting");
    echoes(&mut open.tunnel, "while the agent is away").await?;
    // The agent still holds the one, and has lost the namespace of the other.
    let kept = world.agent.keep(&pod.uid()).await?;
    ensure_eq!(kept, "", "the answer to a pod without namespace");
    ensure_eq!(
        world.agent.snapshot_sent().await?,
        "",
        "the answer to the snapshot"
    );
    world.subject.ready().await?;
    echoes(&mut open.tunnel, "after").await?;
    serves(world, &pod).await
}

async fn left_out(world: &mut World) -> Outcome {
    let stays = world.pod("apps", "stays").await?;
    let goes = world.pod("apps", "goes").await?;
    serves(world, &goes).await?;
    world.agent.clone().hang_up();
    world.agent = world.agent_socket.accept().await?;
    world.add(&stays).await?;
    ensure_eq!(
        world.agent.snapshot_sent().await?,
        "",
        "the answer to the snapshot"
    );
    eventually_ok(
        "the pod left out is let go",
        Duration::from_secs(20),
        async || {
            let opened = world.network.node.connect(goes.at(conformance::HBONE_PORT)).await;
            ensure!(opened.is_err(), "port 15008 of the pod is still served");
            Ok(())
        },
    )
    .await?;
    serves(world, &stays).await
}

/// Refused is answered with an error, or with a hang-up after which the subject comes again.
async fn refused(world: &mut World, record: Vec<u8>) -> Outcome {
    let answer = world.agent.raw(record, None).await;
    if let Ok(error) = &answer {
        ensure!(!error.is_empty(), "it was taken");
    }
    // Either the connection still works, or there is a new one.
    if answer.is_ok() && world.agent.delete("no-such-pod").await.is_ok() {
        return Ok(());
    }
    let again = within(
        "the subject comes again",
        Duration::from_secs(20),
        world.agent_socket.accept(),
    );
    world.agent = again.await??;
    ensure_eq!(world.agent.hello, Ok(()), "the greeting");
    ensure_eq!(
        world.agent.snapshot_sent().await?,
        "",
        "the answer to the snapshot"
    );
    world.subject.ready().await
}

async fn without_namespace(world: &mut World) -> Outcome {
    use prost::Message;
    let payload = Payload::Add(AddWorkload {
        uid: "without".to_owned(),
        workload_info: Some(WorkloadInfo {
            name: "without".to_owned(),
            namespace: "apps".to_owned(),
            service_account: "without".to_owned(),
        }),
    });
    let request = proto::zds::WorkloadRequest {
        payload: Some(payload),
    };
    refused(world, request.encode_to_vec()).await
}

async fn unreadable(world: &mut World) -> Outcome {
    refused(world, vec![0x0a, 0xff, 0xff, 0x07]).await
}
