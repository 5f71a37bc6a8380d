"""Renders and checks the chart of photogate: see scripts/chart."""

import copy
import json
import pathlib
import re
import shutil
import sys
import tempfile
import urllib.parse

import helm_python as helm
import jsonschema
import kubernetes_validate
import yaml

CHART = pathlib.Path("deploy/chart")
# The oldest version of Kubernetes that Chart.yaml names, and the newest whose schemas there are.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
SCALED_OBJECT = json.loads(pathlib.Path("deploy/schemas/scaledobject.json").read_text())
PART = "app.kubernetes.io/component"
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def constant(file, name):
    return int(re.search(rf"{name}: \w+ = (\d+)", pathlib.Path(file).read_text())[1])


# Memory beside that of the children that look at photos: fetched photos, turned photos, and the process itself.
BESIDE_CHILDREN_MIB = (constant("src/catalog/photo_store.rs", "IN_MEMORY_MIB")
                       + constant("src/sandbox/protocol.rs", "BODY_MAX_MIB") + 256)
IDLE_CHILD_MIB = 150


def rendered(chart, values):
    """The objects that an install makes, and those of the hooks."""
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name="club", namespace="events")
    found = []
    for name, text in files.items():
        if name.endswith(".yaml"):
            found += [made for made in yaml.safe_load_all(text) if made]
    return found


def pod_of(thing):
    return thing["spec"]["template"] if thing["kind"] in ("Deployment", "Job") else None


def troubles(objects, values):
    """What is wrong with these objects, which come of these values, a line each."""
    unfit = [f"{thing.get('kind')}: {text}" for thing in objects for text in schema_troubles(thing)]
    if unfit:
        # What follows relies on the shape.
        yield from unfit
        return
    yield from (f"two objects are {twice}" for twice in twice_in(objects))
    pods = [(thing, pod_of(thing)) for thing in objects if pod_of(thing)]
    accounts = {thing["metadata"]["name"] for thing in objects if thing["kind"] == "ServiceAccount"}
    made_here = any(thing["kind"] == "ServiceAccount" for thing in objects)
    for thing, pod in pods:
        name = f"{thing['kind']} {thing['metadata']['name']}"
        yield from (f"{name}: {text}" for text in pod_troubles(pod))
        own = pod["spec"].get("serviceAccountName")
        is_hook = "helm.sh/hook" in thing["metadata"].get("annotations", {})
        # What is made with the release is not there for a hook before it.
        of_workers = values["workers"]["serviceAccount"]
        is_made_elsewhere = own == of_workers["name"] and not of_workers["create"]
        if made_here and not is_made_elsewhere and ((own in accounts) == is_hook):
            yield f"{name}: its service account is {own}"
        if thing["kind"] == "Deployment" and not fits(thing["spec"]["selector"], pod):
            yield f"{name}: its selector does not fit its own pods"
    yield from reference_troubles(objects, pods)
    yield from network_troubles(objects, pods, values)
    for thing, pod in pods:
        name = f"{thing['kind']} {thing['metadata']['name']}"
        yield from (f"{name}: {text}" for text in value_troubles(pod, values))


def direct(database):
    """Where the migration finds PostgreSQL."""
    return database["direct"] if database["direct"]["host"] else database


