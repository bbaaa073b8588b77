"""How the settings of a step (fededge.task.steps) are said to Kubeflow Pipelines."""

from kfp import dsl, kubernetes

from fededge.task.steps import CaBundle, EnvironmentFrom, Proxy, StepSettings, Volume

CA_FOLDER = "/etc/fededge/ca"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""By which OpenSSL, requests (MLflow), curl and the AWS SDK are told of certificates."""
CLUSTER = ("localhost", "127.0.0.1", ".svc", ".cluster.local", ".kubeflow")
"""Hosts that a proxy outside the cluster cannot reach."""


def place(task: dsl.PipelineTask, settings: StepSettings) -> None:
    """Say `settings` for `task`; what kfp has no word for, StepSettings has no key for."""
    for value, say in (
        (settings.cpu_request, task.set_cpu_request),
        (settings.cpu_limit, task.set_cpu_limit),
        (settings.memory_request, task.set_memory_request),
        (settings.memory_limit, task.set_memory_limit),
    ):
        if value is not None:
            say(value)
    if settings.gpus is not None:
        task.set_accelerator_type(settings.gpu_type).set_accelerator_limit(settings.gpus)
    _choose_nodes(task, settings)
    if settings.pull_secrets:
        kubernetes.set_image_pull_secrets(task, settings.pull_secrets)
    if settings.pull_policy:
        kubernetes.set_image_pull_policy(task, settings.pull_policy)
    if settings.timeout_seconds is not None:
        kubernetes.set_timeout(task, settings.timeout_seconds)
    user, group, non_root = settings.run_as_user, settings.run_as_group, settings.run_as_non_root
    if (user, group, non_root) != (None, None, None):
        kubernetes.set_security_context(task, run_as_user=user, run_as_group=group, run_as_non_root=non_root)
    for name, value in sorted(settings.labels.items()):
        kubernetes.add_pod_label(task, name, value)
    for name, value in sorted(settings.annotations.items()):
        kubernetes.add_pod_annotation(task, name, value)
    for name, value in variables(settings).items():
        task.set_env_variable(name, value)
    for source in settings.environment_from:
        _take_variables(task, source)
    for number, volume in enumerate(settings.volumes):
        _mount(task, volume, f"fededge-{number}")
    if settings.ca_bundle:
        _mount_bundle(task, settings.ca_bundle)


def variables(settings: StepSettings) -> dict[str, str]:
    """The environment variables that settings say, those of proxy and certificates included."""
    found: dict[str, str] = {}
    if settings.proxy:
        found |= _proxy_variables(settings.proxy)
    if settings.ca_bundle:
        found |= dict.fromkeys(CA_VARIABLES, f"{CA_FOLDER}/{settings.ca_bundle.key}")
    return found | settings.environment


def _choose_nodes(task: dsl.PipelineTask, settings: StepSettings) -> None:
    for key, value in sorted(settings.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for affinity in settings.node_affinity:
        expressions = [each.model_dump() for each in affinity.expressions]
        kubernetes.add_node_affinity(task, match_expressions=expressions, weight=affinity.weight)
    for toleration in settings.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect,
            toleration_seconds=toleration.seconds,
        )


def _take_variables(task: dsl.PipelineTask, source: EnvironmentFrom) -> None:
    names = {key: key for key in source.keys}
    if source.secret is not None:
        kubernetes.use_secret_as_env(task, source.secret, names, optional=source.optional)
    else:
        kubernetes.use_config_map_as_env(task, str(source.config_map), names, optional=source.optional)


def _mount(task: dsl.PipelineTask, volume: Volume, name: str) -> None:
    if volume.claim is not None:
        kubernetes.mount_pvc(task, volume.claim, volume.path, volume.sub_path or "")
    elif volume.secret is not None:
        kubernetes.use_secret_as_volume(task, volume.secret, volume.path)
    elif volume.config_map is not None:
        kubernetes.use_config_map_as_volume(task, volume.config_map, volume.path)
    elif volume.empty_dir is not None:
        kubernetes.empty_dir_mount(task, name, volume.path, size_limit=volume.empty_dir)
    else:
        kubernetes.add_ephemeral_volume(
            task,
            name,
            volume.path,
            access_modes=["ReadWriteOnce"],
            size=str(volume.ephemeral),
            storage_class_name=volume.storage_class,
        )


def _mount_bundle(task: dsl.PipelineTask, bundle: CaBundle) -> None:
    if bundle.secret is not None:
        kubernetes.use_secret_as_volume(task, bundle.secret, CA_FOLDER)
    else:
        kubernetes.use_config_map_as_volume(task, str(bundle.config_map), CA_FOLDER)


def _proxy_variables(proxy: Proxy) -> dict[str, str]:
    """In upper and lower case, since programs differ in which of them they read."""
    addresses = {
        "HTTP_PROXY": proxy.http,
        "HTTPS_PROXY": proxy.https,
        "NO_PROXY": ",".join([*CLUSTER, *proxy.no_proxy]),
    }
    given = {name: value for name, value in addresses.items() if value is not None}
    return given | {name.lower(): value for name, value in given.items()}
