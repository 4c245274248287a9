"""A real server that answers as it should, not at all, or maliciously."""

import itertools
import math
import time

import numpy as np
import pytest
from chat_server import completion, question_of, serve

from earthgpt.endpoints import Endpoint, endpoint_of
from earthgpt.types import Conversation, EarthGPTError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
ASKED = Conversation.of((PIXELS,), "What is this?")


def endpoint(server, **options) -> Endpoint:
    return Endpoint(server.url, "some-model", **{"wait_s": 0.001, "timeout_s": 5, "attempts": 3, **options})


def test_a_question_and_its_image_arrive_as_they_are():
    with serve(lambda request, number: completion("a harbor")) as server:
        answer = endpoint(server, key="secret").ask(ASKED, 7)
    assert (answer.text, answer.finished, answer.probabilities) == ("a harbor", True, ())
    (request,) = server.requests
    question, pixels = question_of(request)
    assert question == "What is this?"
    assert np.array_equal(pixels, PIXELS)  # PNG loses nothing
    assert {key: request[key] for key in ("model", "temperature", "max_tokens")} == {
        "model": "some-model", "temperature": 0, "max_tokens": 7,
    }  # fmt: skip
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_without_a_key_and_an_image_neither_is_sent():
    with serve(lambda request, number: completion("no")) as server:
        endpoint(server).ask(Conversation.of((), "Is it?", "Yes.", "Sure?"))
    assert server.requests[0]["messages"] == [
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Sure?"},
    ]
    assert "Authorization" not in server.headers[0]


def test_fields_of_the_request_are_replaced_added_and_left_out():
    with serve(lambda request, number: completion("no")) as server:
        endpoint(server, fields={"max_tokens": None, "max_completion_tokens": 9, "temperature": 1}).ask(ASKED)
    request = server.requests[0]
    assert "max_tokens" not in request and "logprobs" not in request
    assert (request["max_completion_tokens"], request["temperature"]) == (9, 1)


def test_probabilities_of_tokens_are_those_of_the_text():
    tokens = [("a ", math.log(0.5)), ("harbor", math.log(0.25)), ("<|end|>", 0.0)]
    with serve(lambda request, number: completion("a harbor", tokens)) as server:
        answer = endpoint(server, probabilities=True).ask(ASKED)
        assert server.requests[0]["logprobs"] is True
    assert answer.spans == ((0, 2), (2, 8))
    assert answer.probabilities == pytest.approx((0.5, 0.25))
    assert answer.probability(2, 8) == pytest.approx(0.25)


@pytest.mark.parametrize("tokens", [[("b", -1.0)], [("a harbor", math.nan)]], ids=["of another text", "no number"])
def test_probabilities_that_are_none_are_not_taken(tokens):
    with serve(lambda request, number: completion("a harbor", tokens)) as server:
        if math.isnan(tokens[0][1]):
            with pytest.raises(EarthGPTError, match="no chat completion"):
                endpoint(server, probabilities=True).ask(ASKED)
        else:
            assert endpoint(server, probabilities=True).ask(ASKED).probabilities == ()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status, caplog):
    def answer(request, number):
        return completion("yes") if number == 2 else (status, {"Retry-After": "0"}, b'{"error": {"message": "busy"}}')

    with serve(answer) as server:
        assert endpoint(server).ask(ASKED).text == "yes"
        assert len(server.requests) == 3
        assert caplog.messages == [f"{server.url} gave no answer and is asked again: {status} busy"], "told once"


def test_waits_double_unless_the_server_says_how_long(monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    told = [{}, {"Retry-After": "7"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"Retry-After": "1e9"}]
    with (
        serve(lambda request, number: (429, told[number % 4], b"later")) as server,
        pytest.raises(EarthGPTError, match=r"was asked 5 times and gave no answer: 429 later"),
    ):
        endpoint(server, attempts=5, wait_s=1).ask(ASKED)
    assert waits == [1, 7, 4, 60]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b'{"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}', "401 Incorrect API key"),
        (404, b'{"detail": "no model of that name"}', "404 no model of that name"),
        (400, b'{"error": "images are not taken"}', "400 images are not taken"),
        (400, b'["what"]', r"""400 \["what"\]"""),
        (403, b"<html>\n\n\x1b[31mForbidden</html>", r"403 <html> \?\[31mForbidden</html>"),
        (302, b"", "302"),
        (413, b"[" * 100_000, r"413 \["),
    ],
)
def test_what_the_server_refuses_is_told_in_one_line_at_once(status, body, says):
    with serve(lambda request, number: (status, {"Location": "http://127.0.0.1:1/"}, body)) as server:
        with pytest.raises(EarthGPTError, match=f"refuses the request for 'some-model': {says}") as told:
            endpoint(server, key="secret").ask(ASKED)
        assert len(server.requests) == 1
    assert "\n" not in str(told.value) and "secret" not in str(told.value) and len(str(told.value)) < 400


