"""Helm's own engine against a cluster: helm.py KUBECONFIG CHART NAMESPACE VALUES(JSON) ACTION, which prints what Helm says.

Runs in the Python environment that scripts/helm makes."""

import json
import sys

import helm_python as helm

RELEASE = "ztunnel-mesh"

kubeconfig, chart, namespace, values, action = sys.argv[1:]
with helm.Config(kubeconfig_path=kubeconfig, namespace=namespace) as cluster:
    try:
        if action == "uninstall":
            said = cluster.uninstall(RELEASE)
        elif action == "history":
            said = cluster.history(RELEASE)
        else:
            act = cluster.install if action == "install" else cluster.upgrade
            said = act(chart, RELEASE, json.loads(values), namespace=namespace)
    except helm.HelmError as error:
        sys.exit(f"helm {action}: {error}")
print(json.dumps(said))
