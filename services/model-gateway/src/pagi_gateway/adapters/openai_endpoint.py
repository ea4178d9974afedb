"""Where a server that speaks OpenAI's chat completions API is, and how it likes to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server.

    Attributes:
        provider: Its name, as `LLM_PROVIDER` spells it.
        base_url: Up to and without `/chat/completions`.
        default_model: Asked where a request names none.
        api_key: Empty where the server needs none. Never shown.
        key_variable: Named where the server does not accept the key.
        url_variable: Named where nobody speaks the API at the address.
        output_limit_name: `max_completion_tokens` at OpenAI, whose newer models refuse the older
            `max_tokens`, which is what every other server knows.
        reports_cost: Whether `usage.cost` is US dollars (OpenRouter).
    """

    provider: str
    base_url: str
    default_model: str
    api_key: str = field(default="", repr=False)
    key_variable: str = "OPENAI_API_KEY"
    url_variable: str = "OPENAI_BASE_URL"
    output_limit_name: str = "max_tokens"
    reports_cost: bool = False

    @property
    def place(self) -> str:
        """The server in a message: `openai (api.openai.com)`; never with what a URL may hold of a password."""
        return f"{self.provider} ({self.base_url.partition('://')[2].rpartition('@')[2].partition('/')[0]})"
