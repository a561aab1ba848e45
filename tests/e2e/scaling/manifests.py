"""Checks Kubernetes manifests: each by the schemas of the versions below, and what one of them says of another.

Arguments: the file, and a directory that gets what a test carries out: the configuration, and the container's command and its
hook with a zero byte behind each word.
"""

import pathlib
import re
import sys

import kubernetes_validate
import yaml

# The oldest with pods that serve while they are being ended, and the newest that the schemas know.
VERSIONS = ["1.28", kubernetes_validate.latest_version()]

file, out = sys.argv[1:]
documents = [document for document in yaml.safe_load_all(pathlib.Path(file).read_text()) if document]
for document in documents:
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)
kinds = {document["kind"]: document for document in documents}
assert len(kinds) == len(documents) == 4, list(kinds)

deployment, service = kinds["Deployment"]["spec"], kinds["Service"]["spec"]
pod = deployment["template"]["spec"]
labels = deployment["template"]["metadata"]["labels"]
(container,) = pod["containers"]
configuration = kinds["ConfigMap"]["data"]["front.conf"]

# Everybody means these pods.
assert deployment["selector"]["matchLabels"] == labels
assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
assert service["selector"] == labels
for constraint in pod["topologySpreadConstraints"]:
    assert constraint["labelSelector"]["matchLabels"] == labels

# Ports are named where they are opened, and the front opens them.
ports = {port["name"]: port["containerPort"] for port in container["ports"]}
used = [port["targetPort"] for port in service["ports"]]
used += [container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")]
assert set(used) == set(ports), (used, ports)
listening = {int(port) for port in re.findall(r"^\s*listen (\d+)", configuration, re.MULTILINE)}
assert listening == set(ports.values()), (listening, ports)

# What is mounted exists, and files that are named are in it.
volumes = {volume["name"]: volume for volume in pod["volumes"]}
mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
assert set(volumes) == set(mounts)
assert volumes["config"]["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
assert f'{mounts["config"]}/front.conf' in container["command"]
assert f'{mounts["tls"]}/tls.crt;' in configuration and f'{mounts["tls"]}/tls.key;' in configuration

# A pod that is drained is not killed before it is done.
environment = {variable["name"]: variable["value"] for variable in container["env"]}
(shutdown,) = re.findall(r"^\s*worker_shutdown_timeout (\d+)s;", configuration, re.MULTILINE)
needed = int(environment["DRAIN_DELAY"]) + int(shutdown)
assert pod["terminationGracePeriodSeconds"] >= needed + 5, needed

out = pathlib.Path(out)
(out / "front.conf").write_text(configuration)
for name, words in {
    "command": container["command"],
    "hook": container["lifecycle"]["preStop"]["exec"]["command"],
}.items():
    (out / name).write_text("".join(f"{word}\0" for word in words))
print(*kinds)
