"""Try from inside a step what steps rely on."""

from kfp import dsl

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def check_platform() -> None:
    """Try MLflow and the blob store from where steps run; fails where one does not serve.

    Its image and its secrets are tried by the pod's start.
    """
    from fededge.delivery import readiness
    from fededge.errors import StorageError

    findings = readiness.inside()
    for finding in findings:
        print(f"fededge: {finding.check}: {finding.found}", flush=True)
    wrong = [f"{f.check}: {f.found} {f.remedy}" for f in findings if not f.good]
    if wrong:
        raise StorageError("; ".join(wrong))
