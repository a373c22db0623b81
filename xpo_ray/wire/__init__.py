"""What travels over HTTP: requests and answers of the service, and the reports of a driver. Pydantic only.

The client and the driver's courier send these, xpo_ray.api answers with them, and the OpenAPI document is made from them.
"""
