"""Runs the images as the chart does, on a node that is made of network namespaces, and sees that they do their work.

Containers get the arguments, environment, user, capabilities, volumes and seccomp profile of charts/rendered/defaults.yaml;
what Kubernetes' parts would do for them (API server, kubelet, tokens, cluster DNS) is done here, with the small API server of
lib/kube-api. Two pods that run the image of ztctl, a server and a client, are enrolled, speak through a tunnel, refuse
plaintext under STRICT, go on when another ztunnel takes over, and leave the mesh again. Then each capability and each volume is
taken away in turn: something must fail.

Runs as root as the first process of namespaces of its own, for network, mounts and processes: those of the node
(scripts/images trial). With podman: no other engine puts containers into namespaces that others have made.
"""

import base64
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import yaml

RENDERED = pathlib.Path("charts/rendered/defaults.yaml")
SYSTEM = "istio-system"
NODE = "node-a"
NODE_ADDRESS = "10.77.0.1"
API_PORT = 6443
SERVER_PORT = 8080
# Pods: namespace, service account, address.
PODS = {
    "control-plane": (SYSTEM, "ztunnel-control-plane", "10.77.0.2"),
    "node-agent": (SYSTEM, "ztunnel-node-agent", "10.77.0.3"),
    "ztunnel": (SYSTEM, "ztunnel", "10.77.0.4"),
    "server": ("shop", "server", "10.77.0.5"),
    "client": ("shop", "client", "10.77.0.6"),
    # Takes over from the first one.
    "ztunnel-new": (SYSTEM, "ztunnel", "10.77.0.7"),
}
MESH = ["control-plane", "node-agent", "ztunnel"]
# What is not needed by what is done here, and for what it is there.
OTHERWISE = {
    ("node-agent", "NET_RAW"): "iptables-legacy needs it",
    ("ztunnel", "state"): "a start while the control plane is away needs it",
}
SECONDS = float(os.environ.get("IMAGES_TRIAL_SECONDS", "60"))


class Failed(Exception):
    """The images do not do their work."""


def main() -> int:
    registry, tag = sys.argv[1:]
    containers = workloads()
    Trial(registry, tag, containers, set()).run()
    print("The images do their work with what the chart gives them. Now without each part of it:")
    problems = []
    for name in MESH:
        container = containers[name][1]
        parts = container["securityContext"]["capabilities"].get("add", [])
        for part in parts + [mount["name"] for mount in container["volumeMounts"]]:
            try:
                Trial(registry, tag, containers, {(name, part)}).run()
            except Failed as failure:
                print(f"  {name} without {part}: {str(failure).splitlines()[0]}", flush=True)
                continue
            why = OTHERWISE.get((name, part))
            print(f"  {name} without {part}: all the same{f'; {why}' if why else ''}", flush=True)
            if not why:
                problems.append(f"{name} does not need {part}: take it out of the chart")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def workloads() -> dict:
    """Pod and container of each program, as the chart has them."""
    found = {}
    for thing in yaml.safe_load_all(RENDERED.read_text()):
        pod = ((thing or {}).get("spec") or {}).get("template", {}).get("spec")
        for container in (pod or {}).get("containers", []):
            found[container["name"]] = (pod, container)
    return found


