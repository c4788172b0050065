use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::{Api, ListParams, PostParams};

use super::{Cluster, SUBJECT, unread};
use crate::cli::{Options, WorkerSource};
use crate::doctor::{Finding, Report};

/// Something that epp does in a cluster.
struct Right {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    /// What it does not do without.
    why: &'static str,
    /// The cluster's, and not the namespace's.
    everywhere: bool,
}

const WATCH: &[&str] = &["list", "watch"];
const PODS: Right = Right {
    group: "",
    resource: "pods",
    verbs: WATCH,
    why: "it knows no endpoints: never ready",
    everywhere: false,
};
const LEASES: Right = Right {
    group: "coordination.k8s.io",
    resource: "leases",
    verbs: &["get", "create", "update"],
    why: "with --ha-enable-leader-election no replica leads: none is ready",
    everywhere: false,
};
const OF_METRICS: [Right; 2] = [
    Right {
        group: "authentication.k8s.io",
        resource: "tokenreviews",
        verbs: &["create"],
        why: "its metrics port answers 500: nobody can be told from anybody",
        everywhere: true,
    },
    Right {
        group: "authorization.k8s.io",
        resource: "subjectaccessreviews",
        verbs: &["create"],
        why: "its metrics port answers 500: nobody can be let in",
        everywhere: true,
    },
];
const POOLS: [&str; 2] = ["inference.networking.k8s.io", "inference.networking.x-k8s.io"];
/// Objects about models: group, version, resource.
const ABOUT_MODELS: [(&str, &str, &str); 4] = [
    ("llm-d.ai", "v1alpha2", "inferenceobjectives"),
    ("llm-d.ai", "v1alpha2", "inferencemodelrewrites"),
    ("inference.networking.x-k8s.io", "v1alpha2", "inferenceobjectives"),
    ("inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites"),
];

/// Whose rights are asked about.
struct Asked<'a> {
    cluster: &'a Cluster,
    /// The picker's ServiceAccount; `None`: whoever we are.
    account: Option<String>,
}

/// Asks for every right that epp uses: of its ServiceAccount, where that is known and we may ask
/// about others, else of ourselves.
pub(super) async fn look(
    cluster: &Cluster,
    serve: &Options,
    account: Option<String>,
    report: &Report,
) {
    let mut asked_about = Asked { cluster, account };
    if asked_about.account.is_some() && lacks(&asked_about, &PODS).await.is_err() {
        asked_about.account = None;
    }
    let whose = &asked_about;
    let mut missing = 0;
    let mut asked = 0;
    let mut rights = vec![PODS];
    if serve.leader_election {
        rights.push(LEASES);
    }
    if serve.admin.auth != Some(false) && serve.admin.token_file.is_none() {
        rights.extend(OF_METRICS);
    }
    for right in rights {
        match lacks(whose, &right).await {
            Err(error) => {
                report.add(unread("rights", "rights cannot be asked for", &error));
                return;
            }
            Ok(verbs) => {
                asked += 1;
                missing += usize::from(!verbs.is_empty());
                tell(whose, &right, &verbs, true, report);
            }
        }
    }
    if let WorkerSource::Pool { group, .. } = &serve.workers {
        let mut readable = 0;
        let groups = POOLS.into_iter().filter(|g| group.as_deref().is_none_or(|own| own == *g));
        let mut lacking = Vec::new();
        for group in groups {
            let right = Right {
                group,
                resource: "inferencepools",
                verbs: WATCH,
                why: "it finds no pool: never ready",
                everywhere: false,
            };
            match lacks(whose, &right).await {
                Ok(verbs) if verbs.is_empty() => readable += 1,
                Ok(verbs) => lacking.push((right, verbs)),
                Err(_) => {}
            }
        }
        asked += 1;
        // One group is enough; which one has the pool was looked at already.
        if readable == 0 {
            missing += 1;
            for (right, verbs) in lacking {
                tell(whose, &right, &verbs, true, report);
            }
        }
        for (group, version, resource) in ABOUT_MODELS {
            if !has_kind(cluster, group, version, resource).await {
                continue;
            }
            let right = Right {
                group,
                resource,
                verbs: WATCH,
                why: "what these objects say of models is not known: no priorities, no rewrites",
                everywhere: false,
            };
            let verbs = lacks(whose, &right).await.unwrap_or_default();
            asked += 1;
            tell(whose, &right, &verbs, false, report);
        }
    }
    if missing == 0 {
        let name = whose.name();
        let what = format!("{name} has the {asked} rights that epp uses");
        report.add(Finding::ok(SUBJECT, "rights", what));
    }
}