def value_troubles(pod, values):
    """What a pod has not that the values say."""
    spec, part = pod["spec"], pod["metadata"]["labels"][PART]
    container = spec["containers"][0]
    database = values["database"]
    login = database[{"migration": "migrationLogin", "service": "serviceLogin"}.get(part, "workerLogin")]
    address = next(each["value"] for each in container["env"] if each["name"] == "DATABASE_URL")
    parsed = urllib.parse.urlsplit(address)
    # As sqlx reads it: + is a plus.
    found = [urllib.parse.unquote(text) for text in (parsed.username, parsed.path.removeprefix("/"))]
    if found != [login, database["name"]]:
        yield f"its address of PostgreSQL is for {found}"
    at = direct(database) if part == "migration" else database
    if (parsed.hostname, parsed.port) != (at["host"], at["port"]):
        yield f"its PostgreSQL is at {parsed.netloc.split('@')[-1]}"
    account = values["workers"]["serviceAccount"]["name"]
    if account and (spec["serviceAccountName"] == account) != (part in ("worker", "keeper")):
        yield f"its account is {spec['serviceAccountName']}"
    for more, where in [("extraEnv", container["env"]), ("extraVolumes", spec["volumes"]),
                        ("extraVolumeMounts", container["volumeMounts"])]:
        if not all(each in where for each in values[more]):
            yield f"it has not {more}"
    own = values["workers" if part in ("worker", "keeper") else part]
    for field in ("nodeSelector", "tolerations", "affinity"):
        if spec.get(field, type(own[field])()) != own[field]:
            yield f"its {field} is {spec.get(field)}"
    if part == "migration":
        migration = values["migration"]
        logins = ["--worker-login", database["workerLogin"], "--service-login", database["serviceLogin"]]
        logins += ["--change-passwords"] * migration["changePasswords"]
        wanted = ["migrate", *logins * migration["makeLogins"], *["--stopped"] * migration["stopped"], "--json"]
        if container["args"] != wanted:
            yield f"its arguments are {container['args']}"


def schema_troubles(thing):
    if str(thing.get("apiVersion", "")).startswith("keda.sh/"):
        for error in jsonschema.Draft202012Validator(SCALED_OBJECT).iter_errors(thing):
            yield f"{error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError):
            yield f"Kubernetes {version} has no {thing.get('kind')} in {thing.get('apiVersion')}"


def twice_in(objects):
    seen = set()
    for thing in objects:
        name = (thing["kind"], thing["metadata"]["name"])
        if name in seen:
            yield name
        seen.add(name)


def pod_troubles(pod):
    """What is promised of every pod."""
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    for field, value in [("runAsNonRoot", True), ("runAsUser", 10001), ("seccompProfile", {"type": "RuntimeDefault"})]:
        if security.get(field) != value:
            yield f"its securityContext has {field} {security.get(field)}"
    if spec.get("automountServiceAccountToken") is not False:
        yield "it has a token for Kubernetes"
    if spec.get("nodeSelector", {}).get("kubernetes.io/arch") != "amd64":
        yield "it may be placed where its image does not run"
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("readOnlyRootFilesystem") is not True:
            yield "it may gain rights, or write to its root"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "it has capabilities"
        limits = container.get("resources", {})
        if "memory" not in limits.get("limits", {}) or "memory" not in limits.get("requests", {}):
            yield "its memory is not bounded"
        image = container["image"]
        if ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"):
            yield f"its image {image} is not pinned"
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"it mounts {mount['name']}, which is no volume"
        if "/tmp" not in [mount["mountPath"] for mount in mounts]:
            yield "it cannot write to /tmp"
        names = [variable["name"] for variable in container.get("env", [])]
        if len(names) != len(set(names)):
            yield f"variables are there twice: {sorted(name for name in names if names.count(name) > 1)}"
        yield from environment_troubles(container)
        if container["args"][0] in ("work", "serve"):
            yield from memory_troubles(container)
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if container.get(probe, {}).get("httpGet", {}).get("port") not in ports:
                    yield f"it has no {probe}"
            drain = next((int(each["value"]) for each in container["env"]
                          if each["name"] == "PHOTOGATE_DRAIN_SECONDS"), 25)
            # The notice to proxies, the drain, and handing back.
            if spec.get("terminationGracePeriodSeconds", 30) < drain + 15:
                yield f"it is killed before its drain of {drain} s ends"


