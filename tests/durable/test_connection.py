"""Which cluster is meant, and that a silent one is named and not replaced by another."""

import socket
import time
from pathlib import Path

import pytest

from triform.durable.connection import Target, connect, resolve_target
from triform.errors import ServerUnreachable, UsageError


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "NAMESPACE", "API_KEY", "PROFILE", "CONFIG_FILE", "TLS", "TLS_CLIENT_CERT_PATH", "TLS_CLIENT_KEY_PATH"):
        monkeypatch.delenv(f"TEMPORAL_{name}", raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "temporal.toml").write_text(text)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))


def test_nothing_configured_means_the_embedded_server() -> None:
    assert resolve_target() is None


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile(tmp_path, monkeypatch, '[profile.default]\naddress = "profile:1"\nnamespace = "pictures"\n')
    assert resolve_target() == Target(address="profile:1", namespace="pictures", source="Temporal profile 'default'")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "variable:2")
    assert resolve_target() == Target(address="variable:2", namespace="pictures", source="TEMPORAL_ADDRESS")
    assert resolve_target("flag:3") == Target(address="flag:3", namespace="pictures", source="--address")


def test_an_api_key_turns_tls_on_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret-word")
    target = resolve_target("cloud:7233")
    assert target is not None
    assert target.options == {"api_key": "secret-word", "tls": True}
    assert "secret-word" not in repr(target)


def test_certificates_of_the_chosen_profile_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cert.pem").write_text("the certificate")
    (tmp_path / "key.pem").write_text("the key")
    files = f'client_cert_path = "{tmp_path}/cert.pem"\nclient_key_path = "{tmp_path}/key.pem"\n'
    profile(tmp_path, monkeypatch, f'[profile.prod]\naddress = "prod:1"\n[profile.prod.tls]\n{files}')
    assert resolve_target() is None, "the default profile says nothing"
    monkeypatch.setenv("TEMPORAL_PROFILE", "prod")
    target = resolve_target()
    assert target is not None
    assert target.source == "Temporal profile 'prod'"
    assert (target.options["tls"].client_cert, target.options["tls"].client_private_key) == (b"the certificate", b"the key")
    (tmp_path / "key.pem").unlink()
    with pytest.raises(UsageError, match=r"TLS file .*key\.pem can't be read: No such file"):
        resolve_target()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[profile.default]\naddress = "a:1"\nadress = "b:2"\n', "unknown field `adress`"),
        ("[profile.default\n", "unclosed table"),
        ('[profile.default]\nnamespace = "n"\n', "namespace is configured, but no address"),
    ],
)
def test_a_wrong_profile_is_told_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    profile(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError, match=message):
        resolve_target()


def test_a_missing_profile_or_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "nowhere")
    with pytest.raises(UsageError, match="Profile 'nowhere' not found"):
        resolve_target()
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "missing.toml"))
    with pytest.raises(UsageError, match=r"missing\.toml, which is not a file"):
        resolve_target("flag:1")


async def test_an_address_that_refuses_is_asked_until_the_timeout_and_named() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable, match=rf"{address} \(from --address\).*0.6 s.*refused.*No other was tried"):
            await connect(Target(address=address, source="--address"), timeout_s=0.6)
    assert 0.5 < time.monotonic() - begin < 3


async def test_an_address_that_accepts_and_says_nothing_fails_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable, match=f"{address}.*no answer"):
            await connect(Target(address=address), timeout_s=0.6)
    assert 0.5 < time.monotonic() - begin < 3
