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
    ({"controlPlane": {"dryRunPolicies": "some"}}, "dryRunPolicies"),
    ({"controlPlane": {"trustedNodeAccounts": ["ztunnel"]}}, "trustedNodeAccounts"),
    ({"controlPlane": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
    ({"controlPlane": {"autoscaling": {"minReplicas": 9}}}, "minReplicas is more than maxReplicas"),
    ({"nodeAgent": {"excludeNamespaces": ["a,b"]}}, "excludeNamespaces"),
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
    problems = lint() + refusals()
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
                    problems += [f"{file.stem}: {template}: {problem}" for problem in invalid(thing)]
        problems += compare(file.stem, parts, write)
    for kind in sorted(left_out):
        print(f"{kind}: not held against a schema, as it is a kind of the {FOREIGN[kind]}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print(f"{count} objects are valid in Kubernetes {' and '.join(KUBERNETES)}; {len(REFUSED)} wrong values are refused")
    return 0


def render(values: dict) -> dict[str, str]:
    with helm.Chart.load(CHART) as chart:
        parts = chart.render(values, name="ztunnel-mesh", namespace="istio-system")
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
