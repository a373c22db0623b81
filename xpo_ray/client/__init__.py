"""The service from Python. `Client().do(calls.submit(…))`; nothing here imports Ray, FastAPI or torch."""

from xpo_ray.client.drivers import AsyncClient, Client
from xpo_ray.client.faults import ApiError, Refused, ServiceUnreachable

__all__ = ["ApiError", "AsyncClient", "Client", "Refused", "ServiceUnreachable"]
