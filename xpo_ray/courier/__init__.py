"""The driver's side of the service's HTTP: claim, heartbeat, journal, last word. No Ray.

The service may be away for any time: everything here waits and tries again, and the run goes on meanwhile. Only a refusal ends
an attempt.
"""

from xpo_ray.courier.courier import Courier, claim_attempt

__all__ = ["Courier", "claim_attempt"]
