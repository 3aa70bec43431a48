"""As much of a cluster as the chart looks into: discovery and objects of a few kinds, read only, on loopback.

What the chart asks of it goes through Helm's own client.
"""

import http.server
import json
import threading

# API group and version, plural name, kind, whether objects are in namespaces.
KINDS = [
    ("v1", "services", "Service", True),
    ("apps/v1", "daemonsets", "DaemonSet", True),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", False),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False),
]


class Cluster:
    """Serves `objects` while it is entered; `kubeconfig` is the text of a file that names it."""

    def __init__(self, objects: list[dict]):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(answers(objects)))

    def __enter__(self) -> "Cluster":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def kubeconfig(self) -> str:
        cluster = {"server": f"http://127.0.0.1:{self.server.server_port}"}
        return json.dumps({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "somebody", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "somebody"}}],
        })


def answers(objects: list[dict]) -> dict[str, dict]:
    """What is answered to which path."""
    groups = sorted({version for version, *_ in KINDS if "/" in version})
    found = {
        "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(version) for version in groups]},
    }
    for version, plural, kind, namespaced in KINDS:
        resource = {"name": plural, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"]}
        resources = found.setdefault(root(version), {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [],
        })
        resources["resources"].append(resource)
        those = [thing for thing in objects if thing["kind"] == kind]
        listing = {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": those}
        found[f"{root(version)}/{plural}"] = listing
        for thing in those:
            where = f"/namespaces/{thing['metadata']['namespace']}" if namespaced else ""
            found[f"{root(version)}{where}/{plural}/{thing['metadata']['name']}"] = {"apiVersion": version, **thing}
    return found


def root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def group(version: str) -> dict:
    preferred = {"groupVersion": version, "version": version.split("/")[1]}
    return {"name": version.split("/")[0], "versions": [preferred], "preferredVersion": preferred}


def handler(found: dict[str, dict]) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = found.get(self.path.split("?")[0])
            code = 404 if answer is None else 200
            if answer is None:
                answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    return Handler
