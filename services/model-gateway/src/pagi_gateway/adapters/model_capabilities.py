"""What the models of each provider can do, by their names; from the providers' API references.

Only what a reference states stands here. What is unknown is asked of the provider, which may refuse: a new model
works before this table knows it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from pagi_gateway.domain.capabilities import Capabilities, Support

YES, NO, EMULATED = Support.YES, Support.NO, Support.EMULATED

_CHAT = Capabilities(tools=YES, temperature=YES, top_p=YES, stop=YES, streaming=YES)
_OPENAI = replace(
    _CHAT, parallel_tools=YES, images=YES, image_urls=YES, files=YES, file_urls=NO, response_format=YES, seed=YES
)
_OPENAI_REASONING = replace(_OPENAI, reasoning=YES, temperature=NO, top_p=NO, stop=NO)
_CLAUDE = Capabilities(
    tools=YES,
    parallel_tools=YES,
    images=YES,
    image_urls=YES,
    files=YES,
    file_urls=YES,
    response_format=EMULATED,
    reasoning=YES,
    temperature=YES,
    top_p=YES,
    stop=YES,
    seed=NO,
    cache_hints=YES,
    streaming=YES,
    context_tokens=200_000,
)
# From Opus 4.7 on there are no sampling parameters.
_CLAUDE_ADAPTIVE = replace(_CLAUDE, temperature=NO, top_p=NO)
_TEXT_ONLY = replace(_CHAT, images=NO, image_urls=NO, files=NO, file_urls=NO, response_format=EMULATED)
_BEDROCK = replace(
    _CHAT, parallel_tools=YES, response_format=EMULATED, seed=NO, image_urls=NO, file_urls=NO, cache_hints=NO
)
_OLLAMA = replace(_CHAT, tools=Support.UNKNOWN, response_format=YES, seed=YES, image_urls=NO, files=NO, file_urls=NO)
_GOOGLE = replace(
    _CHAT, parallel_tools=YES, images=YES, image_urls=NO, file_urls=NO, response_format=YES, reasoning=YES
)
_MOCK = Capabilities(
    tools=YES,
    parallel_tools=YES,
    images=NO,
    image_urls=NO,
    files=NO,
    file_urls=NO,
    response_format=NO,
    reasoning=NO,
    # It has no chance in it: any temperature and any seed are kept to.
    temperature=YES,
    top_p=YES,
    seed=YES,
    stop=NO,
    cache_hints=NO,
    streaming=YES,
    any_tool_name=YES,
)

# The first that matches the beginning of a model's name holds.
_TABLE: dict[str, tuple[tuple[str, Capabilities], ...]] = {
    "openai": (
        (r"o\d|gpt-5(?!.*chat)|gpt-[6-9]", _OPENAI_REASONING),
        (
            r"gpt-3\.5|gpt-4(?!o|\.|-turbo)",
            replace(_OPENAI, images=NO, image_urls=NO, files=NO, response_format=EMULATED),
        ),
        (r"gpt-4-turbo", replace(_OPENAI, files=NO, response_format=EMULATED)),
        (r"gpt-4o|gpt-4\.1", _OPENAI),
        ("", _CHAT),
    ),
    "anthropic": (
        (r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[0156])?(?:-\d{8})?$)", _CLAUDE),
        ("claude-", _CLAUDE_ADAPTIVE),
        ("", Capabilities(tools=YES, response_format=EMULATED, seed=NO, streaming=YES)),
    ),
    "deepseek": (
        (r"deepseek-reasoner", replace(_TEXT_ONLY, reasoning=YES, temperature=NO, top_p=NO, seed=NO)),
        ("", replace(_TEXT_ONLY, seed=NO)),
    ),
    "qwen": (
        (
            r"qwen\S*-vl|qvq|qwen\S*-omni",
            replace(_CHAT, images=YES, image_urls=YES, files=NO, file_urls=NO, response_format=EMULATED, seed=YES),
        ),
        ("", replace(_CHAT, files=NO, file_urls=NO, response_format=EMULATED, seed=YES)),
    ),
    "google": (("", _GOOGLE),),
    "openrouter": (("", replace(Capabilities(), file_urls=YES, streaming=YES)),),
    "ollama": (("", _OLLAMA),),
    "bedrock": (("", _BEDROCK),),
    "mock": (("", _MOCK),),
}


@lru_cache(maxsize=1024)
def capabilities_of(provider: str, model: str) -> Capabilities:
    """What a model can do, as far as its provider and its name tell."""
    for pattern, capabilities in _TABLE.get(provider, ()):
        if re.match(pattern, model):
            return capabilities
    return Capabilities()
