"""Lints the chart, renders it with several sets of values, and holds every object against the OpenAPI schemas of Kubernetes.

The renderings are kept in charts/rendered/, where the tests of the programs read them: with --write they are made anew,
otherwise they must be what is there. Runs in the Python environment that scripts/helm makes.
"""

import difflib
import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml
from charts_cluster import Cluster

CHART = "charts/ztunnel-mesh"
VALUES = pathlib.Path("charts/values")
RENDERED = pathlib.Path("charts/rendered")
# The oldest that the chart accepts, and the newest that is known.
KUBERNETES = ["1.31", "1.37"]
# Kinds that Kubernetes does not define, so that there is no schema here to hold them against.
FOREIGN = {"ServiceMonitor": "Prometheus operator", "PodMonitor": "Prometheus operator"}
# The lowest severity of the linter that is an error for us; below is "icon is recommended".
WARNING = 2

# Values that are refused, and what the refusal must say.
REFUSED = [
    ({"instalZtunnel": False}, "instalZtunnel"),
    ({"installZtunnel": "false"}, "installZtunnel"),
    ({"crds": {"install": "yes"}}, "'auto', 'always', 'never'"),
    ({"image": {"registry": "has space"}}, "registry"),
    ({"mesh": {"trustDomain": "Not_A_Domain"}}, "trustDomain"),
    ({"mesh": {"controlPlaneAddress": "https://istiod"}}, "controlPlaneAddress"),
    ({"mesh": {"rootNamespace": "Root"}}, "rootNamespace"),
    ({"controlPlane": {"certificateLife": "1.5h"}}, "certificateLife"),
    ({"controlPlane": {"certificateLife": "91d"}}, "certificateLife: at most 90d"),
    ({"controlPlane": {"certificateLife": "99999999999999999999d"}}, "certificateLife"),
    ({"controlPlane": {"maxCertificateLife": "1h"}}, "maxCertificateLife: not less than certificateLife"),
    ({"controlPlane": {"maxCertificateLife": "91d"}}, "maxCertificateLife"),
    ({"controlPlane": {"serverNames": ["https://istiod"]}}, "serverNames"),
    ({"mesh": {"clusterId": "a: b"}}, "clusterId"),
    ({"mesh": {"clusterId": ""}}, "clusterId"),
    ({"mesh": {"network": "a b"}}, "network"),
    ({"mesh": {"caAddress": "ca.example.com"}}, "caAddress"),
    ({"controlPlane": {"dryRunPolicies": "some"}}, "dryRunPolicies"),
    ({"controlPlane": {"trustedNodeAccounts": ["ztunnel"]}}, "trustedNodeAccounts"),
    ({"controlPlane": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
    ({"controlPlane": {"autoscaling": {"minReplicas": 9}}}, "minReplicas is more than maxReplicas"),
    ({"nodeAgent": {"excludeNamespaces": ["a,b"]}}, "excludeNamespaces"),
    ({"nodeAgent": {"maxUnavailable": 0}}, "maxUnavailable"),
    ({"nodeAgent": {"maxUnavailable": "0%"}}, "maxUnavailable"),
    ({"nodeAgent": {"maxUnavailable": "101%"}}, "maxUnavailable"),
    ({"ztunnel": {"name": "ztunnel-node-agent"}}, "name of another part"),
    ({"ztunnel": {"name": "ztunnel-control-plane"}}, "name of another part"),
    ({"ztunnel": {"terminationGracePeriodSeconds": "30s"}}, "terminationGracePeriodSeconds"),
    ({"ztunnel": {"stateDirectory": "var/lib"}}, "stateDirectory"),
    ({"ztunnel": {"outboundPolicy": "DENY"}}, "outboundPolicy"),
    ({"ztunnel": {"updateStrategy": {"maxUnavailable": 1}}}, "maxUnavailable 0"),
    ({"ztunnel": {"updateStrategy": {"maxSurge": 0}}}, "more than 0"),
    ({"ztunnel": {"env": {"not a name": "x"}}}, "not a name"),
    ({"cniPlugin": {"enabled": True}}, "no CNI plugin yet"),
    ({"probes": {"enabled": True}}, "not let through under STRICT yet"),
    ({"installControlPlane": False, "installNodeAgent": False, "installZtunnel": False}, "nothing is to be installed"),
]


def main() -> int:
    write = sys.argv[1:] == ["--write"]
    if sys.argv[1:] and not write:
        print("usage: charts [--write]", file=sys.stderr)
        return 2
    problems = lint() + refusals() + in_clusters()
    if not invalid({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}}):
        problems.append("the schemas of Kubernetes accept a field that there is not")
    left_out = set()
    count = 0
    for file in sorted(VALUES.glob("*.yaml")):
        values = yaml.safe_load(file.read_text()) or {}
        parts = render(values)
        problems += definitions(file.stem, values, parts)
        for template, text in parts.items():
            if template.endswith("NOTES.txt"):
                continue
            for thing in objects(text):
                count += 1
                if thing["kind"] in FOREIGN:
                    left_out.add(thing["kind"])
                else:
                    problems += [f"{file.stem}: {template}: {problem}" for problem in invalid(thing) + twice(thing)]
        problems += named_by_digits(file.stem, values)
        problems += compare(file.stem, parts, write)
    for kind in sorted(left_out):
        print(f"{kind}: not held against a schema, as it is a kind of the {FOREIGN[kind]}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print(f"{count} objects are valid in Kubernetes {' and '.join(KUBERNETES)}; {len(REFUSED)} wrong values are refused")
    return 0


def render(values: dict, name: str = "ztunnel-mesh", namespace: str = "istio-system", cluster: Cluster | None = None) -> dict[str, str]:
    """What the chart gives, by template; without a cluster it finds nothing where it looks into it."""
    with helm.Chart.load(CHART) as chart:
        if cluster is None:
            parts = chart.render(values, name=name, namespace=namespace)
        else:
            with helm.Config(kubeconfig_content=cluster.kubeconfig, namespace=namespace) as config:
                parts = config.render(chart, values, name=name, namespace=namespace)
    return {name.removeprefix("ztunnel-mesh/templates/"): text for name, text in parts.items()}


def objects(text: str) -> list[dict]:
    return [thing for thing in yaml.safe_load_all(text) if thing]


def lint() -> list[str]:
    found = helm.lint(CHART)
    bad = [message["error"] for message in found["messages"] if message["severity"] >= WARNING]
    return [f"helm lint: {problem}" for problem in bad + found["errors"]]


def refusals() -> list[str]:
    problems = []
    for values, expected in REFUSED:
        try:
            render(values)
            problems.append(f"{values} is accepted")
        except helm.HelmError as error:
            if expected not in str(error):
                problems.append(f"{values}: the refusal does not say {expected!r}: {error}")
    return problems


def invalid(thing: dict) -> list[str]:
    problems = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            problems.append(f"{thing['kind']} in Kubernetes {version}: {path}: {error.message}")
    return problems


def twice(thing: dict) -> list[str]:
    """Variables that a container has twice, which server-side apply refuses."""
    problems = []
    for container in thing.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        names = [variable["name"] for variable in container.get("env", [])]
        problems += [f"{thing['kind']}: {name} is set twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return problems


def named_by_digits(name: str, values: dict) -> list[str]:
    """Names of releases and namespaces may be nothing but digits, and must stay text."""
    parts = render(values, name="1", namespace="2")
    things = [thing for text in (text for part, text in parts.items() if not part.endswith("NOTES.txt")) for thing in objects(text)]
    problems = [problem for thing in things if thing["kind"] not in FOREIGN for problem in invalid(thing)]
    problems += [f"{thing['kind']}: {text!r} is no text" for thing in things for text in names(thing) if not isinstance(text, str)]
    return [f"{name}, release 1 in namespace 2: {problem}" for problem in problems]


def names(thing: dict) -> list:
    metadata = thing["metadata"]
    labels = [*metadata.get("labels", {}).values(), *metadata.get("annotations", {}).values()]
    return [metadata["name"], metadata.get("namespace", ""), *labels]


def in_clusters() -> list[str]:
    """What the chart makes of what it finds in a cluster: objects there, values, and what the refusal must say, or nothing."""
    agent = {"kind": "DaemonSet", "metadata": {"name": "istio-cni-node", "namespace": "kube-system"}}
    istiod = {"kind": "ClusterRole", "metadata": {"name": "istiod-clusterrole-istio-system"}}
    elsewhere = {"kind": "ClusterRole", "metadata": {"name": "ztunnel-control-plane-istio-system"}}
    own = {"kind": "ClusterRole", "metadata": {"name": "ztunnel-control-plane-mesh"}}
    only_ztunnel = {"installControlPlane": False, "installNodeAgent": False}
    problems = []
    for there, values, expected in [
        ([], {}, None),
        ([own], {}, None),
        ([agent], {}, "istio-cni-node in kube-system"),
        ([agent], {"installNodeAgent": False}, None),
        ([istiod], {}, "ClusterRole istiod-clusterrole-istio-system"),
        ([own, elsewhere], {}, "ClusterRole ztunnel-control-plane-istio-system"),
        ([istiod, elsewhere], {"controlPlane": {"besideOthers": True}}, None),
        ([istiod, agent], only_ztunnel, None),
    ]:
        with Cluster(there) as cluster:
            try:
                render(values, namespace="mesh", cluster=cluster)
                said = None
            except helm.HelmError as error:
                said = str(error)
        if said != expected and (said is None or expected is None or expected not in said):
            problems.append(f"where there is {there}, {values}: {expected!r} is expected, and there is {said!r}")
    return problems + owners()


def owners() -> list[str]:
    """Definitions of others are left alone; also those that another release of this name left behind in another namespace."""
    problems = []
    for owner, expected in [
        ({"meta.helm.sh/release-name": "ztunnel-mesh", "meta.helm.sh/release-namespace": "mesh"}, True),
        ({"meta.helm.sh/release-name": "ztunnel-mesh", "meta.helm.sh/release-namespace": "istio-system"}, False),
        ({"meta.helm.sh/release-name": "istio-base", "meta.helm.sh/release-namespace": "mesh"}, False),
        (None, False),
    ]:
        name = "peerauthentications.security.istio.io"
        metadata = {"name": name} if owner is None else {"name": name, "annotations": owner}
        with Cluster([{"kind": "CustomResourceDefinition", "metadata": metadata}]) as cluster:
            parts = render({}, namespace="mesh", cluster=cluster)
        made = [thing["metadata"]["name"] for thing in objects(parts["crds.yaml"])]
        if (name in made) != expected:
            problems.append(f"the definition of {owner}: {expected} is expected")
        # Whoever installs is told what is not kept up to date.
        if (f"crd {name}" in parts["NOTES.txt"]) == expected:
            problems.append(f"the notes, where the definition is of {owner}")
    return problems


def definitions(name: str, values: dict, parts: dict[str, str]) -> list[str]:
    """Definitions are there exactly where they are wanted, and stay when the release goes."""
    wanted = values.get("crds", {}).get("install", "auto") != "never"
    there = objects(parts["crds.yaml"])
    problems = []
    if len(there) != (len(list(pathlib.Path(CHART, "files/crds").iterdir())) if wanted else 0):
        problems.append(f"{name}: {len(there)} custom resource definitions")
    for definition in there:
        if definition["metadata"]["annotations"].get("helm.sh/resource-policy") != "keep":
            problems.append(f"{definition['metadata']['name']} would be removed by helm uninstall")
    return problems


def compare(name: str, parts: dict[str, str], write: bool) -> list[str]:
    """All but the definitions, which are the files of the chart as they are."""
    sections = []
    for template, text in sorted(parts.items()):
        if template.endswith("NOTES.txt"):
            sections.append("\n".join(f"# {line}".rstrip() for line in text.strip().splitlines()) + "\n")
        elif template != "crds.yaml" and objects(text):
            text = "\n".join(line.rstrip() for line in text.strip().removeprefix("---").strip().splitlines())
            sections.append(f"---\n# {template}\n{text}\n")
    rendered = "".join(sections)
    file = RENDERED / f"{name}.yaml"
    if write:
        RENDERED.mkdir(exist_ok=True)
        file.write_text(rendered)
        return []
    kept = file.read_text() if file.exists() else ""
    if kept == rendered:
        return []
    difference = "\n".join(difflib.unified_diff(kept.splitlines(), rendered.splitlines(), str(file), "rendered", lineterm=""))
    return [f"{file} is not what the chart gives; run scripts/charts --write and look at the difference:\n{difference}"]


if __name__ == "__main__":
    sys.exit(main())
