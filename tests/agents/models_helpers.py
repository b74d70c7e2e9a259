"""Fakes of the models of coding agents, on loopback: they offer one sub-agent and answer."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The fakes know a turn by these words in its last message.
FOR_THE_AGENT = "TASK-FOR-THE-AGENT"
LATER = "AND-ANOTHER"
FAIL = "LET-IT-FAIL"
ANSWER = "the answer of the model"


class _Handler(BaseHTTPRequestHandler):
    """One request to a model; `turn` of the server makes the answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *given: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._send(200, b"", "application/json")

    def do_GET(self) -> None:
        self._send(200, b'{"data": []}', "application/json")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = json.loads(self.rfile.read(length) or b"{}")
        code, kind, data = self.server.turn(self.path, asked)  # type: ignore[attr-defined]
        self._send(code, data, kind)

    def _send(self, code: int, data: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *given: Any) -> None:
        """Ignore that an agent has closed a connection."""


@contextmanager
def serve(turn: Any) -> Iterator[str]:
    """Serve a model, and yield its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.turn = turn  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def streamed(events: list[dict[str, Any]]) -> bytes:
    """Return server-sent events."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


JSON, STREAM = "application/json", "text/event-stream"


# -- the Messages API ------------------------------------------------------------------------------


def messages(path: str, asked: dict[str, Any]) -> tuple[int, str, bytes]:
    """Answer a request of the Messages API: first a sub-agent, then a text."""
    if path.endswith("/count_tokens") or "count_tokens" in path:
        return 200, JSON, b'{"input_tokens": 10}'
    if not path.partition("?")[0].endswith("/messages"):
        return 200, JSON, b"{}"
    last = json.dumps(asked.get("messages", ""))
    if FAIL in last and '"tool_result"' not in last:
        error = {"type": "invalid_request_error", "message": "it fails"}
        return 400, JSON, json.dumps({"type": "error", "error": error}).encode()
    tool = next(
        (t for t in asked.get("tools", ()) if t.get("name") in ("Agent", "Task", "task")), None
    )
    is_first = '"tool_result"' not in last
    is_inner = FOR_THE_AGENT in last
    block = None
    if tool is not None and is_first and (LATER in last if is_inner else "START-AGENT" in last):
        block = agent_call(tool, last, is_inner)
    content = block or {"type": "text", "text": ANSWER}
    reason = "tool_use" if block else "end_turn"
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked.get("model", "m"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
    if not asked.get("stream"):
        whole = {**message, "content": [content], "stop_reason": reason}
        return 200, JSON, json.dumps(whole).encode()
    if block:
        begun = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        begun = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": ANSWER}
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return 200, STREAM, streamed(events)


def agent_call(tool: dict[str, Any], last: str, is_inner: bool) -> dict[str, Any]:
    """Return the call of a sub-agent, with the arguments that the tool takes."""
    known = tool.get("input_schema", {}).get("properties", {})
    words = [FAIL] * ("FAIL-INSIDE" in last) + [LATER] * ("HAND-OFF" in last)
    prompt = " ".join([FOR_THE_AGENT, *([] if is_inner else words)])
    agent = "helper" if is_inner else "reviewer"
    given = {
        "subagent_type": agent,
        "agent_type": agent,
        "name": "review",
        "description": "a review",
        "prompt": prompt,
        "mode": "sync",
        "run_in_background": False,
    }
    return {
        "type": "tool_use",
        "id": "toolu_1",
        "name": tool["name"],
        "input": {key: value for key, value in given.items() if key in known},
    }


# -- the Responses API -----------------------------------------------------------------------------


def responses(path: str, asked: dict[str, Any]) -> tuple[int, str, bytes]:
    """Answer a request of the Responses API: first a sub-agent, then a text."""
    text = json.dumps(asked.get("input", ""))
    tools = json.dumps(asked.get("tools", ""))
    is_first = "function_call" not in text and FOR_THE_AGENT not in text
    item: dict[str, Any]
    if "START-AGENT" in text and is_first and "spawn_agent" in tools:
        item = {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "spawn_agent",
            "namespace": "multi_agent_v1",
            "arguments": json.dumps({"agent_type": "reviewer", "message": FOR_THE_AGENT}),
        }
    elif (
        "START-AGENT" in text and text.count("call_1") and "call_2" not in text and "wait" in tools
    ):
        found = text.partition("agent_id")[2]
        item = {
            "type": "function_call",
            "id": "fc_2",
            "call_id": "call_2",
            "name": "wait_agent",
            "namespace": "multi_agent_v1",
            "arguments": json.dumps({"targets": [agent_id(found)], "timeout_ms": 20_000}),
        }
    else:
        item = {
            "type": "message",
            "id": "m_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": ANSWER}],
        }
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    events = [
        {"type": "response.created", "response": {"id": "r_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r_1", "usage": usage}},
    ]
    return 200, STREAM, streamed(events)


def agent_id(text: str) -> str:
    """Return the first id in an output of Codex."""
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", text)
    return found[0] if found else "none"


# -- the recorded answers of Gemini ----------------------------------------------------------------


def gemini_answers(path: Path) -> None:
    """Write the answers that Gemini CLI reads instead of a model's, one a line."""
    start = call("invoke_agent", {"agent_name": "reviewer", "prompt": FOR_THE_AGENT})
    end = call("complete_task", {"result": "done", "response": "done"})
    lines = []
    for part in (start, end, {"text": ANSWER}):
        found = {
            "candidates": [
                {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 5,
                "totalTokenCount": 15,
            },
        }
        lines.append(json.dumps({"method": "generateContentStream", "response": [found]}))
    path.write_text("\n".join(lines) + "\n")


def call(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return the call of a tool."""
    return {"functionCall": {"name": name, "args": args}}
