use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::needs::{self, Need};

/// Users of the API server: name, token, groups. All but the administrator have no rights until
/// a test grants some.
const USERS: [(&str, &str); 5] = [
    ("admin", "system:masters"),
    ("picker", ""),
    ("tutorial", ""),
    ("scraper", ""),
    ("stranger", ""),
];

const START_WITHIN: Duration = Duration::from_secs(120);

/// The API server that most tests share, each in a namespace of its own, with all CRDs of the
/// inference extension. `None`, and a line that says so, where there is none to be had.
pub async fn shared() -> Option<&'static ApiServer> {
    static SHARED: OnceCell<Option<ApiServer>> = OnceCell::const_new();
    let server = SHARED
        .get_or_init(|| async {
            let server = ApiServer::start().await?;
            server.install(&inference_crds()).await;
            Some(server)
        })
        .await;
    server.as_ref()
}

/// The CRDs as published, where they lie beside the repository, else our own short forms.
fn inference_crds() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let published = root.join("../shared/crds");
    if published.is_dir() { published } else { root.join("tests/fixtures/crds") }
}

/// An API server with its etcd, in a folder and on ports of its own. Both end with the value,
/// or with the test process, whatever ends that.
pub struct ApiServer {
    dir: TempDir,
    _etcd: Process,
    api: Option<Process>,
    etcd_port: u16,
    port: u16,
    binaries: Binaries,
}

struct Binaries {
    etcd: PathBuf,
    kube_apiserver: PathBuf,
}

impl Binaries {
    fn find() -> Option<Self> {
        if needs::skipped(Need::Kubernetes) {
            return None;
        }
        let folder = match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(assets) => PathBuf::from(assets),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/kube/bin"),
        };
        let found =
            Self { etcd: folder.join("etcd"), kube_apiserver: folder.join("kube-apiserver") };
        if found.etcd.exists() && found.kube_apiserver.exists() {
            return Some(found);
        }
        let folder = folder.display();
        needs::missing(
            Need::Kubernetes,
            &format!("no etcd and kube-apiserver in {folder}; `make kube-tools` gets them"),
        );
        None
    }
}

impl ApiServer {
    /// Starts both and waits until the API server is ready.
    pub async fn start() -> Option<Self> {
        let binaries = Binaries::find()?;
        let dir = tempfile::tempdir().expect("a folder");
        let key = rcgen::KeyPair::generate().expect("a key");
        fs::write(dir.path().join("sa.key"), key.serialize_pem()).expect("written");
        fs::write(dir.path().join("sa.pub"), key.public_key_pem()).expect("written");
        let tokens: String = USERS
            .iter()
            .map(|(user, groups)| format!("{user}-token,{user},{user}-uid,\"{groups}\"\n"))
            .collect();
        fs::write(dir.path().join("tokens.csv"), tokens).expect("written");
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let clients = format!("http://127.0.0.1:{etcd_port}");
        let etcd = Process::start(
            Command::new(&binaries.etcd)
                .arg(format!("--data-dir={}", dir.path().join("etcd").display()))
                .arg(format!("--listen-client-urls={clients}"))
                .arg(format!("--advertise-client-urls={clients}"))
                .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
                .arg("--unsafe-no-fsync"),
            &dir.path().join("etcd.log"),
        );
        let mut server = Self { dir, _etcd: etcd, api: None, etcd_port, port, binaries };
        server.write_kubeconfigs();
        server.resume().await;
        Some(server)
    }

    /// Kills the API server as a crash would. etcd keeps what it was told.
    pub fn kill(&mut self) {
        self.api = None;
    }

    /// Starts the API server again, on the same port.
    pub async fn resume(&mut self) {
        let at = |file: &str| self.dir.path().join(file).display().to_string();
        let process = Process::start(
            Command::new(&self.binaries.kube_apiserver)
                .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
                .arg("--bind-address=127.0.0.1")
                .arg(format!("--secure-port={}", self.port))
                .arg(format!("--cert-dir={}", at("certs")))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!("--service-account-key-file={}", at("sa.pub")))
                .arg(format!("--service-account-signing-key-file={}", at("sa.key")))
                .arg(format!("--token-auth-file={}", at("tokens.csv")))
                .arg("--authorization-mode=RBAC")
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .arg("--disable-admission-plugins=ServiceAccount")
                .arg("--allow-privileged=true"),
            &self.dir.path().join("kube-apiserver.log"),
        );
        self.api = Some(process);
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&self) {
        let give_up = Instant::now() + START_WITHIN;
        let mut last = String::from("no certificate yet");
        while Instant::now() < give_up {
            if self.dir.path().join("certs/apiserver.crt").exists() {
                let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
                match self.client("admin").await.request_text(request).await {
                    Ok(_) => return,
                    Err(error) => last = error.to_string(),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut log = String::new();
        let file = fs::File::open(self.dir.path().join("kube-apiserver.log"));
        let _ = file.and_then(|mut file| file.read_to_string(&mut log));
        let from = log.len().saturating_sub(3000);
        panic!(
            "kube-apiserver not ready: {last}\n{}",
            String::from_utf8_lossy(&log.as_bytes()[from..])
        );
    }

    /// The kubeconfig file of one of [`USERS`].
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        assert!(USERS.iter().any(|(name, _)| *name == user), "no user {user}");
        self.dir.path().join(format!("{user}.kubeconfig"))
    }

    fn write_kubeconfigs(&self) {
        for (user, _) in USERS {
            let config = serde_json::json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": {
                    "server": format!("https://127.0.0.1:{}", self.port),
                    "certificate-authority": self.dir.path().join("certs/apiserver.crt"),
                }}],
                "users": [{"name": user, "user": {"token": format!("{user}-token")}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            });
            fs::write(self.kubeconfig(user), config.to_string()).expect("written");
        }
    }

    pub async fn client(&self, user: &str) -> Client {
        let kubeconfig = self.kubeconfig(user);
        epp::kubernetes::connect(Some(&kubeconfig)).await.expect("a usable kubeconfig")
    }

    /// Installs the CRDs of a folder and waits until they are served.
    pub async fn install(&self, folder: &Path) {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client("admin").await);
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder of CRDs") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("readable");
            let crd: CustomResourceDefinition = serde_yaml::from_str(&text).expect("a CRD");
            names.push(crd.metadata.name.clone().expect("a name"));
            crds.create(&PostParams::default(), &crd).await.expect("accepted");
        }
        for name in names {
            super::cluster::eventually(&format!("{name} is served"), async || {
                let crd = crds.get(&name).await.expect("the CRD");
                crd.status.and_then(|s| s.conditions).is_some_and(|conditions| {
                    conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
                })
            })
            .await;
        }
    }
}

/// Nobody holds the port between this and the start of the server that gets it; a clash shows as
/// a server that does not become ready.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A child that is killed with the value, and with this process even if that is killed itself: a
/// shell between waits for the end of its standard input, which only we hold.
struct Process(Child);

impl Process {
    fn start(command: &Command, log: &Path) -> Self {
        let log = fs::File::create(log).expect("a log file");
        let child = Command::new("sh")
            .args(["-c", r#""$@" & child=$!; cat; kill -KILL $child; wait $child"#, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("started");
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
