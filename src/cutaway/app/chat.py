"""`cutaway chat -m MODEL`: a conversation, typed or read line by line, the answers as they are written."""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from cutaway.app.options import Flag, option, parse
from cutaway.app.prompt import ask
from cutaway.errors import ConfigError, LimitError

if TYPE_CHECKING:
    from cutaway.session import Session

HELP = """/again          another answer to the last message
/edit TEXT      the last message was TEXT: answer that
/undo           take the last message and its answer back
/system TEXT    what the model is told beforehand; without TEXT nothing
/clear          begin anew
Ctrl-C stops an answer or drops the line, Ctrl-D ends the conversation"""


@dataclass(frozen=True)
class Options:
    """Talk with a model that has a chat template. A line is a message; /help lists what else can be said."""

    model: Annotated[str, option(aliases=["-m"], help="a GGUF file, or anything else `cutaway.load` takes")]
    system: Annotated[str, option(help="what the model is told beforehand")] = ""
    max_tokens: Annotated[int, option(help="an answer has at most this many")] = 512
    temperature: Annotated[float, option(help="0 takes the most likely token")] = 0.7
    top_p: Annotated[float | None, option(help="draw from the fewest that reach this share")] = 0.95
    repetition_penalty: Annotated[float, option(help="above 1: what was said becomes less likely")] = 1.0
    stop: Annotated[tuple[str, ...], option(help="strings in front of which an answer ends")] = ()
    seed: Annotated[int | None, option(help="the same seed and messages give the same answers")] = None
    compile: Annotated[Flag, option(help="slow at first, then faster: for long texts")] = False


def run(arguments: list[str]) -> int:
    """Answers every line until the input ends."""
    options = parse(Options, arguments, "cutaway chat")
    from cutaway.session import load

    session = load(options.model)
    if session.template is None:
        raise ConfigError(f"{options.model}: came without a chat template; use `cutaway generate`")
    if options.compile:
        session.compile()
    talk = Talk(session, options)
    if sys.stdin.isatty():
        print("cutaway: say something; /help lists what else there is, Ctrl-D ends", file=sys.stderr)
    while (line := ask()) is not None:
        talk.hear(line)
    return 0


@dataclass
class Talk:
    """The messages so far, and what may be said beside messages."""

    session: "Session"
    options: Options
    system: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    answers: int = 0  # how many were asked for: each draws its own random numbers
    worked: bool = False  # an answer was given before

    def __post_init__(self) -> None:
        self.system = self.options.system
        self.seed = secrets.randbits(62) if self.options.seed is None else self.options.seed

    def hear(self, line: str) -> None:
        """Take a line: a message, or one of the commands."""
        commands: dict[str, Callable[[str], None]] = {
            "/again": lambda _: self.again(),
            "/edit": self.edit,
            "/undo": lambda _: self.undo(),
            "/system": self.instruct,
            "/clear": lambda _: self.messages.clear(),
            "/help": lambda _: print(HELP),
        }
        name, _, rest = line.strip().partition(" ")
        if any("\udc80" <= letter <= "\udcff" for letter in line):
            return warn("the line is not UTF-8: convert it")
        if name in commands:
            commands[name](rest.strip())
        elif name.startswith("/"):
            print(f"cutaway: {name} unknown; /help lists what there is", file=sys.stderr)
        elif name:
            self.say(line)

    def say(self, text: str) -> None:
        """Add a message and the answer to it."""
        self.messages.append({"role": "user", "content": text})
        self.answer()

    def again(self) -> None:
        """Another answer to the last message."""
        if not self.messages:
            return warn("nothing was said yet")
        if self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self.answer()

    def edit(self, text: str) -> None:
        """Answer another last message."""
        if not text or not self.messages:
            return warn("/edit TEXT answers TEXT in place of the last message")
        before = list(self.messages)
        self.undo()
        self.say(text)
        if len(self.messages) < len(before):  # what failed takes nothing
            self.messages[:] = before

    def undo(self) -> None:
        """Take the last message and its answer back."""
        while self.messages and self.messages.pop()["role"] == "assistant":
            pass

    def instruct(self, text: str) -> None:
        """Say something else beforehand."""
        self.system = text

    def answer(self) -> None:
        """Write the answer while it comes. What Ctrl-C leaves of it counts; one that fails takes nothing, but
        raises ConfigError where none was given before.
        """
        told = [{"role": "system", "content": self.system}] if self.system else []
        written: list[str] = []
        self.answers += 1
        try:
            for piece in self.session.chat(
                [*told, *self.messages],
                self.options.max_tokens,
                stop=self.options.stop,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
                repetition_penalty=self.options.repetition_penalty,
                seed=self.seed + self.answers,
            ):
                written.append(piece)
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pass
        except (LimitError, ConfigError) as problem:  # too long, or the template refuses what was said
            self.undo()
            if isinstance(problem, ConfigError) and not self.worked:  # it may refuse whatever is said
                raise
            return warn(f"{problem}; the message is taken back, /clear begins anew")
        self.worked = True
        print()
        self.messages.append({"role": "assistant", "content": "".join(written)})


def warn(problem: str) -> None:
    print(f"cutaway: {problem}", file=sys.stderr)
