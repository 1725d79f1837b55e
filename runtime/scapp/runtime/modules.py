"""From a deployment to what runs it: checked modules shared between channels, kernels over them, manifests.

`deployments.py` keeps the bytes; `compose.py` hands these functions to admission and to the derivation worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from scapp.channels.admission import AdmissionError, ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import ABI, Deployment, Limits, deployment_id
from scapp.channels.errors import ScappError
from scapp.reducers.manifest import Manifest
from scapp.runtime.deployments import DeploymentStore
from scapp.runtime.kernel import Kernel, KernelFault
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native.kernel import NativeKernel

KERNELS = {"scapp_1": NativeKernel}
"""By ABI version, which pins what a kernel does: a change that could change a root is a new version, and the kernels of
old ones stay."""


def kernel_maker(
    module_for: Callable[[Deployment], CheckedModule],
    *,
    track: bool,
    projection: bool = False,
    cache_folder: Path | None = None,
) -> Callable[[ChannelContext], Kernel]:
    """Makes a channel's kernel, with no entries applied, over its module; raises AdmissionError. `track`: whether it
    gathers changes, which derivation takes from it and admission would only heap up. `cache_folder` keeps compiled
    code.

    `projection`: outcomes are ignored. `module_for` raises LookupError, ScappError or OSError. Which implementation
    of the kernel runs is decided here."""

    def kernel_for(context: ChannelContext) -> Kernel:
        identity = deployment_id(context.deployment).hex()
        try:
            kernel = KERNELS.get(context.deployment.abi)
            if kernel is None:
                raise LookupError(f"its ABI is {context.deployment.abi!r}; known are {', '.join(KERNELS)}")
            return kernel(
                module_for(context.deployment),
                context,
                track=track,
                projection=projection,
                cache_folder=cache_folder,
            )
        except LookupError as error:
            raise AdmissionError(f"deployment 0x{identity} is not known here: {error}") from None
        except (ScappError, KernelFault, OSError) as error:
            raise AdmissionError(f"deployment 0x{identity} cannot run here: {error}") from error

    return kernel_for


class Modules:
    """Thread-safe. Compiled code is cached under `cache`; `store` is made here, because it checks through us."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._cache = cache
        self._checked: dict[bytes, CheckedModule] = {}
        self._lock = threading.Lock()
        self.admission_kernel = kernel_maker(self.module_for, track=False, cache_folder=cache)
        self.derivation_kernel = kernel_maker(self.module_for, track=True, cache_folder=cache)
        self.projection_kernel = kernel_maker(self.module_for, track=True, projection=True, cache_folder=cache)
        self.store = DeploymentStore(folder, self.inspect)

    def inspect(self, wasm: bytes, limits: Limits) -> Manifest:
        """Check a module; its manifest. Raises ModuleRefused."""
        return self._check(wasm, Deployment(keccak256(wasm), ABI, limits)).manifest

    def module_for(self, deployment: Deployment) -> CheckedModule:
        """Raises LookupError for a deployment that is not known here, ModuleRefused for one that cannot run here."""
        identity = bytes(deployment_id(deployment))
        with self._lock:
            known = self._checked.get(identity)
        if known is not None:
            return known
        wasm = self.store.wasm(deployment.reducer) if self.store.get(identity) else None
        if wasm is None:
            raise LookupError(f"`scapp deploy` its module (keccak256 0x{deployment.reducer.hex()}) with its limits")
        return self._check(wasm, deployment)

    def manifest_for(self, deployment: Deployment) -> Manifest:
        """Raises AdmissionError for a deployment that is not known here."""
        identity = bytes(deployment_id(deployment))
        app = self.store.get(identity)
        if app is None:
            raise AdmissionError(f"deployment 0x{identity.hex()} is not known here; `scapp deploy` its module")
        return app.manifest

    def _check(self, wasm: bytes, deployment: Deployment) -> CheckedModule:
        checked = check_module(wasm, deployment.limits, cache_folder=self._cache)
        with self._lock:
            return self._checked.setdefault(bytes(deployment_id(deployment)), checked)
