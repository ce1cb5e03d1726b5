"""Chat templates of strangers: nothing is reached, nothing runs on, every refusal is one of our errors."""

import resource
import time

import pytest

from cutaway.data.template import MOST_TEMPLATE, render, render_all
from cutaway.errors import ConfigError, CutawayError, LimitError

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ ['__class__'] | map('attr', '__class__') | list }}{{ [''] | map(attribute='__class__') | list }}",
    "{{ messages.__class__ }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ range.__self__ }}",
    "{{ dict.__base__ }}",
    "{{ (''.format).__self__.__class__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ '{x.__globals__}'.format_map({'x': raise_exception}) }}",
    "{{ '%s' | format(raise_exception.__globals__) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns.__class__ }}",
    "{{ namespace(__class__=1) }}",
    "{{ namespace({'_x': 1}) }}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'subprocess' import run %}",
    "{% include '/etc/passwd' %}",
    "{% extends 'base' %}",
    "{{ (x for x in []).gi_frame }}",
    "{{ loop.__class__ }}",
    "{{ __import__('os') }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ ().__reduce_ex__(2) }}",
    "{{ ''.join.__self__.__class__.__base__ }}",
    "{{ undefined.__init__.__globals__ }}",
    "{{ lipsum(n=10**6) }}",
    "{{ (99999999999999999999**9999) | string }}",
    "{% do messages.append(1) %}",
    "{{ messages.sort(key=strftime_now.__call__) }}",
]
HUNGRY = [
    "{{ 'a'*(10**9) }}",
    "{{ 'a'*(10**7) }}",
    "{{ [0]*(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'a' * 100 }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ 10**(10**10) }}",
    "{% set x = namespace(a='a') %}{% for i in range(60) %}{% set x.a = x.a + x.a %}{% endfor %}",
    "{% set x = namespace(a=[1]) %}{% for i in range(60) %}{% set x.a = x.a + x.a %}{% endfor %}",
    "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    "{{ " + "-" * 5_000 + "1 }}",
    "{{ " + "[" * 3_000 + "]" * 3_000 + " }}",
    "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "{{ 1 + " + "1 + " * 60_000 + "1 }}",
    "{{ 1 }}" * 30_000,
    "a" * (MOST_TEMPLATE + 1),
]


@pytest.mark.parametrize("template", ESCAPES)
def test_nothing_outside_the_sandbox_is_reached(template):
    try:
        text = render(template, [{"role": "user", "content": "a"}])
    except (ConfigError, LimitError):
        return
    # Jinja lets some names be looked up and gives nothing for them
    assert not any(
        sign in text for sign in ("<class", "<module", "<built-in", "<function", "root:", "uid=", "{'")
    )


@pytest.mark.parametrize("template", HUNGRY, ids=lambda text: text[:40])
def test_limits_of_time_memory_and_size(template):
    used = children_seconds()
    with pytest.raises(LimitError, match="chat template"):
        render(template, [])
    assert children_seconds() - used < 2.5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 700 * 2**10


def test_what_stays_within_the_limits_is_rendered():
    """The negative control: a template that does a good deal, and many conversations of a second in all."""
    template = "{% for i in range(9999) %}{{ 'a' * 90 }}{% endfor %}"
    assert render(template, []) == "a" * 90 * 9999
    assert len(render_all("{% for i in range(9999) %}{% endfor %}x", [{"messages": []}] * 500)) == 500


def test_messages_cannot_carry_templates():
    text = "{{ 7*7 }}{% raw %}{{ ''.__class__ }}"
    assert render("{{ messages[0].content }}", [{"role": "user", "content": text}]) == text


def test_no_file_is_written_and_no_variable_of_ours_is_seen(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    for template in ("{{ HF_TOKEN }}", "{{ environ }}", "{{ self }}"):
        try:
            assert "secret" not in render(template, [])
        except CutawayError as problem:
            assert "secret" not in str(problem)


def test_a_child_that_sleeps_is_ended(monkeypatch, tmp_path):
    from cutaway.data import template

    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(template, "CHILD", child)
    monkeypatch.setattr(template, "PATIENCE", 1.0)
    begin = time.monotonic()
    with pytest.raises(LimitError, match=r"no text after 2 s"):
        render("a", [])
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    "code", ["print('no json')", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"]
)
def test_a_child_that_breaks_is_told(code, monkeypatch, tmp_path):
    from cutaway.data import template

    child = tmp_path / "child.py"
    child.write_text("import sys; sys.stdin.read(); " + code)
    monkeypatch.setattr(template, "CHILD", child)
    with pytest.raises(LimitError, match="its process"):
        render("a", [])


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
