"""The screen that a start ends with: what arrived, where to look, what to type."""

from __future__ import annotations

from cli.up.demo import EMAIL, USER, Shown
from cli.up.screen import Screen
from cli.up.service import Places

_ARRIVALS = (
    ("email", "e-mail", f"to {EMAIL}"),
    ("webhook", "webhook", "signed, to the sandbox's /hook/demo"),
    ("inapp", "in-app", "live over SSE"),
)


def report(screen: Screen, *, places: Places, shown: Shown, once: bool) -> None:
    """Print it. With `once` only what arrived, since the places are about to go away."""
    screen.line()
    screen.line(screen.bold("  通达 Tongda: one notification, three channels"))
    if shown.notification_id:
        screen.line(f"  accepted in {shown.accepted_ms:.0f} ms, {shown.status}: {shown.notification_id}")
    for channel, name, where in _ARRIVALS:
        screen.line("    " + _arrival(channel, name, where=where, places=places, shown=shown))
    for missing in shown.missing:
        screen.warn(missing)
    screen.line(f"  its workflow    {shown.workflow_url or '-'}")
    if not once:
        _where(screen, places=places)
    screen.line()


def _arrival(channel: str, name: str, *, where: str, places: Places, shown: Shown) -> str:
    if channel in shown.arrived_ms:
        return f"✓ {name:8} {shown.arrived_ms[channel]:5.0f} ms  {where}"
    if channel == "email" and places.own_mail:
        status = shown.email_status or "not handed over"
        return f"· {name:8} goes to your own SMTP server, where it cannot be checked from here; so far: {status}"
    return f"✗ {name:8} not seen"


def _where(screen: Screen, *, places: Places) -> None:
    for name, value in (
        ("API reference", f"{places.api_url}/docs"),
        ("received", places.sandbox_url),
        ("live inbox", f"{places.sandbox_url}/inbox"),
        ("Temporal Web UI", places.temporal_ui_url or "-"),
        ("worker metrics", ", ".join(f"{url} ({name})" for name, url in places.metrics_urls.items())),
        ("API key", places.key_file),
        ("logs", places.log_dir),
    ):
        screen.line(f"  {name:15} {value}")
    screen.line()
    screen.line(f"""  curl {places.api_url}/v1/notifications \\
    -H "Authorization: Bearer $(cat '{places.key_file}')" -H 'Content-Type: application/json' \\
    -d '{{"to": {{"user": "{USER}"}}, "channels": ["email", "inapp"], "content": {{"title": "你好", "text": "Hello"}}}}'""")
    screen.line()
    screen.line(f"  {screen.bold('Ctrl-C')} stops everything; the data stays for the next start.")
