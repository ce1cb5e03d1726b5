"""Chat templates: Jinja programs of strangers, rendered in a sandbox in a process of its own, within limits.

The process may use 1 s of CPU for each text, 512 MB, no file, no further process, and write 1 MB; it reads
one JSON object and answers with one. What comes of it is text, never code.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cutaway.errors import ConfigError, LimitError, MissingExtraError

CHILD = Path(__file__).with_name("template_child.py")
SECONDS = 1.0
PATIENCE = 120.0  # seconds of waiting beyond what the texts may take: the machine may be busy
MEMORY = 512 * 2**20
MOST_OUTPUT = 10**6
MOST_TEMPLATE = 2**18
MOST_INPUT = 2**26
MOST_ANSWER = 2**28

Message = Mapping[str, Any]


def render(
    template: str, messages: Sequence[Message], add_generation_prompt: bool = False, **variables: Any
) -> str:
    """The text of a conversation by a chat template; `variables` are special tokens, tools and what else it
    reads.

    Raises ConfigError, with the template's line, for a template that is wrong, reaches outside the sandbox or
    refuses the conversation; LimitError for one that needs more than the limits; MissingExtraError without
    Jinja.
    """
    asked = [{"messages": list(messages), "add_generation_prompt": add_generation_prompt, **variables}]
    return render_all(template, asked)[0]


def render_all(
    template: str, asked: Sequence[Mapping[str, Any]], marks: tuple[str, str] = ("", "")
) -> list[str]:
    """`render` for many sets of variables in one process; `marks` are put around what stands between
    `{% generation %}` and `{% endgeneration %}`.
    """
    if find_spec("jinja2") is None:
        raise MissingExtraError("chat")
    if len(template) > MOST_TEMPLATE:
        raise LimitError(f"chat template: {len(template):,} characters, at most {MOST_TEMPLATE:,} are read")
    order = {
        "template": template,
        "variables": [{"tools": None, "documents": None, **variables} for variables in asked],
        "marks": marks,
        "seconds": SECONDS,
        "memory": MEMORY,
        "bytes": MOST_OUTPUT,
    }
    try:
        sent = json.dumps(order).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"chat: messages and variables must be plain values of JSON ({problem})") from None
    if len(sent) > MOST_INPUT:
        raise LimitError(f"chat: {len(sent):,} bytes of messages, at most {MOST_INPUT:,} at a time")
    return _understood(*_run(sent, SECONDS * len(asked) + PATIENCE))


def _run(sent: bytes, seconds: float) -> tuple[int, bytes]:
    """Exit code and output of the child; the shell's environment does not reach it."""
    environment = {name: os.environ[name] for name in ("TZ",) if name in os.environ}  # strftime_now reads it
    command = [sys.executable, "-I", str(CHILD)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        try:
            output, _ = child.communicate(sent, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            raise LimitError(f"chat template: no text after {seconds:g} s; it may run in a circle") from None
        finally:
            child.kill()
    return child.returncode, output


def _understood(code: int, output: bytes) -> list[str]:
    if code in (-signal.SIGPROF, -signal.SIGXCPU):
        raise LimitError(f"chat template: more than {SECONDS:g} s of CPU; it may run in a circle")
    try:
        ended = {"limit": f"its process ended with {code}"}
        said: dict[str, Any] = json.loads(output[:MOST_ANSWER]) if code == 0 else ended
    except ValueError:
        said = {"limit": "its process gave no answer"}
    where = f", line {said['line']}" if said.get("line") else ""
    where += f", conversation {said['number'] + 1}" if said.get("number") else ""
    if "limit" in said:
        raise LimitError(f"chat template{where}: {said['limit']}; use another template")
    if "error" in said:
        raise ConfigError(f"chat template{where}: {said['error']}")
    return said["texts"]