def memory_troubles(container):
    """If the limit is too low, the kernel ends the whole container when photos are large."""
    variables = {each["name"]: each.get("value") for each in container["env"]}

    def setting(name, otherwise):
        return int(variables.get(f"PHOTOGATE_{name}") or 0) or otherwise

    slots = setting("SLOTS", None)
    if slots is None:
        # As many as there are cores, which nobody knows here.
        return
    needed = (slots * setting("PHOTO_MEMORY_MEGABYTES", 1536) + setting("IDLE_CHILDREN", 4 * slots) * IDLE_CHILD_MIB
              + BESIDE_CHILDREN_MIB)
    limit = container["resources"]["limits"]["memory"]
    amount, unit = re.fullmatch(r"(\d+)(Mi|Gi)", limit).groups()
    if int(amount) * {"Mi": 1, "Gi": 1024}[unit] < needed:
        yield f"it may take {needed} MiB of memory, and has {limit}"


def environment_troubles(container):
    for variable in container.get("env", []):
        value = variable.get("value")
        if value is not None and re.fullmatch(r"[0-9.]+e\+[0-9]+", value):
            yield f"{variable['name']} is {value}"
        if re.search("PASSWORD|SECRET", variable["name"]) and value is not None:
            yield f"{variable['name']} is not from a Secret"
        if variable["name"] == "DATABASE_URL":
            if not re.fullmatch(r"postgres://[^:@/ ]+@[^:@/ ]+:\d+/[^? ]+\?sslmode=[a-z-]+(&sslrootcert=/\S+)?", value):
                yield f"DATABASE_URL is {value}"


def fits(selector, pod):
    labels = pod["metadata"]["labels"]
    for rule in selector.get("matchExpressions", []):
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    wanted = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    return all(labels.get(label) == value for label, value in wanted.items())


def reference_troubles(objects, pods):
    """Names that lead to another object of the chart."""
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    for thing in objects:
        kind, spec = thing["kind"], thing.get("spec", {})
        name = f"{kind} {thing['metadata']['name']}"
        if len(thing["metadata"]["name"]) > 63:
            yield f"{name}: its name is too long"
        if kind == "Secret":
            yield f"{name}: the chart must hold no secrets"
        if kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            selector = spec["podSelector"] if kind == "NetworkPolicy" else spec["selector"]
            chosen = [pod for _, pod in pods if fits(selector, pod)]
            if not chosen:
                yield f"{name}: it selects no pods"
            if kind == "Service":
                ports = {port["name"] for pod in chosen for port in pod["spec"]["containers"][0].get("ports", [])}
                for port in spec["ports"]:
                    if port["targetPort"] not in ports:
                        yield f"{name}: no pod has the port {port['targetPort']}"
        if kind == "ScaledObject":
            if ("Deployment", spec["scaleTargetRef"]["name"]) not in names:
                yield f"{name}: there is no Deployment {spec['scaleTargetRef']['name']}"
            for trigger in spec["triggers"]:
                asked = re.match(r"http://([^.]+)\.events\.svc:", trigger["metadata"].get("url", ""))
                if asked and ("Service", asked[1]) not in names:
                    yield f"{name}: there is no Service {asked[1]}"
                if "photogate_funded_backlog_photos" not in json.dumps(trigger):
                    yield f"{name}: it does not look at the backlog"
                if trigger["type"] == "prometheus" and '{namespace="events"}' not in trigger["metadata"]["query"]:
                    yield f"{name}: it looks at the backlog of others"
        if kind == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    if ("Service", path["backend"]["service"]["name"]) not in names:
                        yield f"{name}: there is no such Service"


# The rules of networkPolicy.egress by which pods may connect.
EVERYBODY = ["dns", "database"]
SERVICE = [*EVERYBODY, "redis", "store", "roles", "traces"]
WORKERS = [*SERVICE, "mail", "webhooks"]
RULES = {"migration": EVERYBODY, "service": SERVICE, "worker": WORKERS, "keeper": WORKERS}


