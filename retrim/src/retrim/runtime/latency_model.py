"""The latency model: times of layers from this machine's profile, scaled to another device.

A packed layer of M multiply-accumulates (stored weights × tokens) that takes the time t here uses

    u = M / (t · R)

of the rate R that the best dense layer reaches here, in the same precision on as many threads.  On a core
of another device, with c multiply-accumulates per cycle at best, it is taken to use as much:

    cycles = M / (u · c) = t · R / c,        latency = cycles / f

so that the clock of this machine need not be known.  What the model does not know: caches and memory of
the other device, kernels that its instruction set lacks, and whether its best is reached as it is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from retrim.device import Cluster
from retrim.errors import ProfileError
from retrim.runtime.entry import Entry, Request
from retrim.runtime.profile import Profile

_DENSE = 0.999


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """A layer's time here.

    Attributes
    ----------
    request : Request
    microseconds : float
    measured : bool
        Whether it was measured, not estimated from layers like it.
    """

    request: Request
    microseconds: float
    measured: bool

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one run."""
        return self.request.work * self.request.tokens


@dataclass(frozen=True)
class LatencyModel:
    """Times from a profile.

    Parameters
    ----------
    profile : Profile
        Of the running machine.
    """

    profile: Profile

    def layer(self, request: Request) -> LayerTime:
        """The time of one layer here, by the fastest kernels that the profile knows for it.

        Raises
        ------
        ProfileError
            If the profile knows no layer in this precision on as many threads.
        """
        choice = self.profile.choose(request)
        if choice is None:
            raise ProfileError(
                f"the profile must know layers in {request.precision} on {request.threads} thread(s), but does not: "
                "call `retrim device calibrate`"
            )
        measured = any(
            entry.is_like(request) and (entry.isa, entry.variant) == (choice.isa, choice.variant)
            for entry in self.profile.entries
        )
        return LayerTime(request=request, microseconds=choice.microseconds, measured=measured)

    def here_ms(self, requests: Iterable[Request], rest_ms: float = 0.0) -> float:
        """Milliseconds of a model on this machine: its packed layers one after another, and the rest.

        Parameters
        ----------
        requests : iterable of Request
            Every packed layer once for each time that it runs.
        rest_ms : float
            What is not packed, measured by the caller.

        Raises
        ------
        ProfileError
            As `layer`.
        """
        return sum(self.layer(request).microseconds for request in requests) / 1000 + rest_ms

    def rate(self, request: Request) -> float:
        """Multiply-accumulates per microsecond of the best dense layer, in the precision and threads of a request.

        Raises
        ------
        ProfileError
            If no dense layer was measured so.
        """
        rates = [_rate(entry) for entry in self.profile.entries if _is_rival(entry, request)]
        if not rates:
            raise ProfileError(
                f"the profile must know a dense layer in {request.precision} on {request.threads} thread(s), but does "
                "not: call `retrim device calibrate`"
            )
        return max(rates)

    def cycles(self, requests: Iterable[Request], cluster: Cluster) -> float:
        """Cycles of a model's packed layers on one core of another device.

        Raises
        ------
        DeviceError
            If the device's throughput in a layer's precision is unknown.
        ProfileError
            As `layer` and `rate`.
        """
        return sum(
            self.layer(request).microseconds * self.rate(request) / cluster.throughput(request.precision)
            for request in requests
        )

    def latency_ms(self, requests: Iterable[Request], cluster: Cluster, mhz: float) -> float:
        """Milliseconds of a model's packed layers on one core of another device, at an operating point.

        Raises
        ------
        DeviceError
            If the cluster has no such operating point, or as `cycles`.
        ProfileError
            As `cycles`.
        """
        return self.cycles(requests, cluster) / (1000 * cluster.point(mhz).mhz)


def _rate(entry: Entry) -> float:
    return entry.work * entry.tokens / entry.microseconds


def _is_rival(entry: Entry, request: Request) -> bool:
    alike = (entry.precision, entry.activations, entry.threads)
    return entry.density > _DENSE and alike == (request.precision, request.activations, request.threads)
