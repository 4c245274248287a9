"""The dialogue of ``EarthGPTProcessor.render`` as a Jinja template, for programs that know only templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers.image_utils import load_image

from earthgpt.types import Conversation, EarthGPTError, Message

# Images of all messages first, then what was said. A user's words always bring the assistant's prefix after them.
_TEMPLATE = """\
{{- BOS -}}
{%- for message in messages -%}
  {%- if message.content is not string -%}
    {%- for part in message.content -%}
      {%- if part.type != 'text' -%}{{- IMAGE -}}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
  {%- if message.content is string -%}
    {%- set text = message.content -%}
  {%- else -%}
    {%- set text = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') -%}
  {%- endif -%}
  {%- if IMAGE in text -%}
    {{- raise_exception(IMAGE + ' stands for an image and cannot be part of a text.') -}}
  {%- elif message.role == 'user' -%}
    {{- USER + text + ASSISTANT -}}
  {%- elif message.role == 'assistant' -%}
    {{- ('' if text.startswith(' ') else ANSWER) + text + EOS -}}
  {%- else -%}
    {{- raise_exception('A message is of the user or the assistant, not of the ' + message.role + '.') -}}
  {%- endif -%}
{%- endfor -%}
"""


def chat_template(tokenizer, image: str, user: str, assistant: str) -> str:
    """A template with a token for each image, which makes one text of a dialogue, for ``add_special_tokens=False``.

    ``render`` gives every message to the tokenizer on its own, and some, as that of LLaMA, then put a space before it,
    but not inside a longer text: there the template has it. An answer that has an answer after it may still differ
    where ``assistant`` ends in a part of a word.
    """
    asked = f"{user}a{assistant}"
    words = {
        "IMAGE": image,
        "USER": _gap(tokenizer, image, user) + user,
        "ASSISTANT": assistant,
        "ANSWER": _gap(tokenizer, asked, "a"),
        "BOS": tokenizer.bos_token or "",
        "EOS": tokenizer.eos_token or "",
    }
    return "".join(f"{{%- set {name} = {_quoted(text)} -%}}\n" for name, text in words.items()) + _TEMPLATE


def conversation_of(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Messages in the form of transformers' chats, with their images.

    A content is a text or a list of parts: ``{"type": "text", "text": ...}``, and ``{"type": "image", "image": ...}``
    with a PIL image, an array, a file or an address; "url", "path" and "base64" stand for "image" too.
    Raises EarthGPTError for parts and roles that the model does not know.
    """
    images, found = [], []
    for message in messages:
        content, role = message["content"], message["role"]
        if role not in ("user", "assistant"):
            raise EarthGPTError(f"A message is of the user or the assistant, not of the {role}.")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if unknown := sorted({part["type"] for part in parts} - {"text", "image"}):
            raise EarthGPTError(f"A message is of texts and images; {', '.join(unknown)} cannot be read.")
        for part in parts:
            if part["type"] == "image":
                given = next((part[name] for name in ("image", "url", "path", "base64") if name in part), None)
                if given is None:
                    raise EarthGPTError("An image of a message has no image, url, path or base64.")
                images.append(load_image(given) if isinstance(given, str) else given)
        found.append(Message(role, "\n".join(part["text"] for part in parts if part["type"] == "text")))
    return Conversation(tuple(images), tuple(found))


def _gap(tokenizer, before: str, after: str) -> str:
    """What must stand between two texts so that both have the tokens together that each has on its own."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    return " " if ids(f"{before} {after}") == ids(before) + ids(after) else ""


def _quoted(text: str) -> str:
    """A Jinja string."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