def network_troubles(objects, pods, values):
    policies = [thing for thing in objects if thing["kind"] == "NetworkPolicy"]
    if not policies:
        return
    for thing, pod in pods:
        own = [policy["spec"] for policy in policies if fits(policy["spec"]["podSelector"], pod)]
        name = f"{thing['kind']} {thing['metadata']['name']}"
        closed = [spec for spec in own if not spec.get("egress") and not spec.get("ingress")]
        if pod["metadata"]["labels"][PART] != "migration" and not closed:
            yield f"{name}: it is open"
        part = pod["metadata"]["labels"][PART]
        at = direct(values["database"]) if part == "migration" else values["database"]
        said = merged(values["networkPolicy"]["egress"], {"database": {"ports": [at["port"]]}})
        wanted = [(port, said[rule]["to"]) for rule in RULES[part] for port in said[rule]["ports"]]
        open_ = [(port["port"], rule.get("to", [])) for spec in own for rule in spec.get("egress", [])
                 for port in rule["ports"] if port["protocol"] == "TCP"]
        yield from (f"{name}: it cannot reach port {port} of {to}" for port, to in wanted if (port, to) not in open_)
        yield from (f"{name}: it can reach port {port} of {to}" for port, to in open_ if (port, to) not in wanted)
        dns = {port["port"] for spec in own for rule in spec.get("egress", []) for port in rule["ports"]
               if port["protocol"] == "UDP"}
        if dns != set(said["dns"]["ports"]):
            yield f"{name}: it asks DNS at {dns}"
        if (443, []) in open_:
            yield f"{name}: it can reach port 443 of every address"
        read = [rule.get("from") for spec in own for rule in spec.get("ingress", []) for port in rule["ports"]
                if port["port"] == "metrics"]
        if part != "migration" and read != [values["networkPolicy"]["metricsFrom"]]:
            yield f"{name}: its metrics are read by {read}"


# Values that are refused, and a part of what is said.
REFUSED = [
    ({"image": {"repository": ""}}, "image.repository is empty"),
    ({"image": {"repository": "registry.example.org/photogate:1"}}, "repository"),
    ({"database": {"host": ""}}, "database.host is empty"),
    ({"database": {"host": "anna:geheim@db"}}, "host"),
    ({"database": {"sslMode": "verify"}}, "sslMode"),
    ({"database": {"workerLogin": "photogate_worker"}}, "workerLogin"),
    ({"secrets": {"workerPassword": {"name": ""}}}, "secrets.workerPassword.name is empty"),
    ({"secrets": {"workerPassword": "geheim"}}, "workerPassword"),
    ({"store": {"url": ""}}, "store.url is empty"),
    ({"store": {"url": "ftp://photos"}}, "url"),
    ({"store": {"url": "file:///photos"}}, "store.existingClaim is empty"),
    *[({"store": {"environment": {name: "geheim"}}}, f"store.environment.{name} may be a secret") for name in [
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AWS_SSE_CUSTOMER_KEY_BASE64",
        "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_ENCRYPTION_KEY", "AZURE_FABRIC_SESSION_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN"]],
    ({"store": {"environment": {"PATH": "/"}}}, "PATH"),
    ({"settings": {"slot": 4}}, "slot"),
    ({"settings": {"slots": "four"}}, "slots"),
    ({"settings": {"worker_password": "geheim"}}, "worker_password"),
    ({"workers": {"replica": 2}}, "replica"),
    ({"workers": {"serviceAccount": {"name": "club-photogate"}}}, "is the service's account"),
    ({"workers": {"replicas": "two"}}, "replicas"),
    ({"workers": {"autoscaling": {"photosPerWorker": 0}}}, "photosPerWorker"),
    ({"migration": {"changePasswords": "yes"}}, "changePasswords"),
    ({"ingress": {"enabled": True, "host": "photos.example.org"}}, "ingress.tlsSecret is empty"),
    ({"networkPolicy": {"egress": {"database": {"ports": [5432]}}, "open": True}}, "open"),
]