class Trial:
    """One node with all its pods."""

    def __init__(self, registry: str, tag: str, containers: dict, without: set):
        self.registry, self.tag, self.containers, self.without = registry, tag, containers, without
        self.prefix = f"mesh-images-{os.getpid()}"
        self.uids, self.started, self.stopped, self.namespaces, self.api_server = {}, [], set(), [], None

    def run(self):
        with tempfile.TemporaryDirectory(prefix="mesh-images-") as directory:
            self.work = pathlib.Path(directory)
            try:
                self.make_node()
                self.serve_api()
                for name in MESH:
                    self.start_of_mesh(name)
                    self.wait(f"{name} is ready", lambda name=name: self.is_ready(name))
                self.work_through()
                for name in ["ztunnel-new", "node-agent", "control-plane"]:
                    self.stop(name)
            except Failed as failure:
                raise Failed(f"{failure}{self.output()}") from None
            finally:
                self.remove()

    # What is expected.

    def work_through(self):
        for name in ["server", "client"]:
            self.start_application(name)
        url = f"http://{PODS['server'][2]}:{SERVER_PORT}/"
        ask = lambda: self.podman("exec", self.called("client"), "/usr/local/bin/ztctl", "app", "get", url)
        is_told = lambda: self.plainly(url) is not None
        self.wait("the client is answered in plaintext, before anybody is in the mesh", lambda: ask().returncode == 0)
        label = {"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}}
        self.api("PATCH", "/api/v1/namespaces/shop", label)
        for name in ["server", "client"]:
            self.wait(f"{name} is enrolled", lambda name=name: self.is_enrolled(name))
        self.wait("the client is answered through a tunnel", lambda: ask().returncode == 0 and self.tunnels() > 0)
        self.wait("whoever is not in the mesh is answered in plaintext, while PERMISSIVE", is_told)
        strict = {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "strict", "namespace": "shop"},
            "spec": {"mtls": {"mode": "STRICT"}},
        }
        self.api("POST", "/apis/security.istio.io/v1/namespaces/shop/peerauthentications", strict)
        self.wait("plaintext is refused under STRICT", lambda: not is_told())
        for name in ["server", "client"]:
            if self.setting(name, "net/ipv4/tcp_migrate_req") != "1":
                raise Failed(f"connections of {name} would be reset when a proxy is replaced")
        before = self.tunnels()
        if ask().returncode != 0 or self.tunnels() <= before:
            raise Failed("the client is not answered through a tunnel under STRICT")
        self.start_of_mesh("ztunnel-new")
        self.wait("another ztunnel is ready", lambda: self.is_ready("ztunnel-new"))
        self.stop("ztunnel")
        if ask().returncode != 0 or self.tunnels("ztunnel-new") == 0:
            raise Failed("the client is not answered when another ztunnel has taken over")
        self.api("PATCH", "/api/v1/namespaces/shop", {"metadata": {"labels": {"istio.io/dataplane-mode": None}}})
        for name in ["server", "client"]:
            self.wait(f"{name} has left the mesh", lambda name=name: not self.is_enrolled(name))
        self.wait("the server is its own again", is_told)

    def is_ready(self, name: str) -> bool:
        container = self.containers[program(name)][1]
        probe = container["readinessProbe"]["httpGet"]
        port = next(port["containerPort"] for port in container["ports"] if port["name"] == probe["port"])
        return self.plainly(f"http://{PODS[name][2]}:{port}{probe['path']}") is not None

    def is_enrolled(self, name: str) -> bool:
        pod = self.api("GET", f"/api/v1/namespaces/{PODS[name][0]}/pods/{name}")
        return pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"

    def tunnels(self, name: str = "ztunnel") -> float:
        """Connections that ztunnel has seen under mutual TLS."""
        text = self.plainly(f"http://{PODS[name][2]}:15020/metrics") or ""
        lines = re.findall(r"^istio_tcp_connections_opened_total\{(.*)\} ([0-9.]+)$", text, re.MULTILINE)
        return sum(float(count) for labels, count in lines if 'connection_security_policy="mutual_tls"' in labels)

    def setting(self, name: str, path: str) -> str:
        command = ["ip", "netns", "exec", self.called(name), "cat", f"/proc/sys/{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # The node.

    def make_node(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "pods", "type", "bridge")
        run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "pods")
        run("ip", "link", "set", "pods", "up")
        for number, (name, (_, _, address)) in enumerate(PODS.items()):
            namespace = self.called(name)
            run("ip", "netns", "add", namespace)
            self.namespaces.append(namespace)
            run("ip", "link", "add", f"pod{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            run("ip", "link", "set", f"pod{number}", "master", "pods", "up")
            run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            run("ip", "-n", namespace, "route", "add", "default", "via", NODE_ADDRESS)

    def serve_api(self):
        kubeconfig = self.work / "kubeconfig"
        program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "debug/examples/serve"
        log = open(self.work / "api-server.log", "wb")
        arguments = [program, kubeconfig, f"{NODE_ADDRESS}:{API_PORT}"]
        self.api_server = subprocess.Popen(arguments, stdout=log, stderr=log)
        self.wait("the API server is there", lambda: (self.work / "api-server.log").read_text().startswith("https://"))
        self.config = json.loads(kubeconfig.read_text())
        cluster = self.config["clusters"][0]["cluster"]
        self.roots = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=self.roots)
        self.api("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        for namespace in sorted({namespace for namespace, _, _ in PODS.values()}):
            self.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        for namespace, account in sorted({(namespace, account) for namespace, account, _ in PODS.values()}):
            self.api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}})
        for name, (namespace, account, address) in PODS.items():
            pod = {
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "nodeName": NODE,
                    "serviceAccountName": account,
                    "containers": [{"name": name, "image": self.image(name)}],
                },
            }
            made = self.api("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
            self.uids[name] = made["metadata"]["uid"]
            status = {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "hostIP": NODE_ADDRESS,
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            self.api("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})

    def api(self, method: str, path: str, body=None):
        request = urllib.request.Request(f"https://{NODE_ADDRESS}:{API_PORT}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.config['users'][0]['user']['token']}")
        if body is not None:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            request.add_header("Content-Type", kind)
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path}: {error.read().decode()}") from None

    def token(self, name: str, audience: str | None) -> str:
        namespace, account, _ = PODS[name]
        spec = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": self.uids[name]}}
        if audience:
            spec["audiences"] = [audience]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return self.api("POST", path, {"spec": spec})["status"]["token"]

    # What the kubelet does.

    def start_of_mesh(self, name: str):
        pod, container = self.containers[program(name)]
        security = pod.get("securityContext", {}) | container["securityContext"]
        assert security["seccompProfile"]["type"] == "RuntimeDefault", "the engine's own profile is what is tried"
        arguments = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        if security["readOnlyRootFilesystem"]:
            arguments += ["--read-only", "--read-only-tmpfs=false"]
        if not security["allowPrivilegeEscalation"]:
            arguments += ["--security-opt=no-new-privileges"]
        arguments += [f"--cap-drop={capability}" for capability in security["capabilities"]["drop"]]
        for capability in security["capabilities"].get("add", []):
            if (program(name), capability) not in self.without:
                arguments.append(f"--cap-add={capability}")
        for variable in container["env"]:
            arguments += ["--env", f"{variable['name']}={self.value(name, variable)}"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container["volumeMounts"]:
            if (program(name), mount["name"]) in self.without:
                continue
            arguments += self.mounted(name, security, volumes[mount["name"]], mount)
        if pod.get("automountServiceAccountToken", True):
            account = self.directory(f"{name}/account")
            self.secret(account / "token", self.token(name, None), security)
            (account / "ca.crt").write_text(self.roots)
            (account / "namespace").write_text(PODS[name][0])
            arguments += ["--volume", f"{account}:/var/run/secrets/kubernetes.io/serviceaccount:ro"]
        self.start(name, arguments, container.get("args", []))

    def start_application(self, name: str):
        self.start(name, ["--cap-drop=all", "--security-opt=no-new-privileges"], ["app", "serve", "--port", str(SERVER_PORT)])

    def start(self, name: str, arguments: list, command: list):
        control_plane = PODS["control-plane"][2]
        names = [f"istiod.{SYSTEM}.svc", "kubernetes.default.svc"]
        hosts = [f"--add-host={host}:{ip}" for host, ip in zip(names, [control_plane, NODE_ADDRESS])]
        result = self.podman(
            "run", "--detach", "--name", self.called(name), "--pull=never",
            "--network", f"ns:/run/netns/{self.called(name)}", *hosts,
            # The agent finds a pod's namespace by its processes' control groups.
            "--cgroup-parent", f"/kubepods/pod{self.uids[name]}",
            # No more than this process has: raising them takes a capability.
            "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
            "--env", f"KUBERNETES_SERVICE_HOST={NODE_ADDRESS}", "--env", f"KUBERNETES_SERVICE_PORT={API_PORT}",
            *arguments, self.image(name), *command,
        )  # fmt: skip
        self.started.append(name)
        if result.returncode != 0:
            raise Failed(f"{name} does not start: {result.stderr.strip()}")

    def mounted(self, name: str, security: dict, volume: dict, mount: dict) -> list:
        target = mount["mountPath"]
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"
            return ["--tmpfs", f"{target}:rw,mode=0777,size=16m"]
        if "hostPath" in volume:
            source = pathlib.Path(volume["hostPath"]["path"])
            if volume["hostPath"]["type"] == "DirectoryOrCreate":
                source = self.directory(f"host{source}")
        elif "configMap" in volume:
            source = self.directory(f"{name}/{volume['name']}")
            path = f"/api/v1/namespaces/{PODS[name][0]}/configmaps"
            found = lambda: [
                one for one in self.api("GET", path)["items"] if one["metadata"]["name"] == volume["configMap"]["name"]
            ]
            self.wait(f"the ConfigMap {volume['configMap']['name']}", found)
            for key, text in found()[0]["data"].items():
                (source / key).write_text(text)
        else:
            source = self.directory(f"{name}/{volume['name']}")
            for projected in volume["projected"]["sources"]:
                wanted = projected["serviceAccountToken"]
                self.secret(source / wanted["path"], self.token(name, wanted["audience"]), security)
        return ["--volume", f"{source}:{target}" + (":ro" if mount.get("readOnly") else "")]

    def value(self, name: str, variable: dict) -> str:
        if "value" in variable:
            return variable["value"]
        namespace, account, address = PODS[name]
        fields = {
            "metadata.name": name,
            "metadata.namespace": namespace,
            "spec.nodeName": NODE,
            "spec.serviceAccountName": account,
            "status.podIP": address,
        }
        return fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]

    def secret(self, path: pathlib.Path, text: str, security: dict):
        """With the owner and mode that the kubelet gives a token."""
        group = security.get("fsGroup", 0)
        path.write_text(text)
        os.chown(path, 0, group)
        path.chmod(0o640 if group else 0o600)

    def directory(self, path: str) -> pathlib.Path:
        directory = self.work / path
        directory.mkdir(parents=True, exist_ok=True)
        # That of the whole is for root alone; what is below is reached by the mount.
        return directory

    def stop(self, name: str):
        grace = self.containers[program(name)][0]["terminationGracePeriodSeconds"]
        self.podman("stop", "--time", str(grace), self.called(name))
        code = self.podman("inspect", "--format", "{{.State.ExitCode}}", self.called(name)).stdout.strip()
        if code != "0":
            raise Failed(f"{name} ends with exit code {code} when it is told to stop")
        self.stopped.add(name)

    # Helpers.

    def called(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def image(self, name: str) -> str:
        return f"{self.registry}/{program(name) if program(name) in MESH else 'ztctl'}:{self.tag}"

    def podman(self, *arguments):
        engine = ["podman", *os.environ.get("PODMAN_OPTIONS", "").split()]
        return subprocess.run([*engine, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def plainly(self, url: str) -> str | None:
        """The body of an answer; None without a good one."""
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def wait(self, what: str, condition):
        end = time.monotonic() + SECONDS
        while not condition():
            if self.api_server.poll() is not None:
                raise Failed(f"the API server has ended: {(self.work / 'api-server.log').read_text()}")
            for name in set(self.started) - self.stopped:
                state = self.podman("inspect", "--format", "{{.State.Status}}", self.called(name)).stdout.strip()
                if state != "running":
                    last = (self.log(name).strip().splitlines() or [""])[-1]
                    raise Failed(f"{name} has ended, not: {what}: {last}")
            if time.monotonic() > end:
                raise Failed(f"not within {SECONDS:.0f} s: {what}")
            time.sleep(0.2)
        if not self.without:
            print(f"  {what}", flush=True)

    def output(self) -> str:
        told = [f"\n--- {name}:\n{self.log(name)}" for name in self.started]
        return "".join(told)

    def log(self, name: str) -> str:
        result = self.podman("logs", self.called(name))
        return "\n".join((result.stdout + result.stderr).splitlines()[-30:])

    def remove(self):
        for name in self.started:
            self.podman("rm", "--force", "--time", "0", self.called(name))
        if self.api_server:
            self.api_server.kill()
            self.api_server.wait()
        for namespace in self.namespaces:
            run("ip", "netns", "delete", namespace)
        for uid in self.uids.values():
            for group in pathlib.Path("/sys/fs/cgroup").glob(f"**/kubepods/pod{uid}"):
                remove_group(group)
        subprocess.run(["ip", "link", "delete", "pods"], capture_output=True)


def program(name: str) -> str:
    return name.removesuffix("-new")


def remove_group(group: pathlib.Path):
    for below in group.iterdir():
        if below.is_dir():
            remove_group(below)
    end = time.monotonic() + SECONDS
    while True:
        try:
            group.rmdir()
            return
        except OSError as error:
            # What watches a container ends a little after it.
            if time.monotonic() > end:
                print(f"a control group stays: {error}", file=sys.stderr)
                return
        time.sleep(0.05)


def run(*command):
    subprocess.run(command, check=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
