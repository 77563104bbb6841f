"""What the routes of one-time codes are made of: the settings as limits."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from api.accept.otp import OtpService
from api.accept.service import AcceptService
from domain.otp import Limit, Policy, Scope
from infra.otp_codes import OtpCodes
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.otp import OtpRepository
from infra.settings import Settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def otp_service(settings: Settings, pool: asyncpg.Pool, *, accept: AcceptService) -> OtpService:
    codes = OtpCodes(settings.secret_key.get_secret_value(), others=settings.other_keys)
    return OtpService(OtpRepository(pool), AcceptRepository(pool), accept=accept, codes=codes, policy=policy_of(settings))


def policy_of(settings: Settings) -> Policy:
    """0 is no limit."""
    cooldown_s = settings.otp_cooldown_seconds
    limits = {
        Scope.COOLDOWN: Limit(1 if cooldown_s else 0, timedelta(seconds=cooldown_s)),
        Scope.RECIPIENT_HOUR: Limit(settings.otp_per_recipient_hour, HOUR),
        Scope.RECIPIENT_DAY: Limit(settings.otp_per_recipient_day, DAY),
        Scope.RANGE: Limit(settings.otp_per_range_hour, HOUR),
        Scope.CLIENT: Limit(settings.otp_per_client_hour, HOUR),
        Scope.TENANT: Limit(settings.otp_per_tenant_hour, HOUR),
        Scope.GUESSES_HOUR: Limit(settings.otp_wrong_per_recipient_hour, HOUR),
        Scope.GUESSES_DAY: Limit(settings.otp_wrong_per_recipient_day, DAY),
    }
    return Policy({scope: limit for scope, limit in limits.items() if limit.most})