# Ways to break the chart: the file, what stands there, what is put in its place, and a part of what is found.
BREAKS = [
    ("service.yaml", "readinessProbe:", "readinesProbe:", "readinesProbe"),
    ("service.yaml", "replicas: {{ .Values.service.replicas }}", 'replicas: "two"', "is not of type"),
    ("service.yaml", "targetPort: http }", "targetPort: https }", "no pod has the port https"),
    ("service.yaml", "kind: PodDisruptionBudget", "kind: PodDisruptionBudge", "has no PodDisruptionBudge in"),
    ("service.yaml", "policy/v1", "policy/v1beta1", "has no PodDisruptionBudget in policy/v1beta1"),
    ("service.yaml", "periodSeconds: 5", "periodSeconds: 5s", "is not of type"),
    ("workers.yaml", "maxUnavailable: {{ $workers.maxUnavailable }}\n  selector:\n    matchLabels:",
     "maxUnavailable: 1\n  selector:\n    matchLabels:\n      of: another", "it selects no pods"),
    ("workers.yaml", "scaleTargetRef:\n    name: {{ $name }}", "scaleTargetRef:\n    name: x", "no Deployment x"),
    ("workers.yaml", "cooldownPeriod:", "coolDownPeriod:", "coolDownPeriod"),
    ("workers.yaml", "targetValue: {{ include \"photogate.text\" $workers.autoscaling.photosPerWorker }}",
     "targetValue: {{ $workers.autoscaling.photosPerWorker }}", "is not of type"),
    ("workers.yaml", "valueLocation: photogate_funded_backlog_photos", "valueLocation: photogate_photos", "backlog"),
    ("migration.yaml", "serviceAccountName: default", "serviceAccountName: club-photogate", "its service account"),
    ("_helpers.tpl", "include \"photogate.workerAccountName\" .root", "include \"photogate.serviceAccountName\" .root",
     "its account is"),
    ("serviceaccount.yaml", "{{- if and .create .name }}", "{{- if and .create .names }}", "its service account is"),
    ("migration.yaml", "(include \"photogate.direct\" . | fromYaml)", ".Values.database", "its PostgreSQL is at"),
    ("networkpolicies.yaml", "(include \"photogate.direct\" . | fromYaml).port", ".Values.database.port",
     "cannot reach port 5432"),
    ("_helpers.tpl", "  runAsNonRoot: true\n", "", "runAsNonRoot"),
    ("_helpers.tpl", "    type: RuntimeDefault", "    type: Unconfined", "seccompProfile"),
    ("_helpers.tpl", "readOnlyRootFilesystem: true\n", "", "write to its root"),
    ("_helpers.tpl", "  drop: [ALL]", "  drop: [CHOWN]", "capabilities"),
    ("_helpers.tpl", "automountServiceAccountToken: false\n", "", "a token"),
    ("_helpers.tpl", "{{- int64 . | toString | quote -}}", "{{- toString . | quote -}}", "e+06"),
    ("_helpers.tpl", "- name: temporary\n  mountPath: /tmp\n", "", "cannot write to /tmp"),
    ("_helpers.tpl", "\"drain_seconds\")) 20", "\"drain_seconds\")) 5", "is killed before its drain"),
    ("_helpers.tpl", "path: {{ .root.Values.database.ca.key", "pat: {{ .root.Values.database.ca.key",
     "'path' is a required"),
    ("networkpolicies.yaml", "-closed", "-service", "two objects are"),
    ("networkpolicies.yaml", "values: [worker, keeper]", "values: [worker]", "cannot reach port 6432"),
    ("serviceaccount.yaml", "automountServiceAccountToken: false",
     "---\napiVersion: v1\nkind: Secret\nmetadata: { name: x }", "must hold no secrets"),
    ("networkpolicies.yaml", "(list (int .Values.database.port))", "(list 5432)", "cannot reach port 5433"),
    ("networkpolicies.yaml", "\"traces\" \"mail\" \"webhooks\"", "\"traces\" \"webhooks\"", "cannot reach port 587"),
    ("networkpolicies.yaml", "\"store\" \"roles\" \"traces\" }}", "\"store\" \"roles\" \"mail\" }}", "can reach port 465"),
    ("networkpolicies.yaml", "  {{- with .rule.to }}", "  {{- with .rule.of }}", "can reach port 443 of every address"),
    ("networkpolicies.yaml", "port: metrics }\n      from:", "port: http }\n      from:", "its metrics are read by"),
    ("_helpers.tpl", "replace \"+\" \"%20\"", "replace \"+\" \"+\"", "'a+worker'"),
    ("_helpers.tpl", "{{- with .root.Values.extraVolumes }}", "{{- with .root.Values.extraVolume }}", "not extraVolumes"),
    ("_helpers.tpl", "{{- with .part.nodeSelector }}", "{{- with .part.nodes }}", "where its image does not run"),
    ("_helpers.tpl", "{{- with .part.tolerations }}", "{{- with .part.tolerates }}", "its tolerations is"),
    ("migration.yaml", "{{- with .Values.extraEnv }}", "{{- with .Values.moreEnv }}", "not extraEnv"),
    ("migration.yaml", "--change-passwords", "--change-password", "its arguments are"),
    ("migration.yaml", "            - --json\n", "", "its arguments are"),
    ("workers.yaml", "backlog_photos{namespace=%q}", "backlog_photos{job=%q}", "the backlog of others"),
    ("workers.yaml", "\"ahead\" \"idle_children\"", "\"ahead\"", "MiB of memory, and has 3Gi"),
]


