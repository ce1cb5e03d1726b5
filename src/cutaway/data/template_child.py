"""Renders chat templates in a process of its own: run as a script by `cutaway.data.template`, never imported.

Reads one JSON object from the standard input and writes one to the standard output. The limits are set before
the template is looked at; a template that breaks one ends this process, or is told so.
"""

import json
import math
import resource
import signal
import sys
from collections import deque
from datetime import datetime

from jinja2 import nodes, pass_eval_context
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_NODES = 20_000
MOST_DEPTH = 60  # of the template's syntax tree
MOST_SECONDS = 60.0  # of starting up
MOST_FRAMES = 400  # of calls within calls
# What Python and Jinja would import late, when no file can be opened any more, is imported by rendering this.
FIRST = (
    "{{ 'a\\n' | tojson(indent=1) | pprint | trim }}{{ strftime_now('%d %b %Y') }}{{ raise_exception('') }}"
)


class LimitReachedError(Exception):
    """A limit that this process counts itself."""


class Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what the assistant wrote, between two marks if they are
    asked for.
    """

    tags = {"generation"}
    marks = ("", "")

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _marked(self, context, caller):
        return self.marks[0] + caller() + self.marks[1]


class Names(Namespace):
    """`namespace(...)` without names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, *rest = args
        found = dict(*rest, **kwargs)
        for name in found:
            allowed(name)
        Namespace.__init__(self, found)

    def __setitem__(self, name, value):
        allowed(name)
        Namespace.__setitem__(self, name, value)


class Tables:
    """`dict(...)` of templates, and none of its attributes."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, as transformers sets it up."""

    def __init__(self):
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self.filters["tojson"] = to_json


def allowed(name):
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def refuse(message):
    raise TemplateError(message)


def now(form):
    return datetime.now().strftime(form)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


OWN = {"raise_exception": refuse, "strftime_now": now, "dict": Tables(), "namespace": Names}


def check_tree(tree):
    """Raises LimitReachedError where the template is larger, or deeper, than templates are."""
    waiting, count = deque([(tree, 1)]), 0
    while waiting:
        node, depth = waiting.popleft()
        count += 1
        if count > MOST_NODES or depth > MOST_DEPTH:
            raise LimitReachedError(f"a syntax tree of more than {MOST_NODES:,} nodes or {MOST_DEPTH} levels")
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def render(template, variables, most):
    """The text of a template, at most `most` bytes of it."""
    pieces, size = [], 0
    for piece in template.generate(variables):
        size += len(piece.encode("utf-8", "surrogatepass"))
        if size > most:
            raise LimitReachedError(f"more than {most:,} bytes of text")
        pieces.append(piece)
    return "".join(pieces)


def line_of(problem):
    """The template's line that an error came from."""
    if isinstance(problem, TemplateSyntaxError):
        return problem.lineno
    line, trace = None, problem.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:  # a frame that stands for the template
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def limit(seconds, memory):
    """Holds this process to a size, no files, no processes, and CPU seconds, which `again` counts anew."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    again(seconds)


def again(seconds):
    """The next so many seconds of CPU are allowed; then the kernel ends this process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds) + 1, resource.RLIM_INFINITY))


def answer(asked):
    """The texts of all asked, or what was wrong with the first that could not be had."""
    texts = []
    try:
        environment = Environment()
        Generation.marks = tuple(asked["marks"])
        tree = environment.parse(asked["template"])
        check_tree(tree)
        template = environment.from_string(tree, OWN)
        for variables in asked["variables"]:
            again(asked["seconds"])
            texts.append(render(template, variables, asked["bytes"]))
        return {"texts": texts}
    except (LimitReachedError, MemoryError, RecursionError, OverflowError) as problem:
        told: dict[type, str] = {MemoryError: "too much memory", RecursionError: "calls in calls, too deep"}
        return {
            "limit": told.get(type(problem)) or str(problem),
            "line": line_of(problem),
            "number": len(texts),
        }
    except Exception as problem:
        return {
            "error": str(problem) or type(problem).__name__,
            "line": line_of(problem),
            "number": len(texts),
        }


def main():
    asked = json.load(sys.stdin)
    answer(asked | {"template": FIRST, "variables": [{}], "seconds": MOST_SECONDS})
    sys.setrecursionlimit(MOST_FRAMES)
    limit(asked["seconds"], asked["memory"])
    sys.stdout.buffer.write(json.dumps(answer(asked)).encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
