use std::time::Duration;

use epp::kubernetes::{LeaderElection, LeaderOptions, lease_name};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;

use crate::api_server::shared;
use crate::cluster::{Cluster, eventually};

/// The reference's proportions, at a pace for tests.
fn options(cluster: &Cluster, candidate: &str) -> LeaderOptions {
    LeaderOptions {
        lease_duration: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(200),
        ..LeaderOptions::new(&cluster.namespace, "pool", candidate)
    }
}

async fn lease(cluster: &Cluster) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = lease_name(&cluster.namespace, "pool");
    leases.get(&name).await.expect("the lease").spec.expect("a spec")
}

async fn comes_to_lead(election: &LeaderElection) {
    let mut leader = election.leader();
    let leads = tokio::time::timeout(Duration::from_secs(60), leader.wait_for(|leads| *leads));
    leads.await.expect("in time").expect("the election goes on");
}

#[test]
fn the_reference_names_and_timings() {
    let options = LeaderOptions::new("prod", "qwen", "epp-0");
    assert_eq!(options.lease, "epp-prod-qwen.llm-d.ai");
    assert_eq!(
        [options.lease_duration, options.renew_deadline, options.retry_period].map(|d| d.as_secs()),
        [15, 10, 2]
    );
    assert_ne!(options.identity, LeaderOptions::new("prod", "qwen", "epp-0").identity);
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_and_one_that_leaves_at_once() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let start = |name: &str| {
        let options = options(&cluster, name);
        (options.identity.clone(), LeaderElection::start(cluster.client.clone(), options))
    };
    let (first_identity, first) = start("first");
    comes_to_lead(&first).await;
    let (second_identity, second) = start("second");
    let held = lease(&cluster).await;
    assert_eq!(held.holder_identity, Some(first_identity.clone()));
    assert_eq!(held.lease_duration_seconds, Some(3));
    // Renewed, not taken again.
    eventually("the lease is renewed", async || {
        let now = lease(&cluster).await;
        now.renew_time != held.renew_time && now.acquire_time == held.acquire_time
    })
    .await;
    assert!(!*second.leader().borrow());

    // Dropping gives nothing back: the second has to wait for the lease to run out.
    let last_word = lease(&cluster).await.renew_time;
    drop(first);
    comes_to_lead(&second).await;
    let taken = lease(&cluster).await;
    assert_eq!(taken.holder_identity, Some(second_identity));
    assert_eq!(taken.lease_transitions, Some(1));
    assert!(taken.acquire_time > last_word);

    let (_, third) = start("third");
    second.release().await;
    let released = lease(&cluster).await.holder_identity.unwrap_or_default();
    assert!(released.is_empty() || released.starts_with("third_"), "{released}");
    comes_to_lead(&third).await;
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_steps_down_and_may_return() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let election = LeaderElection::start(cluster.client.clone(), options(&cluster, "first"));
    comes_to_lead(&election).await;
    let name = lease_name(&cluster.namespace, "pool");
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let take = serde_json::json!({"spec": {"holderIdentity": "someone else"}});
    leases
        .patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&take))
        .await
        .expect("accepted");
    let mut leader = election.leader();
    let steps_down = tokio::time::timeout(Duration::from_secs(60), leader.wait_for(|leads| !leads));
    steps_down.await.expect("in time").expect("the election goes on");
    // Whoever it was never renews.
    comes_to_lead(&election).await;
}

/// Without the right to the lease nobody leads, rather than everybody.
#[tokio::test]
async fn no_right_to_the_lease() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = crate::logs::Warnings::capture();
    let client = server.client("stranger").await;
    let election = LeaderElection::start(client, options(&cluster, "stranger"));
    eventually("it is said", async || !warnings.with("cannot take or renew the lease").is_empty())
        .await;
    assert!(!*election.leader().borrow());
}