def merged(one, other):
    one = copy.deepcopy(one)
    for name, value in other.items():
        both = isinstance(value, dict) and isinstance(one.get(name), dict)
        one[name] = merged(one[name], value) if both else value
    return one


def value_sets():
    sets = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").glob("*.yaml"))}
    assert len(sets) >= 4, "there are no values to render"
    return sets


def found_in(chart, sets):
    for name, values in sets.items():
        try:
            objects = rendered(chart, values)
        except (helm.HelmError, yaml.YAMLError) as error:
            yield f"{name}: {error}"
            continue
        yield from (f"{name}: {text}" for text in troubles(objects, merged(DEFAULTS, values)))


def lint(sets):
    for name, values in sets.items():
        for message in helm.lint(CHART, values, strict=True)["messages"]:
            # Helm would like an icon.
            if message["severity"] >= 2:
                yield f"{name}: helm lint: {message}"


def not_refused(sets):
    for values, said in REFUSED:
        try:
            rendered(CHART, merged(sets["smallest"], values))
            yield f"{values} was not refused"
        except helm.HelmError as error:
            if said not in str(error):
                yield f"{values} was refused without a word of {said!r}: {error}"


def not_found(sets):
    for name, text, other, said in BREAKS:
        with tempfile.TemporaryDirectory() as place:
            chart = pathlib.Path(place, "chart")
            shutil.copytree(CHART, chart)
            file = chart / "templates" / name
            if text not in file.read_text():
                yield f"{name} has no {text!r} that could be broken"
                continue
            file.write_text(file.read_text().replace(text, other))
            if not any(said in line for line in found_in(chart, sets)):
                yield f"{name} with {other!r} in place of {text!r} was not found"


def main():
    sets = value_sets()
    if sys.argv[1:2] == ["show"]:
        print(yaml.safe_dump_all(rendered(CHART, sets[sys.argv[2]]), sort_keys=False))
        return
    wrong = [*lint(sets), *found_in(CHART, sets)]
    if not wrong:
        wrong = [*not_refused(sets), *not_found(sets)]
    if wrong:
        sys.exit("\n".join(wrong))
    objects = sum(len(rendered(CHART, values)) for values in sets.values())
    print(f"{objects} objects of {len(sets)} sets of values fit Kubernetes {' and '.join(VERSIONS)}; "
          f"{len(REFUSED)} wrong values were refused, {len(BREAKS)} broken charts found")


main()