@pytest.mark.parametrize(
    "reply",
    [
        (400, {}, b'{"error": {"message": "filtered", "code": "content_filter"}}'),
        completion(None, finish="content_filter"),
    ],
)
def test_an_answer_that_a_filter_withholds_is_empty(reply):
    with serve(lambda request, number: reply) as server:
        answer = endpoint(server).ask(ASKED)
    assert (answer.text, answer.finished) == ("", False)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}',
        b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"token": 1}]}}]}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"1" * 10_000,
    ],
)
def test_a_reply_that_is_no_chat_completion_is_told(reply):
    with serve(lambda request, number: reply) as server, pytest.raises(EarthGPTError, match="no chat completion"):
        endpoint(server).ask(ASKED)


def test_odd_replies_that_can_be_read_are_read():
    replies = [
        b'{"choices": [{"message": {"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}}]}',
        b'{"choices": [{"message": {"content": "a\\ud800b"}}]}',
    ]
    with serve(lambda request, number: replies[number]) as server:
        asked = endpoint(server)
        assert [asked.ask(ASKED).text for _ in replies] == ["a b", "a?b"]


def test_a_reply_without_end_is_left():
    with (
        serve(lambda request, number: itertools.repeat(b"x" * 2**20)) as server,
        pytest.raises(EarthGPTError, match="longer than 16,777,216 bytes"),
    ):
        endpoint(server, attempts=1).ask(ASKED)


@pytest.mark.parametrize("silent", [True, False], ids=["nothing", "a byte now and then"])
def test_a_slow_reply_is_waited_for_no_longer_than_the_timeout(silent):
    def drip():
        for _ in range(40):
            time.sleep(2 if silent else 0.05)
            yield b" "

    with serve(lambda request, number: drip()) as server:
        began = time.monotonic()
        with pytest.raises(EarthGPTError, match=r"asked once and gave no answer: no reply in 0\.3 s"):
            endpoint(server, attempts=1, timeout_s=0.3).ask(ASKED)
        assert time.monotonic() - began < 1.5


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(EarthGPTError, match="was asked 2 times and gave no answer: ConnectionRefusedError"):
        Endpoint("http://127.0.0.1:9/v1", "x", attempts=2, wait_s=0).ask(ASKED)


def test_several_requests_are_in_flight_and_no_more():
    def answer(request, number):
        time.sleep(0.03 if number % 4 else 0.1)
        return completion(question_of(request)[0].removeprefix("say "))

    with serve(answer) as server:
        asked = ((i, Conversation.of((), f"say {i}")) for i in range(24))
        found = list(endpoint(server, concurrency=4).ask_all(asked))
        assert server.most == 4
    assert sorted(key for key, _ in found) == list(range(24))
    assert all(answer.text == str(key) for key, answer in found)
    assert [key for key, _ in found] != list(range(24))  # as they come


@pytest.mark.parametrize("given", [{"concurrency": 0}, {"attempts": 0}, {"timeout_s": 0}, {"wait_s": -1}])
def test_numbers_of_a_server_that_cannot_be_are_told(given):
    ((name, value),) = given.items()
    with pytest.raises(EarthGPTError, match=f"{name} of a server is a number of at least .*, not {value}"):
        Endpoint("http://localhost:8000/v1", "mine", **given)


def test_what_goes_wrong_in_flight_is_raised_where_answers_are_awaited():
    with (
        serve(lambda request, number: completion("yes") if number < 3 else (401, {}, b"no")) as server,
        pytest.raises(EarthGPTError, match="401 no"),
    ):
        list(endpoint(server, concurrency=2).ask_all((i, ASKED) for i in range(9)))


def test_a_model_in_words():
    assert endpoint_of("earthgpt-tiny") is None
    assert endpoint_of("http://host:8000/v1#a/b", timeout_s=3) == Endpoint("http://host:8000/v1", "a/b", timeout_s=3.0)
    with pytest.raises(EarthGPTError, match="Say which model of http://host:8000/v1 is asked"):
        endpoint_of("http://host:8000/v1")
    for url in ("http://", "http://a:b/v1", "ftp://a/v1", "http://a b/v1"):
        with pytest.raises(EarthGPTError, match="no address"):
            Endpoint(url, "x")
    with pytest.raises(EarthGPTError, match="key") as told:
        Endpoint("http://a/v1", "x", "sec\nret")
    assert "sec" not in str(told.value).replace("server", "")
    assert "secret" not in repr(Endpoint("http://a/v1", "x", "secret"))
