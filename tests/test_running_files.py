"""The files for operators: a container, systemd and proxies get what the documentation promises."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from veduta.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "deploy/veduta.service"

Instructions = list[tuple[str, str]]


def instructions() -> Instructions:
    """Return the instructions of the Containerfile with their arguments, in their order."""
    text = (ROOT / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage() -> dict[str, list[str]]:
    """Return the arguments of each instruction of the last stage."""
    stage: dict[str, list[str]] = {}
    for word, rest in instructions():
        stage = {} if word == "FROM" else stage
        stage.setdefault(word, []).append(rest)
    return stage


def health_command() -> list[str]:
    """Return the command of the health check of the Containerfile."""
    (check,) = last_stage()["HEALTHCHECK"]
    command: list[str] = json.loads(check[check.index("CMD") + len("CMD") :])
    return command


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return loaded


def unit() -> dict[str, list[str]]:
    """Return the values of each option of the systemd unit."""
    options: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            options[name].append(value)
    return options


def commands_of_the_documentation() -> list[list[str]]:
    """Return the words after `veduta` of each command in docs/running.md."""
    text = (ROOT / "docs/running.md").read_text("utf-8").replace("\\\n", " ")
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    inline = "\n".join(re.findall(r"`([^`\n]+)`", text))
    found = re.findall(r"(?:^|[ /])veduta (.+)$", f"{blocks}\n{inline}", re.MULTILINE)
    words = [shlex.split(one.partition("#")[0]) for one in found]
    return [one for one in words if one and one[0] in COMMANDS]


def test_every_option_in_these_files_exists() -> None:
    (in_image,) = last_stage()["CMD"]
    commands = [json.loads(in_image), compose()["services"]["veduta"]["command"]]
    commands += [shlex.split(value)[1:] for value in unit()["ExecStart"]]
    documented = commands_of_the_documentation()
    assert {one[0] for one in documented} >= {"index", "keys", "serve", "status", "check"}
    head = (ROOT / "deploy/nginx.conf").read_text("utf-8").partition("server {")[0]
    commands.append(["serve", *re.findall(r"--[a-z-]+ [\w./]+", head.replace("\n# ", " "))])
    commands[-1] = shlex.split(" ".join(commands[-1]))
    assert len(commands[-1]) == 7
    for command in commands + documented:
        reads_options(command)


def reads_options(words: list[str]) -> None:
    """Let the command line read a command, without running it."""
    name, *rest = words
    command = import_module(f"veduta.cli.{name}").command
    if isinstance(command, click.Group):
        name, *rest = rest
        command = command.commands[name]
    with command.make_context(name, list(rest)):
        pass


def test_the_image_runs_as_nobody_special_from_pinned_parts() -> None:
    stage = last_stage()
    (user,) = stage["USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that engines can check it"
    assert [json.loads(one) for one in stage["VOLUME"]] == [["/data"]]
    assert json.loads(stage["ENTRYPOINT"][0]) == ["veduta"]
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    pinned = re.search(r"requires-python = \">=(3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert pinned and set(bases) == {f"docker.io/library/python:{pinned[1]}-slim-bookworm"}
    assert not any(word == "ADD" for word, _ in instructions())
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY"]
    files = [name for names in copied for name in names if not names[0].startswith("--from")]
    assert {"constraints.txt", "deploy/install.sh", "src"} <= set(files)
    assert all((ROOT / name).exists() for name in files)
    (run, _) = [rest for word, rest in instructions() if word == "RUN"]
    assert "deploy/install.sh /opt/veduta" in run
    assert "--constraint" in (ROOT / "deploy/install.sh").read_text("utf-8")


def test_compose_takes_from_the_service_what_it_does_not_need() -> None:
    services, networks = compose()["services"], compose()["networks"]
    veduta, proxy = services["veduta"], services["proxy"]
    for service in (veduta, proxy):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    assert veduta["networks"] == ["inside"] and networks["inside"]["internal"] is True
    assert "ports" not in veduta, "only the proxy is reached"
    mounted = dict(one.rsplit(":", 1) for one in veduta["volumes"] if one.endswith(":ro"))
    assert all(path.endswith(":/photos") for path in mounted) and len(mounted) == 1
    assert [one for one in veduta["volumes"] if not one.endswith(":ro")] == ["index:/data"]
    assert veduta["healthcheck"]["test"] == ["CMD", *health_command()]
    assert {"mem_limit", "pids_limit", "restart"} <= veduta.keys()
    trusted = [one for one in veduta["command"] if one.startswith("--trust-proxy=")]
    address = proxy["networks"]["inside"]["ipv4_address"]
    assert trusted == [f"--trust-proxy={address}"]
    (subnet,) = networks["inside"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
    assert "./deploy/Caddyfile:/etc/caddy/Caddyfile:ro" in proxy["volumes"]


def test_the_unit_is_hardened() -> None:
    options = unit()
    wanted = {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "IPAddressDeny": "any",
        "IPAddressAllow": "localhost",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "StateDirectory": "veduta",
        "ReadOnlyPaths": "-/srv/photos",
    }
    assert {name: options[name] for name in wanted} == {name: [v] for name, v in wanted.items()}
    assert options["MemoryMax"] and options["TasksMax"]
    for variable in ("VEDUTA_INDEX", "VEDUTA_KEYS"):
        assert any(one.startswith(f"{variable}=%S/veduta/") for one in options["Environment"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit_and_calls_it_protected(tmp_path: Path) -> None:
    copy = tmp_path / "veduta.service"
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/veduta/bin/veduta", "/bin/true"))
    read = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    assert (read.returncode, "veduta.service" in read.stderr) == (0, False), read.stderr
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    judged = subprocess.run([*exposure, copy], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
def test_caddy_reads_its_file() -> None:
    command = ["caddy", "adapt", "--adapter", "caddyfile", "--validate", "--config"]
    done = subprocess.run(
        [*command, ROOT / "deploy/Caddyfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
