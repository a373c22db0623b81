"""Webhooks over REST."""

from fastapi import APIRouter

router = APIRouter()
