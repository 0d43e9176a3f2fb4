"""The demo's server: what it answers, and whom it refuses."""

import http.client
import json
import socket
import threading

import pytest
import torch

from config import GPT2Config
from extensions.demo import inspection, server
from extensions.demo.server import DemoServer
from gpt2.model import GPT2Model
from gpt2.tokenizer import encode_texts
from gpt2.xnli import XNLI

PAIR = {"premise": "Anna is in the kitchen.", "hypothesis": "Anna is indoors.", "ablated": []}


@pytest.fixture(scope="module")
def running(tokenizer):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPT2Config(**shape, max_position_embeddings=64, initializer_range=0.2)
    with DemoServer(GPT2Model(config).eval(), tokenizer, "test", port=0) as demo:
        demo.model = demo.replies["/analyze"].__self__.model
        thread = threading.Thread(target=demo.serve_forever)
        thread.start()
        yield demo
        demo.shutdown()
        thread.join()


@pytest.fixture
def send(running):
    """Send a request; get the status and the text."""
    running.allowed = float(server.BURST)

    def call(path, body=None, method="POST", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port, timeout=20)
        if isinstance(body, dict):
            body = json.dumps(body)
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    return call


def test_the_page_is_served_with_its_policy(running, send):
    status, page = send("/", method="GET")
    assert status == 200 and page.startswith("<!doctype html>") and "connect-src 'self'" in page
    assert "frame-ancestors 'none'" in server.HEADERS["Content-Security-Policy"]
    assert send("/other", method="GET")[0] == 404


def test_it_listens_on_this_computer_alone(running):
    assert running.server_address[0] == "127.0.0.1"


def test_a_pair_gets_what_the_model_computes(running, send, tokenizer):
    status, text = send("/analyze", PAIR)
    found = json.loads(text)
    prompt = XNLI.prompt.format(premise=PAIR["premise"], hypo=PAIR["hypothesis"])
    ids = encode_texts(tokenizer, [prompt])[0]
    labels = encode_texts(tokenizer, ["0", "1", "2"])
    expected = inspection.analyze(running.model, ids, [id for (id,) in labels])
    assert status == 200 and found["probabilities"] == expected["probabilities"]
    assert found["lens"] == expected["lens"]
    assert b"".join(map(bytes, found["pieces"])) == prompt.encode()
    assert found["fertility"] == 10 / 8
    brief = json.loads(send("/brief", PAIR | {"ablated": ["0.1"]})[1])
    assert "attention" not in brief and brief["probabilities"] != found["probabilities"]


def test_the_next_token_follows_text_and_ids(send):
    request = {"text": "Anna", "ids": [], "ablated": []}
    found = json.loads(send("/next", request)[1])
    assert len(found["candidates"]) == 8 and len(found["pieces"]) == 1
    best = found["candidates"][0]
    longer = json.loads(send("/next", request | {"ids": [best["id"]]})[1])
    assert longer["pieces"] == [*found["pieces"], best["piece"]]


def test_half_a_surrogate_pair_is_replaced(send):
    status, text = send("/brief", PAIR | {"premise": "a\ud800b"})
    assert status == 200
    assert "a\ufffdb" in b"".join(map(bytes, json.loads(text)["pieces"])).decode()


@pytest.mark.parametrize("host", ["evil.example", "localhost", "localhost:1", "127.0.0.1.evil:80"])
def test_other_hosts_are_refused(send, host):
    for method, path in (("GET", "/"), ("POST", "/brief")):
        status, text = send(path, PAIR, method, Host=host)
        assert status == 403 and text.startswith("Only localhost:")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:{port}"])
def test_other_origins_are_refused(running, send, origin):
    status, text = send("/brief", PAIR, Origin=origin.format(port=running.server_port))
    assert status == 403 and text == "Only this server's own page may send requests."


def test_its_own_page_is_served_under_both_names(running, send):
    for name in ("localhost", "127.0.0.1"):
        host = f"{name}:{running.server_port}"
        assert send("/brief", PAIR, Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"premise": ""}, "The premise is empty"),
        ({"hypothesis": " \n"}, "The hypothesis is empty"),
        ({"premise": "a" * 2001}, "The premise has 2,001 characters, but at most 2,000 are read"),
        ({"premise": "x y " * 99}, "The text has 214 tokens, but at most 63 are read here"),
        ({"premise": 5}, "premise must be a JSON string"),
        ({"ablated": None}, "ablated must be a JSON array"),
        ({"ablated": ["0.7"]}, "there is no head 7 in layer 0"),
        ({"ablated": ["-1.0"]}, "a head is layer.head"),
        ({"ablated": [{}]}, "a head is layer.head"),
    ],
)
def test_a_bad_pair_is_one_sentence(send, change, sentence):
    for path in ("/analyze", "/brief"):
        status, text = send(path, PAIR | change)
        assert status == 400 and text.startswith(sentence) and "\n" not in text


@pytest.mark.parametrize("ids", [[50257], [-1], [1.5], [True], ["1"], None, [1] * 100])
def test_bad_ids_are_one_sentence(send, ids):
    status, text = send("/next", {"text": "Anna", "ids": ids, "ablated": []})
    assert status == 400 and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "The request is not JSON."),
        ("[1]", "The request must be a JSON object."),
        ("[" * 60_000, "The request is not JSON."),
        (b"\xff\xfe\x00", "The request is not JSON."),
    ],
)
def test_bad_json_is_one_sentence(send, body, sentence):
    assert send("/brief", body) == (400, sentence)


def test_a_long_request_is_refused(send):
    status, text = send("/brief", PAIR | {"premise": "a" * 100_000})
    assert status == 413 and text.endswith("but at most 65536 are read.")


def test_other_kinds_of_requests_are_refused(send):
    assert send("/brief", PAIR, Content_Type="text/plain")[0] == 415
    assert send("/none", PAIR)[0] == 404
    assert send("/brief", PAIR, "PUT")[0] == 501
    # To be sent in chunks, without a length; the chunks would meet a closed connection.
    assert send("/brief", Transfer_Encoding="chunked")[0] == 411


def test_too_many_requests_are_refused(running, send):
    running.allowed = 3.0
    codes = [send("/none", {})[0] for _ in range(6)]
    assert codes[:3] == [404] * 3 and 429 in codes
    running.allowed = 1.0
    assert send("/brief", PAIR)[0] == 200


def test_a_port_in_use_is_one_sentence(running, tokenizer):
    model = running.model
    with pytest.raises(OSError, match=r"port \d+: .*choose another with --port"):
        DemoServer(model, tokenizer, "test", running.server_port)
    with pytest.raises(OSError, match=r"port 70000: .*choose another with --port"):
        DemoServer(model, tokenizer, "test", 70_000)


def test_a_silent_client_holds_up_no_other(running, send):
    with socket.create_connection(("127.0.0.1", running.server_port)):
        assert send("/brief", PAIR)[0] == 200
