"""Which Temporal cluster is meant, and a client of it: the configured one and never another, with patience while it is away."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.envconfig import ClientConfig

from triform.errors import ServerUnreachable, UsageError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A Temporal cluster and how to speak with it."""

    address: str
    """`host:port` of the frontend."""
    namespace: str = "default"
    source: str = "embedded server"
    """Where the address was given, for messages."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The other arguments of `Client.connect`: TLS, API key, headers. Secret."""


def resolve_target(address: str | None = None) -> Target | None:
    """The cluster the user configured, or None when nothing is configured (the embedded server is then meant).

    The flag is one more way to say TEMPORAL_ADDRESS; namespace, API key and TLS come from the other TEMPORAL_* variables and
    the profile (TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE) as in every Temporal tool.
    Source: https://docs.temporal.io/develop/environment-configuration; unlike it, unknown keys in the file are errors, and
    settings without an address do not mean localhost:7233.

    Raises:
        UsageError: a profile, file or certificate is missing or wrong, or there are settings but no address.
    """
    variables = {**os.environ, **({"TEMPORAL_ADDRESS": address} if address else {})}
    config = _load(variables)
    if not config:
        return None
    if "target_host" not in config:
        raise UsageError(
            f"a Temporal {', '.join(sorted(config))} is configured, but no address",
            expected="an address and its settings, or neither",
            do="set TEMPORAL_ADDRESS (or the profile's address), or unset the other TEMPORAL_* variables to use the embedded server",
        )
    place = config.pop("target_host")
    return Target(address=place, namespace=config.pop("namespace", "default"), source=_source(address, variables), options=config)


async def connect(target: Target, *, timeout_s: float = 60.0) -> Client:
    """A client of `target` with the default data converter. A server that is just starting, or away, is asked again quietly.

    Args:
        target: from `resolve_target`, or `Target(address=lease.address)` for the embedded server.
        timeout_s: seconds until giving up.

    Raises:
        ServerUnreachable: no answer in time. No other server is tried.
    """
    deadline = time.monotonic() + timeout_s
    pause, last = FIRST_PAUSE_S, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return await asyncio.wait_for(Client.connect(target.address, namespace=target.namespace, **target.options), timeout=left)
        except TimeoutError:
            break
        except (RuntimeError, ValueError) as error:
            last = " ".join(str(error).split())[:300]
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2 * pause, LONGEST_PAUSE_S)
    raise ServerUnreachable(
        f"the Temporal server at {target.address} (from {target.source}) did not answer within {timeout_s:g} s: {last}. No other was tried",
        expected="a Temporal frontend at that address",
        do="start it, or correct the address, TLS settings or API key; with no address at all an embedded server is used",
    )


def _load(variables: dict[str, str]) -> dict[str, Any]:
    """The SDK's reading of variables and file. It passes over a file that is missing, even one that was asked for by name."""
    if (named := variables.get("TEMPORAL_CONFIG_FILE")) and not Path(named).is_file():
        raise _bad_profile(f"TEMPORAL_CONFIG_FILE names {named}, which is not a file")
    try:
        return dict(ClientConfig.load_client_connect_config(config_file_strict=True, override_env_vars=variables))
    except OSError as error:
        raise _bad_profile(f"the TLS file {error.filename} can't be read: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:
        raise _bad_profile(" ".join(str(error).split())) from error


def _bad_profile(got: str) -> UsageError:
    return UsageError(
        got,
        expected="a readable Temporal environment configuration",
        do="correct the file or the TEMPORAL_* variables (https://docs.temporal.io/develop/environment-configuration)",
    )


def _source(address: str | None, variables: Mapping[str, str]) -> str:
    if address:
        return "--address"
    if variables.get("TEMPORAL_ADDRESS"):
        return "TEMPORAL_ADDRESS"
    return f"Temporal profile {variables.get('TEMPORAL_PROFILE') or 'default'!r}"
