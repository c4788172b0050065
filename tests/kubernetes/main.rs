//! Discovery, objectives, leadership, metrics access and our manifests against a real Kubernetes
//! API server with etcd behind it: no cluster, no kubelet, pods are objects whose status the
//! tests write.
//!
//! `make kube-tools` installs what the tests need into `.tools/kube`; `KUBEBUILDER_ASSETS` is
//! honoured first. Without an API server the tests say so and pass, or fail where nothing may be
//! skipped (`support/needs.rs`).
#![cfg(feature = "kubernetes")]

mod api_server;
mod cluster;
mod logs;
#[path = "../support/mod.rs"]
mod support;

mod chart;
mod discovery;
mod doctor;
mod leader;
mod manifests;
mod metrics_auth;
mod objectives;
mod permissions;
mod program;
mod restart;
mod rolling;
mod scripted;
