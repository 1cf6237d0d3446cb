"""How a worker behaves, apart from what its stage does."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class WorkerSettings(BaseSettings):
    """Of every stage's process; how they end, of web and relay too. Seconds throughout."""

    model_config = config("WORKER__")

    health_port: int = Field(0, ge=0, le=65535, description="HTTP port of health and metrics; 0: off.")
    health_host: str = Field("127.0.0.1", description="Address of health and metrics.")
    retry_first_s: float = Field(0.5, gt=0, description="First wait after an error that may pass; doubles each time.")
    retry_max_s: float = Field(30.0, gt=0, description="Longest wait between two tries.")
    dead_letters_in_a_row: int = Field(50, ge=1, description="So many without a success between stop the worker.")
    sends_in_flight: int = Field(64, ge=1, description="Outputs sent and not yet acknowledged by the broker.")
    slow_send_s: float = Field(5.0, gt=0, description="A send that takes longer shows the stage as paused.")
    drain_s: float = Field(20.0, gt=0, description="After SIGTERM, how long units, requests and rows in work may take.")
    stop_s: float = Field(10.0, gt=0, description="After the drain, how long the log may take to let go.")
    notice_s: float = Field(
        0.0, ge=0, description="Of web, after SIGTERM: not ready, but still served, so that balancers look elsewhere."
    )
    heartbeat_s: float = Field(5.0, gt=0, description="Between two signs of life in the catalog.")
    lag_s: float = Field(10.0, gt=0, description="Between two looks at the lag.")
    silence_s: float = Field(300.0, gt=0, description="Lag, but nothing delivered for so long: the worker is ended.")
    stall_s: float = Field(60.0, gt=0, description="An event loop that does not turn for so long is ended.")
    session_timeout_s: float = Field(6.0, gt=0, description="The broker's patience with a silent consumer.")
    broker_heartbeat_s: float = Field(1.5, gt=0, description="Between two heartbeats to the broker.")
    rebalance_timeout_s: float = Field(60.0, gt=0, description="The broker's patience in a rebalance.")
    poll_interval_s: float = Field(3600.0, gt=0, description="Longest time without a fetch before leaving the group.")
    metadata_s: float = Field(300.0, gt=0, description="Between two looks for partitions that a topic got besides.")
    instance_id: str = Field("", description="Static member of the group, for StatefulSets: set it to the pod's name.")
