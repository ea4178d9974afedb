"""Where a provider's server is, and how it likes to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server.

    Attributes:
        provider: Its name, as `LLM_PROVIDER` spells it.
        base_url: Up to and without `/chat/completions` or `/messages`.
        default_model: Asked where a request names none.
        api_key: Empty where the server needs none. Never shown.
        key_variable: Named where the server does not accept the key.
        url_variable: Named where nobody speaks the API at the address.
        key_header: The header that carries the key; in `Authorization` it follows the word Bearer.
        headers: What the server wants besides, in each request.
        output_limit_name: `max_completion_tokens` at OpenAI, whose newer models refuse the older
            `max_tokens`, which is what every other server knows.
        default_output_tokens: Asked where a request sets no limit and the API needs one (Anthropic); else 0.
        reports_cost: Whether `usage.cost` is US dollars (OpenRouter).
        compatible: Whether it is another server that speaks OpenAI's API; what its models can do is not known.
        takes_cache_key: Whether the server knows `prompt_cache_key` (OpenAI).
    """

    provider: str
    base_url: str
    default_model: str
    api_key: str = field(default="", repr=False)
    key_variable: str = "OPENAI_API_KEY"
    url_variable: str = "OPENAI_BASE_URL"
    key_header: str = "Authorization"
    headers: tuple[tuple[str, str], ...] = ()
    output_limit_name: str = "max_tokens"
    default_output_tokens: int = 0
    reports_cost: bool = False
    compatible: bool = False
    takes_cache_key: bool = False

    @property
    def place(self) -> str:
        """The server in a message: `openai (api.openai.com)`; never with what a URL may hold of a password."""
        return f"{self.provider} ({self.base_url.partition('://')[2].rpartition('@')[2].partition('/')[0]})"

    def origin(self, model: str) -> str:
        """Where a model's reasoning is made, and may be sent back to.

        Accounts do not read each other's, and models often not; the name of the key's variable stands for the account.
        """
        return f"{self.place} {model} {self.key_variable}"

    @property
    def key_headers(self) -> dict[str, str]:
        """The headers of every request; they hold the key."""
        held = dict(self.headers)
        if self.api_key:
            held[self.key_header] = f"Bearer {self.api_key}" if self.key_header == "Authorization" else self.api_key
        return held
