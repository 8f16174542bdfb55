"""All that a federation needs beside its clients, as one value. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.streams import Streams


@dataclass(frozen=True)
class SharingPlan:
    """What clients upload, and what the server makes of it; see the fields of GradientSharing.

    noise_multiplier: noise on an upload or on a sum of uploads, in units of max_grad_norm; 0: none.
    max_grad_norm: what each upload is clipped to; None: no clipping, and then no noise.
    """

    streams: Streams
    noise_multiplier: float = 0.0
    max_grad_norm: float | None = None
    noised_by: str = "server"
    policy: str = "largest"
    fraction: float = 1.0
    threshold: float = 0.0
    keep_rest: bool = False
    order: str = "together"
    client_sampling_rate: float = 1.0
    dropout: float = 0.0
    faulty: str = "none"
    server_learning_rate: float = 1.0

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise; 0 without noise."""
        if not self.noise_multiplier:
            return 0.0
        assert self.max_grad_norm is not None  # without clipping there is no noise
        return self.noise_multiplier * self.max_grad_norm

    @property
    def noised_by_client(self) -> bool:
        """Whether each client adds the noise to its own upload."""
        return self.noised_by == "client" and self.noise_multiplier > 0

    @property
    def noised_by_server(self) -> bool:
        """Whether the server adds the noise to sums of uploads."""
        return self.noised_by == "server" and self.noise_multiplier > 0
