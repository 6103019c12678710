"""How URLs may be fetched."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """What may be fetched, how much of it, how long it may take, and how gently servers are treated.

    Limits hold for one process: divide ``connections_per_host`` by the number of tasks that fetch at a time.
    ``max_wait_s`` bounds every wait between tries; a server that asks for a longer one gets no further try.
    """

    allow_private: bool = False  # also private and loopback addresses, on any port; metadata addresses never
    ports: tuple[int, ...] | None = (80, 443)  # of public addresses; None: any
    max_bytes: int = 32 * 2**20
    max_redirects: int = 5
    connect_timeout_s: float = 10.0
    timeout_s: float = 30.0  # of one try, its redirects included, waiting for a turn not
    num_connections: int = 32
    connections_per_host: int = 4
    delay_per_host_s: float = 0.0  # from the start of one request to a host to that of the next
    max_attempts: int = 3
    backoff_s: float = 1.0
    max_wait_s: float = 30.0
    user_agent: str = "geo-ray/0.1 (image geolocation in bulk)"

    def __post_init__(self) -> None:
        for name in ("max_bytes", "connect_timeout_s", "timeout_s", "num_connections", "connections_per_host",
                     "max_attempts"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"fetch policy: {name}={getattr(self, name)} must be positive")
        for name in ("max_redirects", "delay_per_host_s", "backoff_s", "max_wait_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"fetch policy: {name}={getattr(self, name)} must not be negative")


DEFAULT_POLICY = FetchPolicy()
