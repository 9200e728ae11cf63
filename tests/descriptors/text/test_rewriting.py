"""A rewording is used only when every fact survives."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fmrilm.descriptors.text.rewrite import (
    EndpointRewriter,
    LocalRewriter,
    acceptance,
    find_change,
    rewrite,
)
from fmrilm.errors import InputError

ROW = {
    "fc__Vis__Default": 0.1,
    "fc__Vis__Default_z": 2.5,
    "fc__Vis__Limbic": 0.1,
    "fc__Vis__Limbic_z": 2.5,
    "modularity": 0.41,
    "modularity_z": -1.25,
}
TEXT = (
    "Connectivity is markedly higher between the visual and default mode networks (z = 2.50). "
    "Modularity is somewhat lower (0.41, z = -1.25)."
)


@pytest.mark.parametrize(
    "candidate",
    [
        TEXT,
        "Between the default mode and visual networks (z = 2.50), coupling is markedly elevated, "
        "while modularity is somewhat reduced (0.41, z = -1.25).",
        "Modularity is somewhat lower (0.41, z = \u22121.25). Functional connectivity between the "
        "visual and default mode networks is markedly increased (z = 2.50).",
    ],
)
def test_faithful_rewordings_pass(candidate):
    assert find_change(TEXT, candidate, ROW) == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("2.50", "2.60"), "numbers changed"),
        (("-1.25", "1.25"), "numbers changed"),
        (("default mode", "limbic"), "no longer said"),
        (("markedly higher", "markedly lower"), "contradicted"),
        (("somewhat lower", "markedly lower"), "contradicted"),
        ((" Modularity is somewhat lower (0.41, z = -1.25).", ""), "numbers changed"),
        (("(z = 2.50).", "(z = 2.50). Modularity is typical."), "contradicted"),
        (("is somewhat lower (0.41", "was measured (0.41"), "no longer said"),
        (("z = -1.25).", "z = -1.25). Age is 54."), "numbers changed"),
    ],
)
def test_any_changed_fact_is_rejected(change, problem):
    candidate = TEXT.replace(*change)
    assert candidate != TEXT
    assert problem in find_change(TEXT, candidate, ROW)


def test_a_bad_rewriter_leaves_the_grammar_text_and_says_why():
    result = rewrite(TEXT, ROW, lambda text: text.replace("higher", "lower"), attempts=3)
    assert result.text == TEXT
    assert not result.accepted
    assert len(result.rejections) == 3
    good = rewrite(TEXT, ROW, lambda text: f"  {text}\n")
    assert good.accepted
    assert acceptance([result, good]) == 0.5


def test_empty_answers_are_rejected():
    assert rewrite(TEXT, ROW, lambda text: "").rejections == ("the answer is empty",) * 2


@pytest.fixture
def endpoint():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = asked["messages"][-1]["content"].replace("higher", "elevated")
            answer = {"choices": [{"message": {"content": content}}]}
            if asked["model"] == "broken":
                answer = {"error": "no"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_endpoint_is_asked_as_openai_does(endpoint):
    result = rewrite(TEXT, ROW, EndpointRewriter(endpoint, "any", key="secret"))
    assert result.accepted
    assert "markedly elevated" in result.text


def test_endpoint_errors_are_one_sentence(endpoint):
    with pytest.raises(InputError, match="did not answer as a chat endpoint"):
        EndpointRewriter(endpoint, "broken")(TEXT)
    with pytest.raises(InputError, match="does not answer"):
        EndpointRewriter("http://127.0.0.1:9/v1", "any", timeout=1)(TEXT)
    with pytest.raises(InputError, match="must begin with http"):
        EndpointRewriter("localhost", "any")


def test_a_local_model_is_loaded_asked_and_checked(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = {word: i for i, word in enumerate(["<unk>", "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    fast.save_pretrained(tmp_path)
    config = Qwen3Config(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    rewriter = LocalRewriter(str(tmp_path), max_new_tokens=5)
    assert rewriter(TEXT) == rewriter(TEXT)
    assert not rewrite(TEXT, ROW, rewriter, attempts=1).accepted