impl Asked<'_> {
    fn name(&self) -> String {
        match &self.account {
            Some(account) => format!("ServiceAccount {account}"),
            None => "whoever asks".to_owned(),
        }
    }

    async fn may(&self, attributes: ResourceAttributes) -> Result<bool, kube::Error> {
        let resource_attributes = Some(attributes);
        let (client, namespace) = (self.cluster.client.clone(), &self.cluster.namespace);
        let status = match &self.account {
            None => {
                let spec = SelfSubjectAccessReviewSpec {
                    resource_attributes,
                    ..SelfSubjectAccessReviewSpec::default()
                };
                let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
                Api::all(client).create(&PostParams::default(), &review).await?.status
            }
            Some(account) => {
                let groups = ["system:serviceaccounts", "system:authenticated"];
                let mut groups: Vec<String> = groups.map(str::to_owned).into();
                groups.push(format!("system:serviceaccounts:{namespace}"));
                let spec = SubjectAccessReviewSpec {
                    user: Some(format!("system:serviceaccount:{namespace}:{account}")),
                    groups: Some(groups),
                    resource_attributes,
                    ..SubjectAccessReviewSpec::default()
                };
                let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
                Api::all(client).create(&PostParams::default(), &review).await?.status
            }
        };
        Ok(status.is_some_and(|status| status.allowed))
    }
}

/// The verbs that are missing.
async fn lacks(whose: &Asked<'_>, right: &Right) -> Result<Vec<&'static str>, kube::Error> {
    let mut lacking = Vec::new();
    for verb in right.verbs {
        let attributes = ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            verb: Some((*verb).to_owned()),
            namespace: (!right.everywhere).then(|| whose.cluster.namespace.clone()),
            ..ResourceAttributes::default()
        };
        if !whose.may(attributes).await? {
            lacking.push(*verb);
        }
    }
    Ok(lacking)
}

fn tell(whose: &Asked<'_>, right: &Right, verbs: &[&str], is_needed: bool, report: &Report) {
    if verbs.is_empty() {
        return;
    }
    let resource = match right.group {
        "" => right.resource.to_owned(),
        group => format!("{}.{group}", right.resource),
    };
    let place = match right.everywhere {
        true => String::new(),
        false => format!(" in namespace {}", whose.cluster.namespace),
    };
    let what = format!("{} may not {} {resource}{place}", whose.name(), verbs.join(", "));
    let finding = match is_needed {
        true => Finding::problem(SUBJECT, "rights", what),
        false => Finding::note(SUBJECT, "rights", what),
    };
    report.add(finding.why(right.why).change(format!(
        "a {}: {{apiGroups: [\"{}\"], resources: [{}], verbs: [{}]}}",
        if right.everywhere { "ClusterRole" } else { "Role" },
        right.group,
        right.resource,
        verbs.join(", ")
    )));
}

/// Whether the API server has a kind; also where it does not let us read it.
async fn has_kind(cluster: &Cluster, group: &str, version: &str, resource: &str) -> bool {
    let kind = match resource {
        "inferenceobjectives" => "InferenceObjective",
        _ => "InferenceModelRewrite",
    };
    let listed = cluster.api(group, version, kind).list(&ListParams::default().limit(1)).await;
    !matches!(listed, Err(kube::Error::Api(status)) if status.code == 404)
}
