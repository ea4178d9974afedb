"""What kind of prompt a run was given, by rules: cheap, and good enough to choose how to go about it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from pagi_planner.domain.json_repair import value_in
from pagi_planner.domain.request import Mode


class IntentKind(StrEnum):
    """What somebody wants."""

    QUESTION = "question"
    TASK = "task"
    CHAT = "chat"
    MULTI_STEP = "multi_step"


@dataclass(frozen=True, slots=True)
class Intent:
    """What the prompt is taken for.

    Attributes:
        by: `rules` or `model`.
        is_sure: Whether the rules found what they look for, and did not only fall back.
    """

    kind: IntentKind
    by: str = "rules"
    is_sure: bool = True


SCHEMA_JSON = json.dumps(
    {
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": [kind.value for kind in IntentKind]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
)
INSTRUCTIONS = (
    "Say what kind of message this is: a question; a task, which is one thing to do; multi_step, several things to do "
    "one after the other; or chat, where nothing is asked. Do not answer it. Answer with a JSON object as its schema "
    "says."
)
_SMALL_TALK = re.compile(
    r"\W*(hi|hello|hey|good (morning|afternoon|evening|night|day)|thanks?( you)?( (so|very) much)?|thx|bye|goodbye|"
    r"see you|ok(ay)?|great|nice|cool|how are you( doing)?( today)?|what'?s up|hallo|danke|guten (tag|morgen|abend)|"
    r"hola|gracias|bonjour|salut|merci)( there| all| everyone| again| a lot)?\W*",
    re.IGNORECASE,
)
_QUESTION_WORD = re.compile(
    r"\W*(who|whom|whose|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|should|would|will|has|"
    r"have|am|may)\b",
    re.IGNORECASE,
)
# White space is bounded wherever a match may begin with it, so that reading stays linear.
_ITEM = re.compile(
    r"^[^\S\n]{0,40}(?:\d+[.)]|[-*\u2022]|step \d{1,9}\s{0,9}[:.)])\s{1,40}(.+)$", re.IGNORECASE | re.MULTILINE
)
# With a comma or an "and": a bare "then" may follow an "if".
_THEN = re.compile(
    r"(?:[,;.]\s{0,9}(?:and\s{1,9})?|\s{1,9}and\s{1,9})(?:then|after that|afterwards|next|finally|lastly)\b[,:]?\s+",
    re.IGNORECASE,
)
_FIRST = re.compile(r"^\W*first(ly)?\b[,:]?\s+", re.IGNORECASE)
# What a sentence begins with that wants something done.
_VERB = re.compile(
    r"\W*(?:please\s+|could you\s+|can you\s+)?(?:add|analy[sz]e|append|build|calculate|change|check|collect|combine|"
    r"compare|compute|convert|copy|count|create|delete|describe|download|draft|edit|explain|extract|fetch|find|fix|"
    r"generate|get|give|install|list|look up|make|merge|move|open|organi[sz]e|plan|plot|prepare|print|produce|put|"
    r"read|remove|rename|replace|report|run|save|search|send|show|sort|store|sum|summari[sz]e|tell|test|translate|"
    r"update|use|write)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+")
_MANY = 3


def intent_of(prompt: str) -> Intent:
    """What the rules take the prompt for."""
    if _SMALL_TALK.fullmatch(prompt):
        return Intent(IntentKind.CHAT)
    if len(parts_of(prompt)) >= 2:
        return Intent(IntentKind.MULTI_STEP)
    if prompt.rstrip().endswith("?") or _QUESTION_WORD.match(prompt):
        return Intent(IntentKind.QUESTION)
    if _VERB.match(prompt):
        return Intent(IntentKind.TASK)
    return Intent(IntentKind.TASK, is_sure=False)


def parts_of(prompt: str) -> list[str]:
    """The things to do in the prompt, where it names several one after the other; none where it does not."""
    items = [item.strip() for item in _ITEM.findall(prompt)]
    if len(items) >= 2:
        return items
    parts = [part.strip(" \t\n.,;") for part in _THEN.split(_FIRST.sub("", prompt))]
    if len(parts) >= 2 and all(parts):
        return parts
    wishes = [sentence.strip() for sentence in _SENTENCE.split(prompt) if _VERB.match(sentence)]
    return wishes if len(wishes) >= _MANY else []


def intent_in(text: str) -> Intent:
    """What a model takes the prompt for.

    Raises:
        ValueError: It does not say.
    """
    value = value_in(text)
    return Intent(IntentKind(str(value.get("kind")) if isinstance(value, dict) else ""), "model")


def mode_for(asked: Mode, intent: Intent) -> Mode:
    """How to go about it; the intent chooses only where it is left to it."""
    if asked is not Mode.AUTO:
        return asked
    return {IntentKind.CHAT: Mode.CHAT, IntentKind.MULTI_STEP: Mode.PLAN}.get(intent.kind, Mode.REACT)
